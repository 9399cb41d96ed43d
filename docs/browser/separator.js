// A separator of speakers, as scripts/export.py writes it.

import { crossFade, limitPeak, matchMixture } from "./voices.js";
import { fetchConfig, openModel } from "./runtime.js";

const WINDOW = 16; // seconds that are separated at a time
const OVERLAP = 4; // seconds that neighbouring windows have in common

export class Separator {
  /**
   * Load an exported folder.
   * @param {string} folder
   * @param {(url: string, done: number, total: number) => void} report progress, in bytes
   */
  static async load(folder, report) {
    const separator = new Separator();
    separator.config = await fetchConfig(folder, "separation");
    separator.network = await openModel(`${folder}/model.onnx`, report);
    return separator;
  }

  get sampleRate() {
    return this.config.sample_rate;
  }

  /**
   * Separate a recording in overlapping windows: besides the voices themselves, in constant memory.
   *
   * Each voice is as loud as in the mixture, and clips nowhere. As in src/tasks/windows.py, each
   * window's voices are put in the order of the previous window's and cross-faded.
   * @param {Float32Array} samples
   * @param {string} name for the error
   * @yields {{voices: Float32Array[], done: number}} the voices so far, whole with the last, and the
   *     fraction of samples that is done
   */
  async *separate(samples, name) {
    const { kernel_size: least = 1, num_speakers: count } = this.config;
    if (samples.length < least) {
      throw new Error(`${name}: ${samples.length} samples; separation needs at least ${least}.`);
    }
    const window = WINDOW * this.sampleRate;
    const hop = (WINDOW - OVERLAP) * this.sampleRate;
    const voices = Array.from({ length: count }, () => new Float32Array(samples.length));
    for (let start = 0, end = 0; end < samples.length; start += hop) {
      const common = end - start; // samples of the previous window, 0 for the first one
      end = Math.min(start + window, samples.length);
      const estimates = await this.separateWindow(samples.slice(start, end));
      if (start) crossFade(voices, estimates, start, common);
      else estimates.forEach((estimate, k) => voices[k].set(estimate));
      if (end === samples.length) {
        if (start) matchMixture(voices, samples);
        limitPeak(voices);
      }
      yield { voices, done: end / samples.length };
    }
  }

  async separateWindow(samples) {
    const mixture = samples.slice(); // the worker takes over what it is given
    const [estimates] = await this.network(samples, [1, samples.length]);
    const [, count, size] = estimates.dims;
    const voices = Array.from({ length: count }, (_, k) =>
      estimates.data.subarray(k * size, (k + 1) * size),
    );
    return matchMixture(voices, mixture);
  }
}
