"""A recogniser on a stream of audio, whose transcript equals that of the whole recording."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from src.text_encoder.base import WORD_START, TextEncoder
from src.text_encoder.decoders.base import CTCDecoder, Search
from src.transforms.chain import Chain
from src.utils.annotations import fits
from src.utils.audio import given_samples, to_mono_at
from src.utils.audio_files import SAMPLE_RATES
from src.utils.entry import sentence
from src.utils.options import check_choice, check_whole, refuse
from src.utils.resampling import resampling_stage
from src.utils.stages import COUNTS, HELD, Cached, Sliding, Stage

Packet = Any  # samples [T] or [channels, T]: a tensor, an array or a list

SEARCH, FINAL, RATE, SAMPLES = "search", "final", "sample_rate", "num_samples"
IDENTITY = "identity"


@dataclass(frozen=True)
class Partial:
    """The transcript so far.

    Attributes:
        final: words that can't change any more.
        pending: what follows them in the best hypothesis.
        space: between the two; none where the vocabulary has no spaces.
    """

    final: str
    pending: str
    space: str = " "

    def __str__(self) -> str:
        return f"{self.final}{self.space}{self.pending}".strip()


class StreamingRecogniser:
    """What all streams of a recogniser have in common; made by `System.stream`.

    Args:
        stages: from samples [T] at `sample_rate` to log-probabilities [V, T'].
        decoder: of the log-probabilities.
        text_encoder: turns token ids into text.
        sample_rate: in Hz.
        device: of the stages.
        settings: which of the recogniser's possible streams these are, e.g. its context.
        parts: the model and the front end, whose weights and buffers they use.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        decoder: CTCDecoder,
        text_encoder: TextEncoder,
        sample_rate: int,
        device: torch.device,
        settings: str,
        parts: Sequence[nn.Module],
    ):
        self.settings, self.parts = settings, list(parts)
        self.stages, self.decoder, self.text_encoder = list(stages), decoder, text_encoder
        self.sample_rate, self.device = sample_rate, device
        texts = [token.replace(WORD_START, " ") for token in text_encoder.vocabulary]
        starts_word = [text.startswith(" ") for text in texts]
        # Without spaces, each token is a word of its own.
        self.space = " " if any(starts_word) else ""
        self.starts_word = starts_word if self.space else [True] * len(texts)

    @cached_property
    def identity(self) -> Tensor:
        """What tells states of other recognisers, contexts and decoders apart: uint8 [32]."""
        decoder = sorted((k, v) for k, v in vars(self.decoder).items() if is_plain(v))
        described = [self.settings, self.sample_rate, self.text_encoder.vocabulary]
        described += [type(self.decoder).__qualname__, decoder]
        text = repr(described).encode()
        for tensor in (t for part in self.parts for t in (*part.parameters(), *part.buffers())):
            if tensor.is_floating_point():
                text += struct.pack("d", float(tensor.detach().double().sum()))
        return torch.frombuffer(bytearray(hashlib.sha256(text).digest()), dtype=torch.uint8)

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
        self.num_samples = 0
        self.finished = False
        self.final = ""  # words that can't change any more
        self.states: list[dict[str, Tensor]] = [{} for _ in range(len(recogniser.stages) + 1)]
        if state is None:
            self.search = recogniser.decoder.search()
        else:
            self.search = self.restore(state)

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
        return self.final

    @property
    def partial(self) -> Partial:
        """The transcript so far."""
        if self.finished:
            return Partial(self.final, "")
        pending = self.recogniser.text_encoder.decode(self.search.best())
        return Partial(self.final, pending, self.recogniser.space)

    @property
    def seconds(self) -> float:
        """How much audio has come."""
        return self.num_samples / self.own_rate if self.own_rate else 0.0

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on later, or elsewhere: a plain dict of tensors.

        Raises:
            ValueError: the stream has ended.
        """
        self.check_open()
        final = torch.frombuffer(
            bytearray(self.final.encode()) or bytearray(b" "), dtype=torch.uint8
        )
        named = {
            FINAL: final,
            RATE: torch.tensor(self.own_rate),
            SAMPLES: torch.tensor(self.num_samples),
            IDENTITY: self.recogniser.identity,
        }
        parts = {str(i): own for i, own in enumerate(self.states)} | {SEARCH: self.search.state()}
        for part, own in parts.items():
            named |= {f"{part}.{name}": value for name, value in own.items()}
        # Copies, since the stream goes on, and without the rest of a tensor that one is part of.
        return {name: value.detach().cpu().contiguous().clone() for name, value in named.items()}

    def restore(self, state: Mapping[str, Tensor]) -> Search:
        """Take over a state, and return the search that goes on.

        Raises:
            ValueError: it isn't one of a stream of this recogniser.
        """
        searched: dict[str, Tensor] = {}
        resampler = Sliding(lambda audio, length: (audio, length))
        stages: list[Stage] = [resampler, *self.recogniser.stages]
        try:
            if IDENTITY not in state or not state[IDENTITY].equal(self.recogniser.identity):
                raise ValueError("of another recogniser, context or decoder")
            self.final = bytes(state[FINAL].tolist()).decode().strip()
            self.own_rate, self.num_samples = int(state[RATE]), int(state[SAMPLES])
            for key, value in state.items():
                part, _, name = key.partition(".")
                if part == SEARCH:
                    searched[name] = value.clone()
                elif name:
                    stages[int(part)].check(name, value)
                    device = "cpu" if name in COUNTS else self.recogniser.device
                    self.states[int(part)][name] = value.to(device, copy=True)
            for own in self.states:
                if own and not {HELD, *COUNTS} <= own.keys():
                    raise ValueError("incomplete")
            return self.recogniser.decoder.search(searched, self.final.split())
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            reason = f"not of a stream of this recogniser ({sentence(error)})"
            raise ValueError(f"stream, state: {reason}.") from None

    def check_open(self) -> None:
        """Check that the stream hasn't ended.

        Raises:
            ValueError: it has.
        """
        if self.finished:
            raise ValueError("stream: it has ended; begin another one by System.stream().")

    def check(self, samples: Packet, sample_rate: int) -> Tensor:
        """Samples as mono [T], which share no memory with those of the caller.

        Args:
            samples: [T] or [channels, T].
            sample_rate: in Hz.

        Raises:
            ValueError: the stream has ended, the sample rate changes, or a sample isn't finite.
        """
        self.check_open()
        check_whole("sample_rate", sample_rate, *SAMPLE_RATES)
        if self.own_rate not in (0, sample_rate):
            raise ValueError(
                f"stream, sample_rate: {sample_rate} Hz after {self.own_rate} Hz; the same for all."
            )
        return to_mono_at(given_samples(samples), sample_rate, sample_rate).clone()

    def decode(self, log_probs: Tensor | None) -> None:
        """Go on with the search by log-probabilities [V, T'], and commit words that are final."""
        if log_probs is None:
            return
        self.search.advance(log_probs.T.float().cpu())
        certain = self.search.certain()
        starts = [i for i, token in enumerate(certain) if self.recogniser.starts_word[token]]
        if starts and starts[-1]:
            text = self.recogniser.text_encoder.decode(certain[: starts[-1]])
            self.final = str(Partial(self.final, text, self.recogniser.space))
            self.search.commit(starts[-1])


@torch.no_grad()
def accept_all(streams: Sequence[Stream], packets: Sequence[Packet], sample_rate: int) -> None:
    """Take the next samples of several streams of one recogniser, which are computed as a batch.

    Args:
        streams: of any age.
        packets: samples of each, [T] or [channels, T] of any sizes.
        sample_rate: of all of them, in Hz.

    Raises:
        ValueError: the streams are of several recognisers, or one is there twice; one has ended,
            its sample rate changes, or a sample isn't finite. Then no stream has taken anything.
    """
    check_batch(streams)
    checked = [one.check(packet, sample_rate) for one, packet in zip(streams, packets, strict=True)]
    new: list[Tensor | None] = []
    for stream, audio in zip(streams, checked, strict=True):
        stream.own_rate, stream.num_samples = sample_rate, stream.num_samples + len(audio)
        new.append(audio.to(stream.recogniser.device) if len(audio) else None)
    advance(streams, new, False)


@torch.no_grad()
def finish_all(streams: Sequence[Stream]) -> None:
    """End several streams of one recogniser, which are computed as a batch.

    Raises:
        ValueError: one has ended before; or they are of several recognisers.
    """
    check_batch(streams)
    for stream in streams:
        stream.check_open()
    advance(streams, [None] * len(streams), True)
    for stream in streams:
        stream.final, stream.finished = str(stream.partial), True


def check_batch(streams: Sequence[Stream]) -> None:
    """Check that streams can be computed as a batch.

    Raises:
        ValueError: they are of several recognisers, or one is there twice.
    """
    if any(stream.recogniser is not streams[0].recogniser for stream in streams):
        raise ValueError("streams: of several recognisers; a batch needs streams of one.")
    if len({id(stream) for stream in streams}) < len(streams):
        raise ValueError("streams: one is there twice; a batch takes one packet of each.")


def advance(streams: Sequence[Stream], inputs: list[Tensor | None], end: bool) -> None:
    """Apply all stages and decoders to new samples [T] of streams."""
    if not streams:
        return
    recogniser = streams[0].recogniser
    by_rate: dict[int, list[int]] = {}
    for i, stream in enumerate(streams):
        by_rate.setdefault(stream.own_rate, []).append(i)
    ends = [end] * len(streams)
    for own_rate, rows in by_rate.items():
        if own_rate not in (0, recogniser.sample_rate):
            resampled = resampling_stage(own_rate, recogniser.sample_rate).advance(
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
    decoder: str,
) -> StreamingRecogniser:
    """What the streams of a recogniser have in common.

    Args:
        model: in evaluation mode.
        transforms: of inference.
        task: of recognition.
        sample_rate: in Hz.
        context: left and right context of attention in frames; None for a model without.
        decoder: name of one of the task's.

    Raises:
        ValueError: a part needs the whole utterance, or there is no such context.
    """
    for key, transform in transforms.items():
        if not hasattr(transform, "streaming_stage"):
            raise ValueError(f"transforms.batch.inference.{key}: needs the whole utterance.")
    fronts: list[Any] = list(transforms.values())
    stages = [front.streaming_stage() for front in fronts]
    stages += model.streaming_stages(context)
    device, parts = next(model.parameters()).device, [model, *fronts]
    return StreamingRecogniser(
        stages, task.decoders[decoder], task.text_encoder, sample_rate, device, str(context), parts
    )


def choices(
    model: Any, task: Any, context: Sequence[int] | None, decoder: str | None
) -> tuple[tuple[int, int] | None, str]:
    """The context and the decoder of a stream, also where they are left open.

    Args:
        model: with one context of attention or several, or none.
        task: of recognition.
        context: left and right context of attention in frames; None: that of evaluation.
        decoder: name of one of the task's; None: the first.

    Raises:
        ValueError: the model is no recogniser for streams, the context no pair of whole numbers,
            or there is no such decoder.
    """
    decoders = getattr(task, "decoders", None)
    if not decoders or not hasattr(model, "streaming_stages"):
        raise ValueError(f"stream: {type(model).__name__} is no recogniser for streams.")
    name = next(iter(decoders)) if decoder is None else decoder
    check_choice("stream, decoder", name, tuple(decoders))
    if context is None:
        encoder = getattr(model, "encoder", None)
        return getattr(encoder, "att_context_sizes", [None])[0], name
    if not fits(context, tuple[int, int]):
        refuse("stream, context", context, "left and right, two whole numbers of frames")
    return (context[0], context[1]), name


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or a list of these."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    return isinstance(value, bool | int | float | str | None)
