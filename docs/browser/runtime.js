// onnxruntime-web, and the files of exported models.

const RUNTIME = "./runtime/ort.wasm.min.mjs";
let ort;

/** Load onnxruntime-web from the folder of the page. */
export async function loadRuntime() {
  try {
    ort = await import(RUNTIME);
  } catch {
    throw new Error(
      "runtime/: onnxruntime-web can't be loaded; run python scripts/get_browser_runtime.py.",
    );
  }
  ort.env.wasm.proxy = true; // models run in a worker, so that the page still answers
}

/**
 * The bytes of a file.
 * @param {string} url
 * @param {(url: string, done: number, total: number) => void} report progress, in bytes
 * @returns {Promise<Uint8Array>}
 */
export async function fetchBytes(url, report = () => {}) {
  const response = await fetchFile(url);
  const total = Number(response.headers.get("Content-Length"));
  const chunks = [];
  let done = 0;
  for (const reader = response.body.getReader(); ;) {
    const { value, done: finished } = await reader.read();
    if (finished) break;
    chunks.push(value);
    done += value.length;
    report(url, done, total);
  }
  const bytes = new Uint8Array(done);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

/**
 * The config.json of an exported model.
 * @param {string} folder
 * @param {string} task that the model must have
 */
export async function fetchConfig(folder, task) {
  const url = `${folder}/config.json`;
  const config = await fetchJson(url);
  if (config.task !== task) {
    throw new Error(`${url}: task is "${config.task}", not "${task}".`);
  }
  return config;
}

/** The content of a file of JSON. */
export async function fetchJson(url) {
  const response = await fetchFile(url);
  try {
    return await response.json();
  } catch (error) {
    throw new Error(`${url}: not JSON (${error.message}).`);
  }
}

async function fetchFile(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Error(`${url}: the server doesn't answer.`);
  }
  if (!response.ok) {
    throw new Error(`${url}: ${response.status === 404 ? "no such file" : response.statusText}.`);
  }
  return response;
}

/**
 * A file of ONNX as a function of a signal and its length.
 *
 * Inputs and outputs go by their position, as in scripts/export.py: first the signal, then lengths.
 * @param {string} url
 * @param {(url: string, done: number, total: number) => void} report progress, in bytes
 * @returns {Promise<(data: Float32Array, dims: number[]) => Promise<{data, dims: number[]}[]>>}
 *     for a signal [1, ..., T] that is whole
 */
export async function openModel(url, report) {
  const bytes = await fetchBytes(url, report);
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new Error(`${url}: onnxruntime-web can't load it (${error.message}).`);
  }
  const [signal, length] = session.inputNames;
  return async (data, dims) => {
    const feeds = { [signal]: new ort.Tensor("float32", data, dims) };
    const frames = BigInt64Array.of(BigInt(dims.at(-1)));
    if (length) feeds[length] = new ort.Tensor("int64", frames, [1]);
    try {
      const outputs = await session.run(feeds);
      return session.outputNames.map((name) => outputs[name]);
    } catch (error) {
      throw new Error(`${url}: it can't be run on ${dims.at(-1)} values (${error.message}).`);
    }
  };
}
