// Arithmetic with separated voices: levels, and the join of windows.

const RIDGE = 1e-2; // of the least-squares gains, relative to the energy of each voice

function dot(a, b, size = a.length) {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += a[i] * b[i];
  return sum;
}

function scale(signal, gain) {
  for (let i = 0; i < signal.length; i++) signal[i] *= gain;
}

/**
 * Scale voices in place so that their sum equals the mixture best, as in src/utils/levels.py.
 *
 * The gains g minimise |x - g E|^2 plus a small penalty on their distance to one common gain.
 * @param {Float32Array[]} voices E
 * @param {Float32Array} mixture x
 */
export function matchMixture(voices, mixture) {
  const correlation = voices.map((voice) => dot(voice, mixture));
  // Voices with inverted sign are negated first, or they might cancel each other.
  voices.forEach((voice, k) => correlation[k] < 0 && scale(voice, -1));
  const target = correlation.map(Math.abs);
  const gram = voices.map((a) => voices.map((b) => dot(a, b)));
  const energy = gram.flat().reduce((a, b) => a + b, 0);
  const common = energy > 0 ? target.reduce((a, b) => a + b, 0) / Math.max(energy, 1e-30) : 0;
  const residual = target.map((value, k) => value - common * gram[k].reduce((a, b) => a + b, 0));
  gram.forEach((row, k) => (row[k] += RIDGE * row[k] + 1e-30));
  solve(gram, residual).forEach((gain, k) => scale(voices[k], common + gain));
  return voices;
}

/** Solve A x = b by elimination with pivots; A is changed. */
export function solve(A, b) {
  const rows = A.map((row, i) => [...row, b[i]]);
  rows.forEach((_, k) => {
    const pivot = rows.reduce(
      (best, row, i) => (i >= k && Math.abs(row[k]) > Math.abs(rows[best][k]) ? i : best),
      k,
    );
    [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
    rows.forEach((row, i) => {
      const factor = i === k ? 0 : row[k] / rows[k][k];
      row.forEach((_, j) => (row[j] -= factor * rows[k][j]));
    });
  });
  return rows.map((row, i) => row.at(-1) / row[i]);
}

/**
 * Put the voices of a window behind those of the windows before, cross-faded in the overlap.
 * @param {Float32Array[]} voices of the whole recording, written up to `start + common`
 * @param {Float32Array[]} estimates of the window, in any order
 * @param {number} start of the window
 * @param {number} common samples in the overlap
 */
export function crossFade(voices, estimates, start, common) {
  const size = Math.min(common, estimates[0].length);
  const previous = voices.map((voice) => voice.subarray(start, start + size));
  const similarity = previous.map((one) => estimates.map((other) => dot(one, other, size)));
  const permutation = bestPermutation(similarity);
  permutation.forEach((from, k) => {
    const estimate = estimates[from];
    for (let i = 0; i < size; i++) {
      const fadeIn = size > 1 ? i / (size - 1) : 0;
      estimate[i] = previous[k][i] * (1 - fadeIn) + estimate[i] * fadeIn;
    }
    voices[k].set(estimate, start);
  });
}

/**
 * The permutation p with the largest sum of similarity[k][p[k]]; among equals the first, which
 * keeps the order where the overlap doesn't distinguish the voices.
 */
export function bestPermutation(similarity) {
  let best = [];
  let most = -Infinity;
  for (const permutation of permutations(similarity.map((_, k) => k))) {
    const sum = permutation.reduce((total, from, k) => total + similarity[k][from], 0);
    if (sum > most) [best, most] = [permutation, sum];
  }
  return best;
}

function* permutations(items) {
  if (items.length < 2) yield items;
  for (const [i, item] of items.length < 2 ? [] : items.entries()) {
    for (const rest of permutations(items.filter((_, j) => j !== i))) yield [item, ...rest];
  }
}

/** Scale voices in place by one common factor, so that no sample is beyond [-1, 1]. */
export function limitPeak(voices) {
  let peak = 1;
  for (const voice of voices) for (const value of voice) peak = Math.max(peak, Math.abs(value));
  voices.forEach((voice) => peak > 1 && scale(voice, 1 / peak));
}
