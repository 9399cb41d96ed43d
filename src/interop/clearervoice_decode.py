"""Windowed decoding of ClearerVoice-Studio, to reproduce its outputs.

It neither aligns the permutations of neighbouring windows nor cross-fades them, so speakers can be
swapped between windows, and samples that no window covers are zero. `SeparationTask` has neither
defect and should be preferred.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEVEL = 10 ** (-25 / 20)  # RMS of -25 dBFS, of the whole signal and then of its loud samples


@dataclass(frozen=True)
class DecodingOptions:
    """Options of the windowed decoding of ClearerVoice.

    Attributes:
        window_seconds: length of a window, in seconds.
        whole_seconds: audio of up to this duration is separated without windows.
        match_input_level: True scales each stream to the RMS of the input; False scales all
            streams by one factor, to a peak of 1.
    """

    window_seconds: float
    whole_seconds: float
    match_input_level: bool


PACKAGE = DecodingOptions(window_seconds=2.0, whole_seconds=2.0, match_input_level=True)
TRAINER = DecodingOptions(window_seconds=1.0, whole_seconds=60.0, match_input_level=False)


def normalize_level(audio: Tensor) -> tuple[Tensor, float]:
    """Scale audio [T] as the package of ClearerVoice does before separation.

    Returns:
        The scaled audio [T], and the factor that undoes the scaling.
    """
    first = LEVEL / (rms(audio) + 1e-6)
    audio = audio * first
    power = audio.square()
    second = LEVEL / (rms(audio[power > power.mean()]) + 1e-6)
    return audio * second, float(1 / (first * second + 1e-6))


def decode(
    separate: Callable[[Tensor], Tensor],
    audio: Tensor,
    sample_rate: int,
    options: DecodingOptions = PACKAGE,
) -> Tensor:
    """Separate a mixture [T] into streams [S, T] as ClearerVoice does.

    Args:
        separate: the model, from [T'] to [S, T'].
        audio: of any length, scaled by `normalize_level`.
        sample_rate: in Hz.
        options: `PACKAGE` for the published package, `TRAINER` for the evaluation in training.

    Returns:
        [S, T].
    """
    size, window = len(audio), round(sample_rate * options.window_seconds)
    stride = int(0.75 * window)
    padded = F.pad(audio, (0, padding_size(size, window, stride)))
    if size <= options.whole_seconds * sample_rate:
        streams = separate(padded)
    else:
        streams = separate_windows(separate, padded, window, stride)
    if options.match_input_level:
        streams = streams * (rms(audio) / streams.square().mean(1, keepdim=True).sqrt())
    else:
        streams = streams / streams.abs().max()
    return streams[:, :size]


def padding_size(size: int, window: int, stride: int) -> int:
    """Number of zeros that ClearerVoice appends, in samples; often more than necessary."""
    if size < window:
        return window - size
    if size < window + stride:
        return window + stride - size
    return size - (size - window) // stride * stride if (size - window) % stride else 0


def separate_windows(
    separate: Callable[[Tensor], Tensor], audio: Tensor, window: int, stride: int
) -> Tensor:
    """Concatenate the central parts of separated windows: [T] to [S, T], zero elsewhere.

    Args:
        separate: the model, from [T'] to [S, T'].
        audio: [T].
        window, stride: in samples.
    """
    edge = (window - stride) // 2
    part = separate(audio[:window])
    streams = part.new_zeros(len(part), len(audio))
    streams[:, : window - edge] = part[:, : window - edge]
    for start in range(stride, len(audio) - window + 1, stride):
        part = separate(audio[start : start + window])
        streams[:, start + edge : start + window - edge] = part[:, edge : window - edge]
    return streams


def rms(audio: Tensor) -> Tensor:
    """Root mean square of all samples."""
    return torch.sqrt(audio.square().mean())
