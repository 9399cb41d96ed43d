"""The streaming form of a recogniser: one chunk at a time, with caches as inputs and outputs.

Inputs and outputs have the names, order and shapes of NeMo's cache-aware exports, which
sherpa-onnx's `OnlineRecognizer.from_nemo_ctc` runs. Two things differ, so that a stream equals the
recording: a chunk is as long as the distance to the next one, and what the convolutions need of
the frames before it is kept in the second cache, with a number of frames at the end.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from src.interop.export.graphs import Graph, blank_where, zeros_beyond
from src.interop.export.recogniser import BLANK_ID
from src.models.deepspeech2 import DeepSpeech2
from src.models.encoder_ctc import EncoderCTC
from src.models.layers.conformer.streaming import StreamingBlocks

CACHES = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")


class StreamingGraph(Graph):
    """The next chunk of log-mel energies to the next frames of CTC log-probabilities.

    Args:
        network: the recogniser.
        bins: of the spectrogram.
        rate: frames of the spectrogram in a second.
        scale: fixed mean and deviation by which the energies are normalised; None: they aren't.

    Attributes:
        context: left and right context of attention in frames; None: no attention.
        stride: frames of the spectrogram for an output frame.
        past: frames of the spectrogram before a chunk that the convolutions need.
        chunk: output frames of a chunk.
        delay: output frames that come after those of the input, and at the end of a stream by
            further chunks of length 0.
        channel_shape, time_shape: of the first two caches of one stream.
        filled: last number of the second cache, and the third cache, of a long stream.
        vocab_size: tokens.
    """

    name = "streaming"
    inputs = ("audio_signal", "length", *CACHES)  # type: ignore[assignment]
    outputs = ("logprobs", "logprobs_length", *(f"{name}_next" for name in CACHES))
    context: tuple[int, int] | None = None
    stride: int
    past: int
    chunk: int
    delay = 0
    channel_shape: list[int]
    time_shape: list[int]
    filled: tuple[int, int]
    vocab_size: int

    def __init__(
        self, network: Any, bins: int, rate: float, scale: tuple[float, float] | None = None
    ):
        super().__init__()
        self.network, self.bins, self.rate = network, bins, rate
        self.scale = scale or (0.0, 1.0)

    @property
    def size(self) -> int:
        """Frames of the spectrogram in a chunk."""
        return self.chunk * self.stride

    @property
    def flushes(self) -> int:
        """Chunks of length 0 after the end of a stream that give the outputs that are left."""
        return -(-self.delay // self.chunk)

    @property
    def metadata(self) -> dict[str, str]:  # type: ignore[override]
        """What sherpa-onnx reads from the file."""
        numbers = {
            "vocab_size": self.vocab_size,
            "window_size": self.size,
            "chunk_shift": self.size,
            "subsampling_factor": self.stride,
            **{f"cache_last_channel_dim{i}": n for i, n in enumerate(self.channel_shape, 1)},
            **{f"cache_last_time_dim{i}": n for i, n in enumerate(self.time_shape, 1)},
        }
        return {name: str(number) for name, number in numbers.items()} | {"normalize_type": ""}

    def caches(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """The caches of new streams."""
        return (
            torch.zeros(batch, *self.channel_shape),
            torch.zeros(batch, *self.time_shape),
            torch.zeros(batch, dtype=torch.int64),
        )

    def example(self, seconds: Sequence[float], seed: int = 0) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Random chunks and caches, one for each of the given durations, which aren't used.

        Every second stream is at its beginning.
        """
        generator = torch.Generator().manual_seed(seed)
        batch = len(seconds)
        signal = torch.randn(batch, self.bins or 0, self.size, generator=generator)
        length = torch.full((batch,), self.size)
        channel, time, filled = (cache.clone() for cache in self.caches(batch))
        for row in range(0 if seed % 2 else 1, batch, 2):
            channel[row].normal_(generator=generator)
            time[row].normal_(generator=generator)
            time[row, ..., -1], filled[row] = self.filled
        return signal * self.scale[1] + self.scale[0], length, channel, time, filled

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Which axes of the inputs vary, for torch.export: the first."""
        return tuple({0: torch.export.Dim.DYNAMIC} for _ in self.inputs)

    def whole(self, spectrogram: Tensor) -> Tensor:
        """Log-probabilities [1, T', V] of a whole normalised spectrogram [1, F, T]."""
        length = torch.tensor([spectrogram.shape[2]])
        with self.in_context():
            return self.network(spectrogram=spectrogram, spectrogram_length=length)["log_probs"]

    def in_context(self) -> AbstractContextManager[None]:
        """Within it, the network has the context of the streams for whole utterances, too."""
        return nullcontext()

    def normalised(self, audio_signal: Tensor, length: Tensor) -> Tensor:
        """Energies [B, F, size] normalised, and zero beyond the end of a stream."""
        return zeros_beyond((audio_signal - self.scale[0]) / self.scale[1], length)


class StreamingConformerGraph(StreamingGraph):
    """A Conformer with limited context and causal convolutions.

    Args:
        network: the recogniser.
        context: left and right context of attention in frames.
        bins: of the spectrogram.
        rate: frames of the spectrogram in a second.
        scale: fixed mean and deviation by which the energies are normalised; None: they aren't.

    Raises:
        ValueError: the network needs the whole utterance, or another context.
    """

    def __init__(
        self,
        network: EncoderCTC,
        context: tuple[int, int],
        bins: int,
        rate: float,
        scale: tuple[float, float] | None = None,
    ):
        super().__init__(network, bins, rate, scale)
        if network.layer_scores is not None:
            raise ValueError("weighted_sum: no streaming export.")
        encoder: Any = network.encoder
        self.encoder, self.context, self.vocab_size = encoder, context, network.head.out_features
        self.blocks = StreamingBlocks(encoder, context)
        subsampling = encoder.subsampling.streaming_stage()
        self.stride = subsampling.stride
        self.past = subsampling.left * self.stride
        self.chunk = self.blocks.chunk
        if subsampling.right >= self.stride:
            raise ValueError("subsampling: needs frames beyond a chunk; no streaming export.")
        caches = self.blocks.stage().caches
        self.channel_shape = list(caches["attention"].shape)
        self.conv_shape = list(caches["convolution"].shape)
        conv_size = caches["convolution"].numel()
        self.time_shape = [1, 1, conv_size + bins * self.past + 1]
        self.filled = (self.past, context[0])

    @contextmanager
    def in_context(self) -> Iterator[None]:
        """Within it, the network has the context of the streams for whole utterances, too."""
        contexts, self.encoder.att_context_sizes = self.encoder.att_context_sizes, [self.context]
        try:
            yield
        finally:
            self.encoder.att_context_sizes = contexts

    def forward(  # type: ignore[override]
        self, audio_signal: Tensor, length: Tensor, channel: Tensor, time: Tensor, filled: Tensor
    ) -> tuple[Tensor, ...]:
        """The log-probabilities of a chunk, and the caches for the next.

        Args:
            audio_signal: log-mel energies [B, F, size].
            length: [B], frames of each chunk; fewer than `size` only at the end of a stream.
            channel: [B, L, left, D], of which the last `filled` frames are filled.
            time: [B, 1, 1, N], the inputs of the convolutions for the frames before.
            filled: [B].

        Returns:
            Log-probabilities [B, right + 1, V], their number [B], and the three new caches.
        """
        x = self.normalised(audio_signal, length)
        batch = x.shape[0]
        flat, seen = time.flatten(1)[:, :-1], time[:, 0, 0, -1].long()
        conv_size = flat.shape[1] - self.past * x.shape[1]
        conv = flat[:, :conv_size].reshape(batch, *self.conv_shape)
        before = flat[:, conv_size:].reshape(batch, x.shape[1], self.past)
        frames = torch.cat([before, x], 2)
        # Nothing is before the first frame, not even frames of zeros: those that are there are
        # moved to the front.
        frames_seen = frames_from(frames, self.past - seen, frames.shape[2])
        y, count = self.encoder.subsampling(frames_seen, seen + length)
        start = seen // self.stride  # outputs of earlier chunks
        y = frames_from(y.transpose(1, 2), start, self.chunk)
        count = (count - start).clamp(min=0, max=self.chunk)
        caches = {"attention": channel, "attention_length": filled, "convolution": conv}
        encoded, caches = self.blocks.step(y, count, caches)
        seen = (seen + self.size).clamp(max=self.past).to(x.dtype)[:, None]
        kept = [caches["convolution"].flatten(1), frames[:, :, self.size :].flatten(1), seen]
        return (
            self.network.apply_head(encoded),
            count,
            caches["attention"],
            torch.cat(kept, 1)[:, None, None],
            caches["attention_length"],
        )


class StreamingDeepSpeech2Graph(StreamingGraph):
    """A DeepSpeech2 of one direction.

    Its outputs are `delay` frames behind those of the input: by what the convolutions and the
    look-ahead need. A chunk is as long as the delay of the convolutions, so that the first chunk
    of a stream has no input for the recurrent layers yet, and every later one has only whole ones.

    Args:
        network: the recogniser.
        bins: of the spectrogram.
        rate: frames of the spectrogram in a second.
        scale: fixed mean and deviation by which the energies are normalised; None: they aren't.
        context: None; the look-ahead is part of the model.

    Raises:
        ValueError: the network is bidirectional, or a context is given.
    """

    def __init__(
        self,
        network: DeepSpeech2,
        bins: int,
        rate: float,
        scale: tuple[float, float] | None = None,
        context: tuple[int, int] | None = None,
    ):
        super().__init__(network, bins, rate, scale)
        stages: list[Any] = network.streaming_stages(context)
        convolution, recurrent, head = stages
        self.stride, behind = convolution.stride, convolution.right // convolution.stride
        self.chunk, self.behind, self.delay = max(1, behind), behind, behind + head.right
        self.past = (convolution.left + behind) * self.stride
        self.channel_shape = list(recurrent.caches["recurrent"].shape)
        self.hidden_shape = [self.channel_shape[-1], head.right]
        hidden_size = self.hidden_shape[0] * self.hidden_shape[1]
        self.time_shape = [1, 1, bins * self.past + hidden_size + 1]
        self.most = max(self.past, self.delay * self.stride)  # frames that are counted
        self.filled = (0, self.most)
        output: Any = network.head[-1]
        self.vocab_size = output.out_features

    def forward(  # type: ignore[override]
        self, audio_signal: Tensor, length: Tensor, channel: Tensor, time: Tensor, filled: Tensor
    ) -> tuple[Tensor, ...]:
        """The log-probabilities that a chunk makes certain, and the caches for the next.

        Args:
            audio_signal: log-mel energies [B, F, size].
            length: [B], frames of each chunk; fewer than `size` end a stream, after which 0 gives
                the outputs that are left.
            channel: [B, L, 1 or 2, D], states of the recurrent layers.
            time: [B, 1, 1, N], the inputs of the convolutions and of the look-ahead for the frames
                before, and how far behind the end of the stream these go, as a negative number.
            filled: [B], frames before the chunk, at most `most`.

        Returns:
            Log-probabilities [B, chunk, V], their number [B], and the three new caches. Those
            beyond the number repeat the last one, or are blanks where there is none, so that a
            client that decodes all of them has the same text.
        """
        x = self.normalised(audio_signal, length)
        batch, bins = x.shape[:2]
        flat, left = time.flatten(1)[:, :-1], time[:, 0, 0, -1].long() + length
        before = flat[:, : bins * self.past].reshape(batch, bins, self.past)
        hidden = flat[:, bins * self.past :].reshape(batch, *self.hidden_shape)
        frames = torch.cat([before, x], 2)
        # Nothing is before the first frame, not even frames of zeros: those that are there are
        # moved to the front.
        seen = filled.clamp(max=self.past)
        frames_seen = frames_from(frames, self.past - seen, frames.shape[2])
        y, _ = self.network.convolve(frames_seen, (seen + left).clamp(min=0))
        y = frames_from(y, seen // self.stride - self.behind, self.chunk)
        all_frames = torch.full_like(length, self.chunk)
        states, caches = self.network.recurrent_step(y, all_frames, {"recurrent": channel})
        begun = filled >= self.behind * self.stride
        channel = torch.where(begun[:, None, None, None], caches["recurrent"], channel)
        hidden = torch.cat([hidden, states], 2)
        # In frames of `hidden`, the first of which is `delay` before the chunk.
        start = (self.delay - filled // self.stride).clamp(min=0, max=self.chunk)
        end = (left + self.delay * self.stride + self.stride - 1).clamp(min=0) // self.stride
        hidden = zeros_beyond(hidden, end)
        end = end.clamp(max=self.chunk)
        count = (end - start).clamp(min=0)
        y = frames_from(self.network.lookahead.conv(hidden), start, self.chunk, end - 1)
        no_padding = torch.zeros_like(y[:, 0, :, None], dtype=torch.bool)
        log_probs = self.network.apply_linear(y.transpose(1, 2), no_padding)
        behind_end = (left - self.size).clamp(min=-self.most).to(x.dtype)[:, None]
        kept = [frames[:, :, self.size :], hidden[:, :, self.chunk :], behind_end]
        return (
            blank_where((count == 0)[:, None, None], log_probs, BLANK_ID),
            count,
            channel,
            torch.cat([part.flatten(1) for part in kept], 1)[:, None, None],
            (filled + self.size).clamp(max=self.most),
        )


def frames_from(x: Tensor, start: Tensor, size: int, last: Tensor | None = None) -> Tensor:
    """`size` frames of x [B, D, T] from those at start [B] on, as [B, D, size].

    The one at `last` [B], or the last of x, stands for those after it.
    """
    index = torch.arange(size) + start[:, None]
    index = index if last is None else torch.minimum(index, last[:, None])
    index = index.clamp(min=0, max=x.shape[2] - 1)
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))
