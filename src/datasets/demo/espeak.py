"""Speech synthesis with eSpeak NG in a process: python -m src.datasets.demo.espeak JOB OUT.

The library keeps state between utterances and can crash, so each voice is synthesised in a new
process. JOB is a JSON file {"voice", "utterances": [{"text", "pitch", "range", "rate"}]}. OUT is
written as an .npz file with one int16 array per utterance, named by its index.
"""

import ctypes
import json
import sys

import numpy as np

from src.utils.espeak import UTF8, open_espeak, set_voice

RATE, PITCH, RANGE = 1, 3, 4  # parameter numbers of speak_lib.h
RANDOM_SEED = 1

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """One voice of eSpeak NG.

    Args:
        voice: a base voice and a variant, e.g. `en-us+f3`.

    Raises:
        ValueError: there is no such voice, or eSpeak NG is missing.
    """

    def __init__(self, voice: str):
        self.library = open_espeak()
        self.chunks: list[np.ndarray] = []
        self.callback = Callback(self.receive)  # a reference that prevents garbage collection
        self.library.espeak_SetSynthCallback(self.callback)
        set_voice(self.library, voice)

    def receive(self, samples, count: int, events) -> int:
        """Callback of the library: store a chunk of audio."""
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def synthesize(self, text: str, pitch: int, range: int, rate: int) -> np.ndarray:
        """Speech [T] as int16 samples at 22,050 Hz.

        Args:
            text: to be spoken.
            pitch: 0 to 100; 50 is the default of the voice.
            range: of the pitch, 0 (monotone) to 100.
            rate: words per minute.

        Raises:
            ValueError: eSpeak NG fails or returns no audio.
        """
        self.chunks = []
        for parameter, value in ((PITCH, pitch), (RANGE, range), (RATE, rate)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(RANDOM_SEED))
        encoded = text.encode()
        code = self.library.espeak_Synth(
            encoded, ctypes.c_size_t(len(encoded) + 1), 0, 0, 0, UTF8, None, None
        )
        if code != 0 or not self.chunks:
            raise ValueError(f"eSpeak NG returned no audio for '{text}' (code {code}).")
        return np.concatenate(self.chunks)


def main(job_path: str, out_path: str) -> None:
    """Synthesise every utterance of a job file."""
    with open(job_path, encoding="utf-8") as file:  # noqa: PTH123, pathlib is not imported
        job = json.load(file)
    espeak = Espeak(job["voice"])
    speech = [espeak.synthesize(**utterance) for utterance in job["utterances"]]
    np.savez(out_path, **{str(i): samples for i, samples in enumerate(speech)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
