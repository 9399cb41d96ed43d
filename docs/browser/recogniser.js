// A recogniser with CTC, as scripts/export.py writes it.

import { pieces } from "./pieces.js";
import { fetchConfig, openModel } from "./runtime.js";

export class Recogniser {
  /**
   * Load an exported folder.
   * @param {string} folder
   * @param {(url: string, done: number, total: number) => void} report progress, in bytes
   */
  static async load(folder, report) {
    const recogniser = new Recogniser();
    recogniser.config = await fetchConfig(folder, "recognition");
    recogniser.frontend = await openModel(`${folder}/frontend.onnx`, report);
    recogniser.network = await openModel(`${folder}/model.onnx`, report);
    return recogniser;
  }

  get sampleRate() {
    return this.config.sample_rate;
  }

  /**
   * Transcribe a recording piece by piece, in constant memory.
   * @param {Float32Array} samples
   * @yields {{text: string, done: number}} text of a piece, and the fraction of samples that is done
   */
  async *transcribe(samples) {
    for (const [first, last] of pieces(samples, this.sampleRate)) {
      const text = await this.transcribePiece(samples.slice(first, last));
      yield { text, done: last / samples.length };
    }
  }

  async transcribePiece(samples) {
    const [features] = await this.frontend(samples, [1, samples.length]);
    const [logProbs, lengths] = await this.network(features.data, features.dims);
    const [, frames, size] = logProbs.dims;
    const whole = lengths ? Number(lengths.data[0]) : frames;
    const { vocabulary, blank_id: blank } = this.config;
    const tokens = greedy(logProbs.data, whole, size, blank).map((token) => vocabulary[token]);
    return tokens.join("").replaceAll("\u2581", " ").trim();
  }
}

/**
 * The most probable token of each frame, without repeats and blanks.
 * @param {Float32Array} logProbs [frames, size]
 * @param {number} frames
 * @param {number} size of the vocabulary
 * @param {number} blank
 * @returns {number[]}
 */
export function greedy(logProbs, frames, size, blank) {
  const tokens = [];
  let last = blank;
  for (let frame = 0; frame < frames; frame++) {
    let best = 0;
    const offset = frame * size;
    for (let token = 1; token < size; token++) {
      if (logProbs[offset + token] > logProbs[offset + best]) best = token;
    }
    if (best !== last && best !== blank) tokens.push(best);
    last = best;
  }
  return tokens;
}
