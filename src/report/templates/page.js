"use strict";
// Fills the sections of the evaluations. All text comes from the data and is set as text only.

const STEP = 50; // utterances shown at a time

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// JSON has no infinite numbers, which are text here.
function asNumber(value) {
  return value === null || value === "" ? NaN : Number(value);
}

function shown(value) {
  if (value === null) return "";
  return typeof value === "number" ? String(Number(value.toPrecision(5))) : String(value);
}

// Numbers by value, other text by letters; what is missing comes last in both directions.
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  const [x, y] = [asNumber(a), asNumber(b)];
  if (!isNaN(x) && !isNaN(y)) return direction * (x - y || 0);
  return direction * String(a).localeCompare(String(b));
}

function csv(columns, rows) {
  const cell = (value) => {
    const text = value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",") + "\r\n").join("");
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Each word of the hypothesis below that of the reference, with the errors in colour.
function alignment(name, chunks) {
  const line = element("p", { className: "text aligned" });
  line.append(pair("name", "reference", name));
  for (const [kind, reference, hypothesis] of chunks) {
    const [above, below] = [reference, hypothesis].map((text) => text.split(" "));
    const count = Math.max(above.length, below.length);
    for (let i = 0; i < count; i++) line.append(pair(kind, above[i] ?? "", below[i] ?? ""), " ");
  }
  return line;
}

function pair(kind, above, below) {
  const word = (text) => element("span", { textContent: text || "\u00a0" });
  const made = element("span", { className: `pair ${kind}` }, word(above), word(below));
  if (kind !== "equal" && kind !== "name") made.title = kind;
  return made;
}

function picture(folder, name, extra, seconds) {
  const image = element("img", { src: folder + name, alt: "spectrogram", loading: "lazy" });
  const frame = element("div", { className: "picture" }, image);
  for (const [text, start, end] of seconds ? extra.words ?? [] : []) {
    const word = element("span", { className: "word", textContent: text });
    word.style.left = `${(100 * start) / seconds}%`;
    word.style.width = `${(100 * (end - start)) / seconds}%`;
    frame.append(word);
  }
  return frame;
}

function players(folder, extra, seconds) {
  const list = (extra.audio ?? []).map(({ title, file, spectrogram }) => {
    const player = element("audio", { src: folder + file, controls: true, preload: "none" });
    player.setAttribute("aria-label", title);
    const label = element("span", { className: "note", textContent: title.replaceAll("_", " ") });
    const above = spectrogram ? [picture(folder, spectrogram, extra, seconds)] : [];
    return element("div", { className: "player" }, label, ...above, player);
  });
  if (extra.picture) {
    const frame = picture(folder, extra.picture, extra, 0);
    frame.classList.add("whole");
    list.push(frame);
  }
  return element("div", { className: "players" }, ...list);
}

class Utterances {
  constructor(section, data) {
    this.data = data;
    this.find = (name) => section.querySelector(`.${name}`);
    this.list = this.find("utterances");
    this.aligned = new Set(data.extras.flatMap((extra) => Object.keys(extra.alignments ?? {})));
    this.texts = data.rows.map((row) => row.filter((v) => v !== null).join("\n").toLowerCase());
    this.numeric = data.columns.filter((_, i) =>
      data.rows.some((row) => row[i] !== null && !isNaN(asNumber(row[i])))
    );
    this.fill("sort", ["default", ...data.columns]);
    this.fill("filter", ["", ...this.numeric]);
    for (const name of ["search", "sort", "direction", "filter", "low", "high", "with-audio"]) {
      this.find(name).addEventListener("input", () => this.select());
    }
    section.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
    this.find("csv").addEventListener("click", () =>
      download(`${data.name}.csv`, csv(data.columns, this.chosen.map((i) => data.rows[i])))
    );
    this.find("more").addEventListener("click", () => this.show());
    new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && this.show(), {
      rootMargin: "600px",
    }).observe(this.find("more"));
    this.select();
  }

  fill(name, options) {
    const make = (text) => element("option", { value: text, textContent: text });
    this.find(name).append(...options.map(make));
  }

  // Choose and sort by the controls; show the first of them.
  select() {
    const { rows, columns, extras } = this.data;
    const words = this.find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const column = columns.indexOf(this.find("filter").value);
    const [low, high] = ["low", "high"].map((name) => this.find(name).value);
    const inside = (value) =>
      value !== null && (low === "" || asNumber(value) >= Number(low)) &&
      (high === "" || asNumber(value) <= Number(high));
    const audible = this.find("with-audio").checked;
    this.chosen = rows.map((_, i) => i).filter((i) =>
      words.every((word) => this.texts[i].includes(word)) &&
      (column < 0 || inside(rows[i][column])) && (!audible || extras[i].audio)
    );
    const by = columns.indexOf(this.find("sort").value);
    const direction = Number(this.find("direction").value);
    if (by >= 0) this.chosen.sort((a, b) => compare(rows[a][by], rows[b][by], direction));
    else if (direction > 0) this.chosen.reverse();
    this.find("count").textContent = `${this.chosen.length} of ${rows.length}`;
    this.list.replaceChildren();
    this.show();
  }

  show() {
    const start = this.list.childElementCount;
    this.list.append(...this.chosen.slice(start, start + STEP).map((i) => this.card(i)));
    this.find("more").hidden = this.list.childElementCount >= this.chosen.length;
  }

  card(i) {
    const { columns, rows, extras, folder } = this.data;
    const row = Object.fromEntries(columns.map((column, k) => [column, rows[i][k]]));
    const extra = extras[i];
    const card = element("article", { className: "utterance" });
    card.append(element("h4", { textContent: shown(row.id) }));
    const scores = element("div", { className: "scores" });
    const texts = [];
    for (const column of columns) {
      if (column === "id" || row[column] === null || this.aligned.has(column)) continue;
      if (column === "target" && this.aligned.size) continue;
      if (column === "target" || column.startsWith("prediction")) texts.push(column);
      else scores.append(element("span", { textContent: `${column} ${shown(row[column])}` }));
    }
    card.append(scores);
    for (const column of texts) {
      const name = element("b", { textContent: column });
      card.append(element("p", { className: "text" }, name, shown(row[column])));
    }
    for (const [name, chunks] of Object.entries(extra.alignments ?? {})) {
      card.append(alignment(name, chunks));
    }
    if (extra.audio || extra.picture) card.append(players(folder, extra, row.seconds));
    return card;
  }
}

function table(data, name) {
  const body = element("tbody");
  const rows = [...data.rows];
  const fill = () =>
    body.replaceChildren(...rows.map((row) =>
      element("tr", {}, ...row.map((value) => element("td", { textContent: shown(value) })))
    ));
  let last = [-1, 1];
  const heads = data.columns.map((column, i) => {
    const button = element("button", { type: "button", textContent: column });
    button.addEventListener("click", () => {
      last = [i, last[0] === i ? -last[1] : -1];
      rows.sort((a, b) => compare(a[i], b[i], last[1]));
      fill();
    });
    return element("th", { scope: "col" }, button);
  });
  fill();
  const save = element("button", { type: "button", textContent: "CSV" });
  save.addEventListener("click", () =>
    download(`${name} ${data.title}.csv`.replaceAll(" ", "_"), csv(data.columns, rows))
  );
  const grid = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
  return element(
    "section", { className: "table" },
    element("h3", {}, `${data.title} `, save),
    element("p", { className: "note", textContent: data.note }),
    element("div", { className: "scroll" }, grid)
  );
}

const [evaluations, overview] = ["data", "overview"].map((id) =>
  JSON.parse(document.getElementById(id).textContent)
);
if (evaluations.length > 1) document.getElementById("results").append(table(overview, "results"));
for (const section of document.querySelectorAll(".evaluation")) {
  const data = evaluations[Number(section.dataset.index)];
  new Utterances(section, data);
  section.querySelector(".tables").append(...data.tables.map((one) => table(one, data.name)));
}
