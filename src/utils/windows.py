"""Overlapping windows of a long recording, and the join of what a model says about them.

A model with a total stride of S samples gives one output frame every S samples. If a window starts
at a multiple of S, its frame j is about the same samples as frame start / S + j of the recording.
So windows start at multiples of S from the beginning of what they divide, and the frames of
neighbouring windows can be compared and joined one by one.

Before that, a recording is split at silence. A front end that normalises over what it is given, and
a bidirectional network, do with a second of digital silence what they never learnt to do.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from src.utils.audio import Recording

AT_ONCE = 4  # full windows in a batch
AGREEMENT = 4  # frames to either side of a cut on which two windows should agree
READ_AT_ONCE = 60  # seconds of a recording that are read at a time
BLOCK = 0.01  # seconds over which the level is measured
PAUSE = 0.25  # seconds of silence at which a recording is split
SHORTEST = 0.8  # seconds of sound, of which less isn't split off ...
NEAR = 1.5  # ... by less silence than this
QUIET = 1e-3  # of the highest level of a recording; what is louder is no silence

Span = tuple[int, int]  # first sample, and the one after the last
Fill = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Windows:
    """Windows of at most one size that cover the sound of a recording.

    Args:
        size: samples in a window.
        overlap: samples that neighbouring windows have in common, at least.
        stride: samples between two output frames of the model.
        sample_rate: in Hz.
        silence: RMS level below which audio is silence; 0: no audio is.
        fill: called with an output [T', V] and a number of frames, gives the output [frames, V] for
            so much silence.
    """

    size: int
    overlap: int
    stride: int
    sample_rate: int
    silence: float
    fill: Fill

    def groups(self, audio: Tensor | Recording) -> Iterator[list[Tensor]]:
        """The windows [t] of a recording [T], as many at a time as `AT_ONCE` full ones fill."""
        group: list[Tensor] = []
        longest = 0
        for begin, end in self.sounds(audio):
            for start in self.starts(end - begin):
                window = audio[begin + start : min(begin + start + self.size, end)]
                longest = max(longest, len(window))
                if (len(group) + 1) * longest > AT_ONCE * self.size:
                    yield group
                    group, longest = [], len(window)
                group.append(window)
        yield group

    def sounds(self, audio: Tensor | Recording) -> list[Span]:
        """Where a recording [T] isn't silent; all of it if it is no longer than a window.

        Silence shorter than `PAUSE` splits nothing, and a sound shorter than `SHORTEST` isn't split
        from one that is `NEAR`.
        """
        block = round(BLOCK * self.sample_rate)
        if len(audio) <= self.size or self.silence <= 0:
            return [(0, len(audio))]
        piece = READ_AT_ONCE * self.sample_rate // block * block
        ends = range(piece, len(audio) + piece, piece)
        levels = torch.cat([block_levels(audio[end - piece : end], block) for end in ends])
        silence = min(self.silence, float(levels.max()) * QUIET)
        loud = torch.nonzero(levels > silence)[:, 0].cpu().numpy()
        if not len(loud):
            return [(0, len(audio))]
        after = np.flatnonzero(np.diff(loud) > PAUSE / BLOCK)
        firsts, lasts = loud[[0, *(after + 1)]].tolist(), loud[[*after, -1]].tolist()
        spans: list[Span] = []
        for first, last in zip(firsts, lasts, strict=True):
            end = (last + 1) * block
            span = (first * block, end if len(audio) - end >= block else len(audio))
            sizes = [b - a for a, b in (*spans[-1:], span)]
            near = spans and span[0] - spans[-1][1] < NEAR * self.sample_rate
            if near and min(sizes) < SHORTEST * self.sample_rate:
                span = (spans.pop()[0], span[1])
            spans.append(span)
        return spans

    def starts(self, samples: int) -> list[int]:
        """First sample of each window of a sound; the last window reaches to its end.

        The windows are spread evenly, so that all but the last are equally long and that one is
        shorter by less than a frame: a short last window would have other statistics than the
        rest, by which many front ends normalise.

        Args:
            samples: of the sound.
        """
        if samples <= self.size:
            return [0]
        hop = self.size - self.overlap - self.stride
        count = -(-(samples - self.size) // hop)
        between = count * self.stride
        return [-(-k * (samples - self.size) // between) * self.stride for k in range(count + 1)]

    def join_all(
        self, key: str, parts: list[list[Tensor]], recordings: list[Tensor | Recording]
    ) -> dict[str, Tensor]:
        """The output for whole recordings as a batch.

        Args:
            key: of the output.
            parts: of each recording the output for its windows, [T', V].
            recordings: [T] each.

        Returns:
            `<key>` [B, T', V], `<key>_length` [B], and in `windows` [B] how many windows of full
            size a recording would have.
        """
        joined = [self.join(own, audio) for own, audio in zip(parts, recordings, strict=True)]
        return {
            key: pad_sequence(joined, batch_first=True),
            f"{key}_length": torch.tensor([len(one) for one in joined]),
            "windows": torch.tensor([len(self.starts(len(audio))) for audio in recordings]),
        }

    def join(self, parts: list[Tensor], audio: Tensor | Recording) -> Tensor:
        """The frames of a recording, each taken from one window or filled in for silence.

        Args:
            parts: output of the model for each window, [T', V], log-probabilities.
            audio: the recording [T].

        Returns:
            [T', V].

        Raises:
            ValueError: an overlap has no frames, because the model leaves out frames at the ends
                of its input.
        """
        left, kept, size = list(parts), [], 0
        for begin, end in self.sounds(audio):
            starts = self.starts(end - begin)
            own, left = left[: len(starts)], left[len(starts) :]
            silent = max(0, round(begin / self.stride) - size)
            kept += [self.fill(own[0], silent)] if silent else []
            kept.append(self.join_sound(own, starts))
            size += silent + len(kept[-1])
        if end < len(audio):
            kept.append(self.fill(parts[0], max(0, len(audio) // self.stride + 1 - size)))
        return torch.cat(kept) if len(kept) > 1 else kept[0]

    def join_sound(self, parts: list[Tensor], starts: list[int]) -> Tensor:
        """The frames [T', V] of one sound; windows are joined where they agree best.

        Args:
            parts: output of the model for each window, [T', V].
            starts: first sample of each window.
        """
        kept, begin = [], 0
        for k, (left, right) in enumerate(zip(parts, parts[1:], strict=False)):
            shift = (starts[k + 1] - starts[k]) // self.stride
            common = len(left) - shift
            if common < 1:
                raise ValueError(
                    f"task.overlap_seconds: too short for this model, which has {len(left)} frames "
                    f"for a window and the next window begins at frame {shift}."
                )
            cut = best_cut(left[shift:], right[:common])
            kept.append(left[begin : shift + cut])
            begin = cut
        return torch.cat([*kept, parts[-1][begin:]])


def recordings_of(audio: Any, audio_length: Tensor | None) -> list[Tensor | Recording]:
    """Each recording of a batch without its padding.

    Args:
        audio: [B, T], or a list of `Recording`.
        audio_length: [B]; None with a list.
    """
    if audio_length is None:
        return list(audio)
    return [row[:size] for row, size in zip(audio, audio_length.tolist(), strict=True)]


def outputs_of(batch: dict[str, Any], key: str) -> list[Tensor]:
    """The output [T', V] for each item of a batch, without its padding.

    Args:
        batch: outputs of a model.
        key: of the output, [B, T', V].

    Raises:
        ValueError: there is no such output.
    """
    if key not in batch:
        raise ValueError(f"task.window_seconds: the model has no {key} to be joined; set null.")
    lengths = batch[f"{key}_length"].tolist()
    return [output[:size] for output, size in zip(batch[key], lengths, strict=True)]


def block_levels(audio: Tensor, block: int) -> Tensor:
    """RMS level [N] of the whole blocks of a signal [T]."""
    count = len(audio) // block
    blocks = audio[: count * block].view(count, block)
    return torch.linalg.vector_norm(blocks, dim=1) / block**0.5


def best_cut(left: Tensor, right: Tensor) -> int:
    """Where to go over from one window to the next: the frame from which `right` is taken.

    A token may be a few frames earlier in one window than in the other, and would be lost or
    doubled by a cut in between. So the cut lies where the windows agree on the frames around it,
    in the middle half of what they have in common.

    Args:
        left, right: what two windows say about the frames that they have in common, [N, V].
    """
    size = len(left)
    difference = (left.softmax(-1) - right.softmax(-1)).abs().sum(-1)
    total = pad(difference.double().cumsum(0), (1, 0))
    cuts = torch.arange(size // 4, size - size // 4 + 1, device=left.device)
    low, high = (cuts - AGREEMENT).clamp(min=0), (cuts + AGREEMENT).clamp(max=size)
    around = (total[high] - total[low]) / (high - low).clamp(min=1)
    from_middle = (cuts - size / 2).abs() / (size + 1)
    return int(cuts[(around + 1e-3 * from_middle).argmin()])


def frame_counter(stages: Sequence[Any]) -> Callable[[Any], Any] | None:
    """A function from the number of samples to that of the output frames of the last stage.

    Both are ints or integer arrays. None if the last stage has no `output_length`.

    Args:
        stages: transforms and the model; those without an `output_length` keep the number.
    """
    if not hasattr(stages[-1], "output_length"):
        return None
    counting = [stage for stage in stages if hasattr(stage, "output_length")]

    def count(samples: Any) -> Any:
        for stage in counting:
            samples = stage.output_length(samples)
        return samples

    return count


def frame_stride(count_frames: Callable[[Any], Any], sample_rate: int) -> int | None:
    """Samples between two output frames of a model; None if that isn't constant.

    Args:
        count_frames: number of samples -> number of output frames.
        sample_rate: in Hz.
    """
    frames = count_frames(np.arange(sample_rate, 4 * sample_rate))
    steps = np.diff(np.flatnonzero(np.diff(frames)))
    return int(steps[0]) if len(steps) and (steps == steps[0]).all() else None
