// A signal on the page: its waveform and its player.

import { wav } from "./audio.js";

/**
 * Show a signal that can be played.
 * @param {Element} place with a heading, a canvas, an audio element and perhaps a link to download it
 * @param {string} title
 * @param {Float32Array} samples in [-1, 1]
 * @param {number} sampleRate in Hz
 * @param {Blob} [blob] the file to play; made from the samples if there is none
 */
export function showSignal(place, title, samples, sampleRate, blob = wav(samples, sampleRate)) {
  place.querySelector("h2, h3").textContent = title;
  drawWaveform(place.querySelector("canvas"), samples);
  const player = place.querySelector("audio");
  const link = place.querySelector("a");
  releaseSignal(place);
  player.src = URL.createObjectURL(blob);
  player.setAttribute("aria-label", title);
  if (link) {
    link.href = player.src;
    link.download = `${title}.wav`;
    link.setAttribute("aria-label", `Download ${title}`);
  }
  place.hidden = false;
}

/** Free the memory of a signal that was shown. */
export function releaseSignal(place) {
  const player = place.querySelector("audio");
  if (player.src) URL.revokeObjectURL(player.src);
}

/** Draw the lowest and the highest sample in each column of a canvas. */
function drawWaveform(canvas, samples) {
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
    context.fillRect(x, ((1 - high) * height) / 2, 1, Math.max(1, ((high - low) * height) / 2));
  }
}
