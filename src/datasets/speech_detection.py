"""Where in a recording there is speech, so that the silence around it can be cut off."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from src.utils.options import check_choice, check_number
from src.utils.resampling import resample

BLOCK = 0.01  # seconds over which the level is measured
SMOOTHED = 5  # blocks of a median, so that a click doesn't count as speech
LOUD = 20  # blocks at least as loud as the level that others are compared with
SILERO_RATE = 16000  # Hz
INSTALL = "pip install silero-vad onnxruntime"

Span = tuple[float, float]  # first second of the speech, and the one after the last


class SpeechDetector(ABC):
    """Finds the first and the last speech in a recording.

    Args:
        margin: seconds of silence that are kept at either end.

    Raises:
        ValueError: `margin` is not a number from 0 to 10.
    """

    def __init__(self, margin: float):
        check_number("trim.margin", margin, high=10, inclusive=True)
        self.margin = margin

    @abstractmethod
    def name(self) -> str:
        """Method and parameters, safe as a part of a file's name; without the margin."""

    @abstractmethod
    def find(self, audio: Tensor, sample_rate: int) -> Span | None:
        """The part of a recording from the first to the last speech, without margins.

        Args:
            audio: [T].
            sample_rate: in Hz.

        Returns:
            In seconds; None if there is no speech.
        """


class EnergyDetector(SpeechDetector):
    """Takes for speech what is loud, relative to the loudest 0.2 s of the recording.

    Levels are RMS values over 10 ms, of which the median over 50 ms is taken. Where noise is louder
    than the threshold, nothing is cut off.

    Args:
        threshold_db: lowest level of speech, relative to the loudest 0.2 s.
        margin: seconds of silence that are kept at either end.

    Raises:
        ValueError: `threshold_db` is not a number from -100 to -1, or `margin` from 0 to 10.
    """

    def __init__(self, threshold_db: float = -30.0, margin: float = 0.15):
        super().__init__(margin)
        check_number("trim.threshold_db", threshold_db, -100, -1, inclusive=True)
        self.threshold_db = threshold_db

    def name(self) -> str:
        """Method and parameters, safe as a part of a file's name; without the margin."""
        return f"energy{self.threshold_db:g}"

    def find(self, audio: Tensor, sample_rate: int) -> Span | None:
        """The part of a recording from the first to the last speech; None if all is silence.

        Args:
            audio: [T].
            sample_rate: in Hz.
        """
        block = round(BLOCK * sample_rate)
        samples = audio.numpy()
        padded = np.pad(samples, (0, -len(samples) % block)).reshape(-1, block)
        energy = np.square(padded, dtype=np.float64).mean(1)
        around = sliding_window_view(np.pad(energy, SMOOTHED // 2, mode="edge"), SMOOTHED)
        energy = np.median(around, axis=1)
        loud = np.sort(energy)[-min(LOUD, len(energy))]
        speech = np.flatnonzero(energy >= max(loud * 10 ** (self.threshold_db / 10), 1e-20))
        if not len(speech):
            return None
        end = min((speech[-1] + 1) * block, len(samples))
        return float(speech[0] * block / sample_rate), float(end / sample_rate)


class SileroDetector(SpeechDetector):
    """Silero's voice activity detector (https://github.com/snakers4/silero-vad, MIT).

    Its weights are in the package, and nothing is downloaded.

    Args:
        threshold: lowest probability of speech.
        margin: seconds of silence that are kept at either end.

    Raises:
        ValueError: the package is missing, `threshold` is not a number from 0.01 to 0.99, or
            `margin` from 0 to 10.
    """

    def __init__(self, threshold: float = 0.5, margin: float = 0.15):
        super().__init__(margin)
        check_number("trim.threshold", threshold, 0.01, 0.99, inclusive=True)
        self.threshold = threshold
        threads = torch.get_num_threads()
        try:
            import silero_vad

            self.find_speech = silero_vad.get_speech_timestamps_sequence
            self.model: Any = silero_vad.load_silero_vad(sequence=True)
        except (ImportError, AttributeError, TypeError):  # the latter of an old version
            raise ValueError(
                f"trim: silero needs `{INSTALL}` (silero-vad 6.2.3 or newer)."
            ) from None
        finally:
            torch.set_num_threads(threads)  # the import sets it to 1

    def name(self) -> str:
        """Method and parameters, safe as a part of a file's name; without the margin."""
        return f"silero{self.threshold:g}"

    def find(self, audio: Tensor, sample_rate: int) -> Span | None:
        """The part of a recording from the first to the last speech; None if there is none.

        Args:
            audio: [T].
            sample_rate: in Hz.
        """
        samples = resample(audio, sample_rate, SILERO_RATE)
        spans = self.find_speech(samples, self.model, threshold=self.threshold)
        if not spans:
            return None
        seconds = len(audio) / sample_rate
        return spans[0]["start"] / SILERO_RATE, min(spans[-1]["end"] / SILERO_RATE, seconds)


DETECTORS = {"energy": EnergyDetector, "silero": SileroDetector}


def build_detector(trim: str | SpeechDetector | None) -> SpeechDetector | None:
    """The detector of a name with its default values, or the one that is given.

    Raises:
        ValueError: there is no such detector, or its package is missing.
    """
    if trim is None or isinstance(trim, SpeechDetector):
        return trim
    check_choice("trim", trim, tuple(DETECTORS))
    return DETECTORS[trim]()
