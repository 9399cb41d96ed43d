// The page: what its elements do.

import { decode, record } from "./audio.js";
import { Recogniser } from "./recogniser.js";
import { fetchJson, loadRuntime } from "./runtime.js";
import { Separator } from "./separator.js";
import { largest, releaseSignal, showSignal } from "./signal.js";

const RECOGNISER = "models/recogniser";
const SEPARATOR = "models/separator";

const element = (id) => document.getElementById(id);
const state = {
  recogniser: null,
  separator: null,
  audio: null, // {blob, name}
  job: Promise.resolve(), // the last one; the next one begins when it has ended
  current: 0, // number of the job that may write on the page
  stopRecording: null,
};

function say(text) {
  element("status").textContent = text;
}

function fail(error) {
  element("error").textContent = error.message;
  element("error").hidden = false;
}

function clearError() {
  element("error").textContent = "";
  element("error").hidden = true;
}

/** Show a fraction that is done; null hides it. */
function showProgress(fraction) {
  element("progress").hidden = fraction === null;
  element("progress").value = fraction ?? 0;
}

function reportLoading(url, done, total) {
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  say(`Loading ${url}: ${megabytes(done)}${total ? ` of ${megabytes(total)}` : ""} MB`);
  showProgress(total ? done / total : 0);
}

/** Load what the server has: models.json lists the tasks of its models. */
async function load() {
  try {
    const tasks = await fetchJson("models/models.json");
    await loadRuntime();
    if (tasks.includes("recognition")) {
      state.recogniser = await Recogniser.load(RECOGNISER, reportLoading);
    }
    if (tasks.includes("separation")) {
      state.separator = await Separator.load(SEPARATOR, reportLoading);
    }
    element("transcribe").hidden = !state.recogniser;
    element("separate").hidden = !state.separator;
    element("file").disabled = element("record").disabled = false;
    say("Ready.");
  } catch (error) {
    say("");
    fail(error);
  }
  showProgress(null);
}

/** Take a recording, show it, and transcribe it; without a recogniser, separate it. */
async function take(blob, name) {
  stop();
  state.audio = { blob, name };
  element("transcript").hidden = element("separation").hidden = true;
  element("transcribe").disabled = element("separate").disabled = true;
  start(async () => {
    const { sampleRate } = state.recogniser ?? state.separator;
    element("input").hidden = true;
    const samples = await decode(blob, name, sampleRate);
    showSignal(element("input"), name, samples, sampleRate, blob);
    element("transcribe").disabled = element("separate").disabled = false;
  });
  start(state.recogniser ? transcribe : separate);
}

/** Begin a job when the last one has ended; it is left out if it was stopped before. */
function start(job) {
  const number = state.current;
  const isCurrent = () => number === state.current;
  state.job = state.job.then(async () => {
    if (!isCurrent()) return;
    clearError();
    element("stop").hidden = false;
    try {
      await job(isCurrent);
    } catch (error) {
      if (isCurrent()) {
        say("");
        fail(error);
        stop(); // jobs that wait for this one
      }
    }
    element("stop").hidden = true;
    showProgress(null);
  });
}

/** End all jobs: the running one after its present window. */
function stop() {
  state.current += 1;
}

async function transcribe(isCurrent) {
  const { blob, name } = state.audio;
  const { recogniser } = state;
  element("text").textContent = element("time").textContent = "";
  element("transcript").hidden = false;
  say("Transcribing ...");
  showProgress(0);
  const samples = await decode(blob, name, recogniser.sampleRate);
  const begin = performance.now();
  for await (const { text, done } of recogniser.transcribe(samples)) {
    if (!isCurrent()) return say("Stopped.");
    element("text").textContent += text && `${text} `;
    element("time").textContent = timing(begin, (done * samples.length) / recogniser.sampleRate);
    showProgress(done);
  }
  if (!element("text").textContent) say("No words.");
  else say("Transcribed.");
}

async function separate(isCurrent) {
  const { blob, name } = state.audio;
  const { separator } = state;
  const place = element("voices");
  [...place.children].forEach(releaseSignal);
  place.replaceChildren();
  element("separation").hidden = true;
  say("Separating ...");
  showProgress(0);
  const samples = await decode(blob, name, separator.sampleRate);
  const begin = performance.now();
  let whole;
  for await (const { voices, done } of separator.separate(samples, name)) {
    if (!isCurrent()) return say("Stopped.");
    whole = voices;
    showProgress(done);
  }
  const peak = largest(samples); // so that the voices are drawn as high as in the mixture
  whole.forEach((voice, k) => {
    place.append(element("voice").content.cloneNode(true));
    const title = `Voice ${k + 1}`;
    showSignal(place.lastElementChild, title, voice, separator.sampleRate, null, peak);
  });
  element("separation-time").textContent = timing(begin, samples.length / separator.sampleRate);
  element("separation").hidden = false;
  say("Separated.");
}

function timing(begin, seconds) {
  const taken = (performance.now() - begin) / 1000;
  return `${seconds.toFixed(1)} s of audio in ${taken.toFixed(2)} s`;
}

async function toggleRecording() {
  const button = element("record");
  button.disabled = true; // until the microphone has started or stopped
  clearError();
  try {
    if (state.stopRecording) {
      const blob = await state.stopRecording();
      state.stopRecording = null;
      take(blob, `recording.${blob.type.match(/\/(\w+)/)?.[1] ?? "webm"}`);
    } else {
      state.stopRecording = await record();
      say("Recording ...");
    }
  } catch (error) {
    fail(error);
  }
  button.textContent = state.stopRecording ? "Stop recording" : "Record";
  button.disabled = false;
}

function listen() {
  const drop = element("drop");
  element("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) take(file, file.name);
  });
  element("record").addEventListener("click", toggleRecording);
  element("transcribe").addEventListener("click", () => start(transcribe));
  element("separate").addEventListener("click", () => start(separate));
  element("stop").addEventListener("click", stop);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file && !element("file").disabled) take(file, file.name);
  });
}

listen();
load();
