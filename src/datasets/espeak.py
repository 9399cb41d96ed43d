"""eSpeak NG in a process of its own: python -m src.datasets.espeak JOB OUT.

The library keeps state between utterances and can crash, so each voice gets a fresh process.
JOB is a JSON file {"voice", "utterances": [{"text", "pitch", "range", "rate"}]}; OUT becomes an
.npz file with one int16 array an utterance, named by its number.
"""

import ctypes
import json
import os
import sys

import espeakng_loader
import numpy as np

SAMPLE_RATE = 22050  # of every voice
SYNCHRONOUS = 2  # the mode without threads; the retrieval mode leaves threads behind
UTF8 = 1
RATE, PITCH, RANGE = 1, 3, 4  # parameter numbers of speak_lib.h
RANDOM_SEED = 1

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class Espeak:
    """One voice.

    Args:
        voice: a base voice and a variant, e.g. `en-us+f3`.

    Raises:
        ValueError: eSpeak NG does not know the voice; left alone it would keep another.
    """

    def __init__(self, voice: str):
        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        self.chunks: list[np.ndarray] = []
        self.callback = Callback(self.receive)  # kept, or the garbage collector takes it
        data = espeakng_loader.get_data_path().encode()
        rate = self.library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if rate != SAMPLE_RATE:
            raise ValueError(f"eSpeak NG started with {rate} Hz, expected {SAMPLE_RATE}.")
        self.library.espeak_SetSynthCallback(self.callback)
        # An unknown base voice gives a code, an unknown variant is passed over in silence.
        variant = f"{espeakng_loader.get_data_path()}/voices/!v/{voice.partition('+')[2]}"
        code = self.library.espeak_SetVoiceByName(voice.encode())
        if code != 0 or not os.path.exists(variant):  # noqa: PTH110
            raise ValueError(f"eSpeak NG knows no voice '{voice}'.")

    def receive(self, samples, count: int, events) -> int:
        """Called by the library with a piece of audio."""
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, pitch: int, range: int, rate: int) -> np.ndarray:
        """Speech as int16 samples at 22,050 Hz.

        Args:
            text: what to say.
            pitch: 0 to 100, 50 is the voice's own.
            range: of the pitch, 0 (monotone) to 100.
            rate: in words a minute.
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
            raise ValueError(f"eSpeak NG said nothing for '{text}' (code {code}).")
        return np.concatenate(self.chunks)


def main(job_path: str, out_path: str) -> None:
    """Speak every utterance of a job."""
    with open(job_path, encoding="utf-8") as file:  # noqa: PTH123  pathlib isn't loaded otherwise
        job = json.load(file)
    espeak = Espeak(job["voice"])
    speech = [espeak.say(**utterance) for utterance in job["utterances"]]
    np.savez(out_path, **{str(i): samples for i, samples in enumerate(speech)})  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
