"""The streaming form of a recogniser: one chunk at a time, with caches as inputs and outputs.

Inputs and outputs have the names, order and shapes of NeMo's cache-aware exports, which
sherpa-onnx's `OnlineRecognizer.from_nemo_ctc` runs. Two things differ, so that a stream equals the
recording: a chunk is as long as the distance to the next one, and what the subsampling needs of
the frames before it is kept in the second cache, with their number at the end.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from src.interop.export.graphs import Graph, zeros_beyond
from src.models.encoder_ctc import EncoderCTC
from src.models.layers.conformer.streaming import StreamingBlocks

CACHES = ("cache_last_channel", "cache_last_time", "cache_last_channel_len")


class StreamingGraph(Graph):
    """The next chunk of log-mel energies to the next frames of CTC log-probabilities.

    Args:
        network: a Conformer with limited context and causal convolutions.
        context: left and right context of attention in frames.
        rate: frames of the spectrogram in a second.
        scale: fixed mean and deviation by which the energies are normalised; None: they aren't.

    Raises:
        ValueError: the network needs the whole utterance, or another context.
    """

    name = "streaming"
    inputs = ("audio_signal", "length", *CACHES)  # type: ignore[assignment]
    outputs = ("logprobs", "logprobs_length", *(f"{name}_next" for name in CACHES))

    def __init__(
        self,
        network: EncoderCTC,
        context: tuple[int, int],
        rate: float,
        scale: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.network, self.context, self.rate = network, context, rate
        self.scale = scale or (0.0, 1.0)
        encoder: Any = network.encoder
        self.encoder, self.bins = encoder, encoder.feat_in
        self.blocks = StreamingBlocks(encoder, context)
        subsampling = encoder.subsampling.streaming_stage()
        self.stride = stride = subsampling.stride
        self.past = subsampling.left * stride  # frames before a chunk that the subsampling needs
        self.size = self.blocks.chunk * stride  # of a chunk, in frames of the spectrogram
        if subsampling.right >= stride:
            raise ValueError("subsampling: needs frames beyond a chunk; no streaming export.")
        caches = self.blocks.stage().caches
        self.channel_shape = list(caches["attention"].shape)
        self.conv_shape = list(caches["convolution"].shape)
        conv_size = caches["convolution"].numel()
        self.time_shape = [1, 1, conv_size + self.bins * self.past + 1]

    @property
    def metadata(self) -> dict[str, str]:  # type: ignore[override]
        """What sherpa-onnx reads from the file."""
        numbers = {
            "vocab_size": self.network.head.out_features,
            "window_size": self.size,
            "chunk_shift": self.size,
            "subsampling_factor": self.encoder.subsampling.factor,
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
            time[row, ..., -1] = self.past
            filled[row] = self.context[0]
        return signal * self.scale[1] + self.scale[0], length, channel, time, filled

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Which axes of the inputs vary, for torch.export: the first."""
        return tuple({0: torch.export.Dim.DYNAMIC} for _ in self.inputs)

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
        x = zeros_beyond((audio_signal - self.scale[0]) / self.scale[1], length)
        batch = x.shape[0]
        flat, seen = time.flatten(1)[:, :-1], time[:, 0, 0, -1].long()
        conv_size = flat.shape[1] - self.past * x.shape[1]
        conv = flat[:, :conv_size].reshape(batch, *self.conv_shape)
        before = flat[:, conv_size:].reshape(batch, x.shape[1], self.past)
        frames = torch.cat([before, x], 2)
        # Nothing is before the first frame, not even frames of zeros: those that are there are
        # moved to the front.
        index = torch.arange(self.past + self.size) + (self.past - seen)[:, None]
        index = index.clamp(max=self.past + self.size - 1)[:, None].expand(-1, x.shape[1], -1)
        y, count = self.encoder.subsampling(frames.gather(2, index), seen + length)
        start = seen // self.stride  # outputs of earlier chunks
        index = torch.arange(self.blocks.chunk) + start[:, None]
        index = index.clamp(max=y.shape[1] - 1)
        y = y.gather(1, index.unsqueeze(2).expand(-1, -1, y.shape[2]))
        count = (count - start).clamp(min=0, max=self.blocks.chunk)
        caches = {"attention": channel, "attention_length": filled, "convolution": conv}
        encoded, caches = self.blocks.step(y.transpose(1, 2), count, caches)
        seen = (seen + self.size).clamp(max=self.past).to(x.dtype)[:, None]
        kept = [caches["convolution"].flatten(1), frames[:, :, self.size :].flatten(1), seen]
        return (
            self.network.apply_head(encoded),
            count,
            caches["attention"],
            torch.cat(kept, 1)[:, None, None],
            caches["attention_length"],
        )
