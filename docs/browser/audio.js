// Audio in and out: files, the microphone, and WAV.

/**
 * Decode a recording to mono.
 * @param {Blob} blob in any format that the browser knows
 * @param {string} name for the error
 * @param {number} sampleRate in Hz
 * @returns {Promise<Float32Array>} samples in [-1, 1]
 */
export async function decode(blob, name, sampleRate) {
  // A context resamples what it decodes to its own rate; its length doesn't limit that of the audio.
  const context = new OfflineAudioContext(1, 1, sampleRate);
  let buffer;
  try {
    buffer = await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    throw new Error(`${name}: not audio that this browser can decode.`);
  }
  if (!buffer.length) throw new Error(`${name}: no samples.`);
  const mono = buffer.getChannelData(0);
  for (let channel = 1; channel < buffer.numberOfChannels; channel++) {
    const other = buffer.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += other[i];
  }
  if (buffer.numberOfChannels > 1) {
    for (let i = 0; i < mono.length; i++) mono[i] /= buffer.numberOfChannels;
  }
  return mono;
}

/**
 * Record from the microphone.
 * @returns {Promise<() => Promise<Blob>>} a function that stops and returns the recording
 */
export async function record() {
  if (!navigator.mediaDevices || !window.MediaRecorder) {
    throw new Error("No microphone: this browser gives none to this page; choose a file.");
  }
  // Calls have their voices processed by default, which the models have not been trained with.
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...plain } });
  } catch (error) {
    const reason = error.name === "NotAllowedError" ? "it was not allowed" : "none was found";
    throw new Error(`No microphone: ${reason}; allow or connect one, or choose a file.`);
  }
  const recorder = new MediaRecorder(stream);
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  recorder.start();
  return () =>
    new Promise((resolve) => {
      recorder.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        resolve(new Blob(chunks, { type: recorder.mimeType }));
      };
      recorder.stop();
    });
}

/**
 * A WAV file with 16 bits.
 * @param {Float32Array} samples in [-1, 1]; beyond, they are clipped
 * @param {number} sampleRate in Hz
 * @returns {Blob}
 */
export function wav(samples, sampleRate) {
  const header = new DataView(new ArrayBuffer(44));
  const size = 2 * samples.length;
  const text = (offset, value) =>
    [...value].forEach((letter, i) => header.setUint8(offset + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the format
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true); // bytes in a second
  header.setUint16(32, 2, true); // bytes of a frame
  header.setUint16(34, 16, true); // bits of a sample
  text(36, "data");
  header.setUint32(40, size, true);
  const data = new DataView(new ArrayBuffer(size));
  samples.forEach((value, i) => {
    const rounded = Math.round(Math.max(-1, Math.min(1, value)) * 32768);
    data.setInt16(2 * i, Math.min(32767, rounded), true);
  });
  return new Blob([header, data], { type: "audio/wav" });
}
