// Pieces of a long recording that are recognised one by one.
//
// As in src/utils/windows.py, a recording is split at silence, with which models that were trained
// on single sentences can do little. What is still longer than a window is cut where it is quietest.

const BLOCK = 0.01; // seconds over which the level is measured
const PAUSE = 25; // blocks of silence at which a recording is split
const SHORTEST = 80; // blocks of sound, of which less isn't split off ...
const NEAR = 150; // ... by less silence than this
const SILENCE = 10 ** (-70 / 20); // RMS level
const QUIET = 1e-3; // of the highest level of a recording; what is louder is no silence

/**
 * Where the pieces of a recording begin and end.
 * @param {Float32Array} samples
 * @param {number} sampleRate in Hz
 * @param {number} seconds of the longest piece; a recording no longer than that is one piece
 * @returns {[number, number][]} first sample, and the one after the last
 */
export function pieces(samples, sampleRate, seconds = 60) {
  const most = Math.round(seconds * sampleRate);
  if (samples.length <= most) return [[0, samples.length]];
  const block = Math.round(BLOCK * sampleRate);
  const levels = blockLevels(samples, block);
  const longest = Math.floor(most / block);
  return sounds(levels)
    .flatMap(([first, last]) => cut(levels, first, last, longest))
    .map(([first, last]) => [first * block, Math.min(last * block, samples.length)]);
}

/** RMS level of each block, the last of which may be short. */
function blockLevels(samples, block) {
  const levels = new Float32Array(Math.ceil(samples.length / block));
  for (let i = 0; i < levels.length; i++) {
    let power = 0;
    for (const value of samples.subarray(i * block, (i + 1) * block)) power += value * value;
    levels[i] = Math.sqrt(power / block);
  }
  return levels;
}

/** Where a recording isn't silent, in blocks; all of it if it is silent. */
function sounds(levels) {
  const silence = Math.min(SILENCE, levels.reduce((a, b) => Math.max(a, b)) * QUIET);
  const spans = [];
  levels.forEach((level, i) => {
    if (level <= silence) return;
    const previous = spans.at(-1);
    if (previous && i - previous[1] < PAUSE) previous[1] = i + 1;
    else spans.push([i, i + 1]);
  });
  const joined = [];
  for (const span of spans) {
    const previous = joined.at(-1);
    const short = previous && Math.min(previous[1] - previous[0], span[1] - span[0]) < SHORTEST;
    if (short && span[0] - previous[1] < NEAR) previous[1] = span[1];
    else joined.push(span);
  }
  return joined.length ? joined : [[0, levels.length]];
}

/** Cut a sound in the middle of its quietest pauses, so that no part has more than `most` blocks. */
function cut(levels, first, last, most) {
  const parts = [];
  while (last - first > most) {
    const middle = quietest(levels, first + Math.floor(most / 2), first + most - PAUSE);
    parts.push([first, middle]);
    first = middle;
  }
  return [...parts, [first, last]];
}

/** The middle of the `PAUSE` blocks with the least power that begin in a range. */
function quietest(levels, from, to) {
  let best = from;
  let least = Infinity;
  for (let start = from; start < to; start++) {
    let power = 0;
    for (let i = start; i < start + PAUSE; i++) power += levels[i] ** 2;
    if (power < least) [best, least] = [start, power];
  }
  return best + Math.floor(PAUSE / 2);
}
