"""A recogniser on a stream of audio, whose transcript equals that of the whole recording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.decoders.base import CTCDecoder
from src.transforms.chain import Chain
from src.utils.audio import SAMPLE_RATES, given_samples, to_mono_at
from src.utils.entry import sentence
from src.utils.options import check_choice, check_whole
from src.utils.resampling import reach, resample
from src.utils.stages import Cached, Sliding, Stage

Packet = Any  # samples [T] or [channels, T]: a tensor, an array or a list

SEARCH, WORDS, RATE, HEARD = "search", "words", "sample_rate", "heard"


@dataclass(frozen=True)
class Partial:
    """The transcript so far.

    Attributes:
        final: words that can't change any more.
        pending: what follows them in the best hypothesis.
    """

    final: str
    pending: str

    def __str__(self) -> str:
        return f"{self.final} {self.pending}".strip()


class StreamingRecogniser:
    """What all streams of a recogniser have in common; made by `System.stream`.

    Args:
        stages: from samples [T] at `sample_rate` to log-probabilities [V, T'].
        decoder: of the log-probabilities.
        text_encoder: turns token ids into text.
        sample_rate: in Hz.
        device: of the stages.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        decoder: CTCDecoder,
        text_encoder: TextEncoder,
        sample_rate: int,
        device: torch.device,
    ):
        self.stages, self.decoder, self.text_encoder = list(stages), decoder, text_encoder
        self.sample_rate, self.device = sample_rate, device
        texts = [token.replace(WORD_START, " ") for token in text_encoder.vocabulary]
        self.starts_word = [text.startswith(" ") for text in texts]

    @property
    def latency(self) -> float:
        """Seconds between a sound and the output for it at the latest, without computing time."""
        period, seconds = 1 / self.sample_rate, 0.0  # of a frame
        for stage in self.stages:
            if isinstance(stage, Sliding):
                seconds += stage.right * period
                period *= stage.stride / stage.outputs
            elif isinstance(stage, Cached):
                seconds += (stage.chunk or 1) * period
        return seconds


class Stream:
    """One stream: `accept` samples as they come, look at `partial`, and `finish`.

    Args:
        recogniser: of this stream and others.
        state: of an earlier stream, from `state()`, to be gone on with.
    """

    def __init__(self, recogniser: StreamingRecogniser, state: Mapping[str, Tensor] | None = None):
        self.recogniser = recogniser
        self.own_rate = 0  # of the packets; 0: none has come
        self.heard = 0  # samples
        self.finished = False
        self.words: list[str] = []
        self.states: list[dict[str, Tensor]] = [{} for _ in range(len(recogniser.stages) + 1)]
        searched = None
        if state is not None:
            searched = self.restore(state)
        self.search = recogniser.decoder.search(searched, self.words)

    def accept(self, samples: Packet, sample_rate: int) -> Partial:
        """Take the next samples, of any number.

        Args:
            samples: [T] or [channels, T].
            sample_rate: in Hz, the same for all samples of a stream.

        Returns:
            The transcript so far.

        Raises:
            ValueError: the stream has ended, the sample rate changes, or a sample isn't finite.
        """
        accept_all([self], [samples], sample_rate)
        return self.partial

    def finish(self) -> str:
        """The transcript of the whole stream, which is the same as that of the recording.

        Raises:
            ValueError: the stream has ended before.
        """
        finish_all([self])
        return str(self.partial)

    @property
    def partial(self) -> Partial:
        """The transcript so far."""
        pending = self.recogniser.text_encoder.decode(self.search.best())
        return Partial(" ".join(self.words), pending)

    @property
    def seconds(self) -> float:
        """How much audio has come."""
        return self.heard / self.own_rate if self.own_rate else 0.0

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on later, or elsewhere: a plain dict of tensors.

        Raises:
            ValueError: the stream has ended.
        """
        self.check_open()
        words = torch.frombuffer(
            bytearray(" ".join(self.words).encode() or b" "), dtype=torch.uint8
        )
        named = {WORDS: words, RATE: torch.tensor(self.own_rate), HEARD: torch.tensor(self.heard)}
        parts = {str(i): own for i, own in enumerate(self.states)} | {SEARCH: self.search.state()}
        for part, own in parts.items():
            named |= {f"{part}.{name}": value.detach().cpu() for name, value in own.items()}
        return named

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Take over a state, and return the search's part of it.

        Raises:
            ValueError: it isn't one of a stream of this recogniser.
        """
        searched: dict[str, Tensor] = {}
        resampler = Sliding(lambda audio, length: (audio, length))
        stages: list[Stage] = [resampler, *self.recogniser.stages]
        try:
            self.words = bytes(state[WORDS].tolist()).decode().split()
            self.own_rate, self.heard = int(state[RATE]), int(state[HEARD])
            for key, value in state.items():
                part, _, name = key.partition(".")
                if part == SEARCH:
                    searched[name] = value.clone()
                elif name:
                    stages[int(part)].check(name, value)
                    device = "cpu" if value.dtype == torch.int64 else self.recogniser.device
                    self.states[int(part)][name] = value.to(device, copy=True)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            reason = f"not of a stream of this recogniser ({sentence(error)})"
            raise ValueError(f"stream, state: {reason}.") from None
        return searched or None

    def check_open(self) -> None:
        """Check that the stream hasn't ended.

        Raises:
            ValueError: it has.
        """
        if self.finished:
            raise ValueError("stream: it has ended; begin another one by System.stream().")

    def check(self, samples: Packet, sample_rate: int) -> Tensor:
        """Samples as mono [T].

        Raises:
            ValueError: see `accept`.
        """
        self.check_open()
        check_whole("sample_rate", sample_rate, *SAMPLE_RATES)
        if self.own_rate not in (0, sample_rate):
            raise ValueError(
                f"stream, sample_rate: {sample_rate} Hz after {self.own_rate} Hz; the same for all."
            )
        return to_mono_at(given_samples(samples), sample_rate, sample_rate)

    def decode(self, log_probs: Tensor | None) -> None:
        """Go on with the search by log-probabilities [V, T'], and commit words that are final."""
        if log_probs is None:
            return
        self.search.advance(log_probs.T.float().cpu())
        certain = self.search.certain()
        starts = [i for i, token in enumerate(certain) if self.recogniser.starts_word[token]]
        if starts and starts[-1]:
            text = self.recogniser.text_encoder.decode(certain[: starts[-1]])
            self.words += text.split()
            self.search.commit(starts[-1])


@torch.no_grad()
def accept_all(streams: Sequence[Stream], packets: Sequence[Packet], sample_rate: int) -> None:
    """Take the next samples of several streams of one recogniser, which are computed as a batch.

    Args:
        streams: of any age.
        packets: samples of each, [T] or [channels, T] of any sizes.
        sample_rate: of all of them, in Hz.

    Raises:
        ValueError: see `Stream.accept`; or the streams are of several recognisers.
    """
    checked = [one.check(packet, sample_rate) for one, packet in zip(streams, packets, strict=True)]
    new: list[Tensor | None] = []
    for stream, audio in zip(streams, checked, strict=True):
        stream.own_rate, stream.heard = sample_rate, stream.heard + len(audio)
        new.append(audio.to(stream.recogniser.device) if len(audio) else None)
    advance(streams, new, False)


@torch.no_grad()
def finish_all(streams: Sequence[Stream]) -> None:
    """End several streams of one recogniser, which are computed as a batch.

    Raises:
        ValueError: one has ended before; or they are of several recognisers.
    """
    for stream in streams:
        stream.check_open()
    advance(streams, [None] * len(streams), True)
    for stream in streams:
        stream.finished = True


def advance(streams: Sequence[Stream], inputs: list[Tensor | None], end: bool) -> None:
    """Apply all stages and decoders to new samples [T] of streams."""
    if not streams:
        return
    recogniser = streams[0].recogniser
    if any(stream.recogniser is not recogniser for stream in streams):
        raise ValueError("streams: of several recognisers; a batch needs streams of one.")
    by_rate: dict[int, list[int]] = {}
    for i, stream in enumerate(streams):
        by_rate.setdefault(stream.own_rate, []).append(i)
    ends = [end] * len(streams)
    for own_rate, rows in by_rate.items():
        if own_rate not in (0, recogniser.sample_rate):
            resampled = resampling(own_rate, recogniser.sample_rate).advance(
                [streams[i].states[0] for i in rows],
                [inputs[i] for i in rows],
                [end] * len(rows),
            )
            for i, audio in zip(rows, resampled, strict=True):
                inputs[i] = audio
    for number, stage in enumerate(recogniser.stages, start=1):
        inputs = stage.advance([stream.states[number] for stream in streams], inputs, ends)
    for stream, log_probs in zip(streams, inputs, strict=True):
        stream.decode(log_probs)


def build_recogniser(
    model: Any,
    transforms: Chain,
    task: Any,
    sample_rate: int,
    context: tuple[int, int] | None,
    decoder: str | None,
) -> StreamingRecogniser:
    """What the streams of a recogniser have in common.

    Args:
        model: in evaluation mode.
        transforms: of inference.
        task: of recognition.
        sample_rate: in Hz.
        context: left and right context of attention in frames; None: that of evaluation.
        decoder: name of one of the task's; None: the first.

    Raises:
        ValueError: a part needs the whole utterance, or there is no such context or decoder.
    """
    decoders = getattr(task, "decoders", None)
    if not decoders or not hasattr(model, "streaming_stages"):
        raise ValueError(f"stream: {type(model).__name__} is no recogniser for streams.")
    name = next(iter(decoders)) if decoder is None else decoder
    check_choice("stream, decoder", name, tuple(decoders))
    for key, transform in transforms.items():
        if not hasattr(transform, "streaming_stage"):
            raise ValueError(f"transforms.batch.inference.{key}: needs the whole utterance.")
    fronts: list[Any] = list(transforms.values())
    stages = [front.streaming_stage() for front in fronts]
    stages += model.streaming_stages(context)
    device = next(model.parameters()).device
    return StreamingRecogniser(stages, decoders[name], task.text_encoder, sample_rate, device)


def resampling(own_rate: int, sample_rate: int) -> Sliding:
    """The stage that converts a sample rate: [B, T] to [B, T'].

    The weights of the filter repeat after own_rate / gcd samples, which are a group.
    """
    factor = gcd(own_rate, sample_rate)
    old, new = own_rate // factor, sample_rate // factor
    width = reach(old, new)

    def convert(audio: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        return resample(audio, old, new), (length * new + old - 1) // old

    return Sliding(convert, old, -(-width // old) + 1, width + old, new)
