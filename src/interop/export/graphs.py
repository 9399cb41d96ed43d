"""What is exported: networks and front ends as modules of tensors, with the names of their files.

Every graph takes a signal [B, ..., T] and its lengths [B], for any B and T, and ignores what the
signal holds beyond the end of an item.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from src.interop.export.log_mel_input import centred_and_normalised, shortened
from src.models.conformer import ConformerEncoder
from src.models.mossformer2 import MossFormer2
from src.models.ops.masking import mask_padding
from src.transforms.chain import Chain
from src.utils.lengths import padding_mask

TRACED_SECONDS = (2.3, 1.7)  # of the two items with which a graph is traced


class Graph(nn.Module):
    """A module of a signal and its lengths.

    Attributes:
        name: of the file, without its suffix.
        inputs: names of the signal and of its lengths.
        outputs: names of the outputs, first the main one.
        bins: size of the signal's second axis [B, bins, T]; None for samples [B, T].
        rate: elements of the signal in a second.
    """

    name = "model"
    inputs: tuple[str, str]
    outputs: tuple[str, ...]
    bins: int | None = None
    rate: float

    def example(self, seconds: Sequence[float], seed: int = 0) -> tuple[Tensor, Tensor]:
        """Random inputs, also beyond the end of items.

        Args:
            seconds: duration of each item.
            seed: of the random numbers.

        Returns:
            The signal [B, T] or [B, bins, T], and the lengths [B].
        """
        length = torch.tensor([max(1, round(duration * self.rate)) for duration in seconds])
        shape = [len(length), int(length.max())]
        if self.bins is not None:
            shape.insert(1, self.bins)
        generator = torch.Generator().manual_seed(seed)
        scale = 0.1 if self.bins is None else 1.0
        return scale * torch.randn(shape, generator=generator), length


class FrontendGraph(Graph):
    """Audio to spectrograms, by the transforms of inference.

    Args:
        transforms: of inference.
        sample_rate: in Hz.
    """

    name = "frontend"
    inputs = ("audio", "audio_length")
    outputs = ("audio_signal", "length")

    def __init__(self, transforms: Chain, sample_rate: int):
        super().__init__()
        self.transforms, self.rate = transforms, sample_rate

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] and [B] in samples to [B, F, T'] and [B] in frames."""
        batch = self.transforms(audio=audio, audio_length=audio_length)
        return batch["spectrogram"], batch["spectrogram_length"]


class RecogniserGraph(Graph):
    """Spectrograms to CTC log-probabilities.

    Args:
        network: returns `log_probs` and `log_probs_length`.
        bins: of the spectrogram.
        rate: frames of the spectrogram in a second.
        factor: input frames for one output frame, as clients take it; 0 for no clients that
            compute log-mel spectrograms of their own, see `log_mel_input`.
    """

    inputs = ("audio_signal", "length")
    outputs = ("logprobs", "logprobs_length")

    def __init__(self, network: nn.Module, bins: int, rate: float, factor: int = 0):
        super().__init__()
        self.network, self.bins, self.rate, self.factor = network, bins, rate, factor

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F, T] and [B] in frames to [B, T', V] and [B] in output frames."""
        x = zeros_beyond(audio_signal, length)
        if not self.factor:
            outputs = self.network(spectrogram=x, spectrogram_length=length)
            return outputs["log_probs"], outputs["log_probs_length"]
        x, plain = centred_and_normalised(x, length)
        outputs = self.network(spectrogram=x, spectrogram_length=length)
        log_probs, frames = outputs["log_probs"], outputs["log_probs_length"]
        more = plain & (frames > length // self.factor)[:, None, None]
        return torch.where(more, shortened(log_probs, frames), log_probs), frames


class EncoderGraph(Graph):
    """Spectrograms to the vectors of a pretrained encoder.

    Args:
        encoder: of NEST.
        rate: frames of the spectrogram in a second.
    """

    inputs = ("audio_signal", "length")
    outputs = ("encoded", "encoded_length")

    def __init__(self, encoder: ConformerEncoder, rate: float):
        super().__init__()
        self.encoder, self.bins, self.rate = encoder, encoder.feat_in, rate

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F, T] and [B] in frames to [B, D, T'] and [B] in output frames."""
        factor = self.encoder.subsampling.factor
        x = pad(audio_signal, (0, -audio_signal.shape[2] % factor))  # as in NEST
        outputs = self.encoder(spectrogram=x, spectrogram_length=length)
        return outputs["encoded"], outputs["encoded_length"]


class SeparatorGraph(Graph):
    """Mixtures to the signals of their speakers.

    Args:
        network: the separator.
        sample_rate: in Hz.
    """

    inputs = ("audio", "audio_length")
    outputs = ("estimates",)

    def __init__(self, network: MossFormer2, sample_rate: int):
        super().__init__()
        self.network, self.rate = network, sample_rate

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, ...]:
        """[B, T] and [B] in samples to [B, S, T]."""
        x = zeros_beyond(audio.unsqueeze(1), audio_length).squeeze(1)
        return (self.network(audio=x, audio_length=audio_length)["estimates"],)


def zeros_beyond(signal: Tensor, length: Tensor) -> Tensor:
    """A signal [B, F, T] with zeros beyond the end of each item."""
    mask = padding_mask(length, signal.shape[2]).unsqueeze(2)
    return mask_padding(signal.transpose(1, 2), mask).transpose(1, 2)


def dynamic_shapes(graph: Graph) -> tuple[dict[int, Any], dict[int, Any]]:
    """Which axes of the inputs of a graph vary, for torch.export."""
    dynamic = torch.export.Dim.DYNAMIC
    time = 1 if graph.bins is None else 2
    return {0: dynamic, time: dynamic}, {0: dynamic}
