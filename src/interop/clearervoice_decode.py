"""How ClearerVoice-Studio feeds its separation model, for those who compare with its outputs.

Its windows are neither matched nor faded into each other, so that speakers can change places, and
what no window keeps is silence. `SeparationTask` does without those faults; this is for checking.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEVEL = 10 ** (-25 / 20)  # RMS, of the whole and then of what is louder than its mean


@dataclass(frozen=True)
class Decoding:
    """One of the two ways in that project.

    Attributes:
        window: seconds that the model hears at once.
        whole: seconds up to which audio goes in as it is.
        to_input: streams get the level of the input; otherwise all share a peak of 1.
    """

    window: float
    whole: float
    to_input: bool


PACKAGE = Decoding(window=2.0, whole=2.0, to_input=True)
TRAINER = Decoding(window=1.0, whole=60.0, to_input=False)


def input_level(audio: Tensor) -> tuple[Tensor, float]:
    """Audio [T] at the level that the package gives its input, and the factor that undoes it."""
    first = LEVEL / (rms(audio) + 1e-6)
    audio = audio * first
    power = audio.square()
    second = LEVEL / (rms(audio[power > power.mean()]) + 1e-6)
    return audio * second, float(1 / (first * second + 1e-6))


def decode(
    separate: Callable[[Tensor], Tensor], audio: Tensor, rate: int, way: Decoding = PACKAGE
) -> Tensor:
    """Streams [S, T] of a mixture [T], as that project would write them.

    Args:
        separate: [T'] to [S, T'].
        audio: of any length, at the level of `input_level`.
        rate: in Hz.
        way: `PACKAGE` or `TRAINER`, or one with other windows.
    """
    size, window = len(audio), round(rate * way.window)
    step = int(0.75 * window)
    padded = F.pad(audio, (0, missing(size, window, step)))
    whole = size <= way.whole * rate
    found = separate(padded) if whole else joined(separate, padded, window, step)
    if way.to_input:
        found = found * (rms(audio) / found.square().mean(1, keepdim=True).sqrt())
    else:
        found = found / found.abs().max()
    return found[:, :size]


def missing(size: int, window: int, step: int) -> int:
    """Zeros that are appended; often more than windows need."""
    if size < window:
        return window - size
    if size < window + step:
        return window + step - size
    return size - (size - window) // step * step if (size - window) % step else 0


def joined(separate: Callable[[Tensor], Tensor], audio: Tensor, window: int, step: int) -> Tensor:
    """The middle parts of windows side by side, and silence where there are none."""
    edge = (window - step) // 2
    own = separate(audio[:window])
    found = own.new_zeros(len(own), len(audio))
    found[:, : window - edge] = own[:, : window - edge]
    for start in range(step, len(audio) - window + 1, step):
        own = separate(audio[start : start + window])
        found[:, start + edge : start + window - edge] = own[:, edge : window - edge]
    return found


def rms(audio: Tensor) -> Tensor:
    """Root of the mean square."""
    return torch.sqrt(audio.square().mean())
