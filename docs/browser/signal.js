// A signal on the page: its waveform and its player.

import { wav } from "./audio.js";

/**
 * Show a signal that can be played.
 * @param {Element} place with a heading, a canvas, an audio element and a link to download it
 * @param {string} title name of the file, for one that is made from the samples without `.wav`
 * @param {Float32Array} samples in [-1, 1]
 * @param {number} sampleRate in Hz
 * @param {Blob} [blob] the file to play; null: it is made from the samples
 * @param {number} [peak] sample that is drawn at the upper edge; default: the largest
 */
export function showSignal(
  place,
  title,
  samples,
  sampleRate,
  blob = null,
  peak = largest(samples),
) {
  place.querySelector("h2, h3").textContent = title;
  drawWaveform(place.querySelector("canvas"), samples, peak);
  const player = place.querySelector("audio");
  const link = place.querySelector("a");
  releaseSignal(place);
  player.src = URL.createObjectURL(blob ?? wav(samples, sampleRate));
  player.setAttribute("aria-label", title);
  link.href = player.src;
  link.download = blob ? title : `${title}.wav`;
  link.setAttribute("aria-label", `Download ${title}`);
  place.hidden = false;
}

/** Free the memory of a signal that was shown. */
export function releaseSignal(place) {
  const player = place.querySelector("audio");
  if (player.src) URL.revokeObjectURL(player.src);
}

/** The largest absolute value of a sample. */
export function largest(samples) {
  return samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** Draw the lowest and the highest sample in each column of a canvas. */
function drawWaveform(canvas, samples, peak) {
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  context.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < width; x++) {
    const first = Math.floor((x * samples.length) / width);
    const last = Math.max(first + 1, Math.floor(((x + 1) * samples.length) / width));
    let low = 0;
    let high = 0;
    for (let i = first; i < last; i++) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const scale = height / 2 / (peak || 1);
    context.fillRect(x, height / 2 - high * scale, 1, Math.max(1, (high - low) * scale));
  }
}
