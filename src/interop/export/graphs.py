"""What is exported: networks and front ends as modules of tensors, with the names of their files.

Every graph takes a signal [B, ..., T] and its lengths [B], for any B and T, and ignores what the
signal holds beyond the end of an item.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from src.models.conformer import ConformerEncoder
from src.models.mossformer2 import MossFormer2
from src.models.ops.masking import mask_padding
from src.transforms.chain import Chain
from src.utils.lengths import padding_mask

TRACED_SECONDS = (2.3, 1.7)  # of the two items with which a graph is traced
CLIENT_EPSILON = 1e-5  # that sherpa-onnx adds to the variance of samples


class Graph(nn.Module):
    """A module of a signal and its lengths.

    Attributes:
        name: of the file, without its suffix.
        inputs: names of the signal and of its lengths.
        outputs: names of the outputs, first the main one.
        bins: size of the signal's second axis [B, bins, T]; None for samples [B, T].
        rate: elements of the signal in a second.
        metadata: of its ONNX file.
    """

    name = "model"
    inputs: tuple[str, str]
    outputs: tuple[str, ...]
    bins: int | None = None
    rate: float
    metadata: Mapping[str, str] = MappingProxyType({})

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

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Which axes of the inputs vary, for torch.export."""
        dynamic = torch.export.Dim.DYNAMIC
        time = 1 if self.bins is None else 2
        return {0: dynamic, time: dynamic}, {0: dynamic}


class FrontendGraph(Graph):
    """Audio to spectrograms, by the transforms of inference.

    Args:
        transforms: of inference.
        sample_rate: in Hz.
        scale: fixed mean and deviation by which the transforms normalise log energies, which is
            undone: the network does it, for clients that compute log energies.
    """

    name = "frontend"
    inputs = ("audio", "audio_length")
    outputs = ("audio_signal", "length")

    def __init__(
        self, transforms: Chain, sample_rate: int, scale: tuple[float, float] | None = None
    ):
        super().__init__()
        self.transforms, self.rate, self.scale = transforms, sample_rate, scale

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T] and [B] in samples to [B, F, T'] and [B] in frames."""
        batch = self.transforms(audio=audio, audio_length=audio_length)
        x, length = batch["spectrogram"], batch["spectrogram_length"]
        if self.scale is not None:
            x = zeros_beyond(x * self.scale[1] + self.scale[0], length)
        return x, length


class RecogniserGraph(Graph):
    """Spectrograms to CTC log-probabilities.

    Args:
        network: returns `log_probs` and `log_probs_length`.
        bins: of the spectrogram.
        rate: frames of the spectrogram in a second.
        scale: fixed mean and deviation by which log energies are normalised; None: the input is
            normalised.
    """

    inputs = ("audio_signal", "length")
    outputs = ("logprobs", "logprobs_length")

    def __init__(
        self,
        network: nn.Module,
        bins: int,
        rate: float,
        scale: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.network, self.bins, self.rate, self.scale = network, bins, rate, scale

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F, T] and [B] in frames to [B, T', V] and [B] in output frames."""
        x = audio_signal
        if self.scale is not None:
            x = (x - self.scale[0]) / self.scale[1]
        outputs = self.network(spectrogram=zeros_beyond(x, length), spectrogram_length=length)
        return outputs["log_probs"], outputs["log_probs_length"]


class SamplesGraph(Graph):
    """Normalised samples to CTC log-probabilities, for `OfflineRecognizer` of sherpa-onnx.

    The form is that of Omnilingual ASR's models: one input of samples with mean 0 and variance 1.
    The level matters where energies are close to the offset of the logarithm, and is restored;
    the mean, which is inaudible, isn't.

    Args:
        front: samples to spectrograms.
        recogniser: spectrograms to log-probabilities.
        blank: id of the blank token.
    """

    name = "samples"
    inputs = ("audio",)  # type: ignore[assignment]
    outputs = ("logprobs",)

    def __init__(self, front: FrontendGraph, recogniser: RecogniserGraph, blank: int):
        super().__init__()
        self.front, self.recogniser, self.blank = front, recogniser, blank
        self.rate = front.rate

    def example(self, seconds: Sequence[float], seed: int = 0) -> tuple[Tensor]:  # type: ignore[override]
        """Random normalised samples [B, T] of the longest of the given durations."""
        audio, _ = super().example(seconds, seed)
        audio = audio - audio.mean(1, keepdim=True)
        return (audio / (audio.var(1, correction=0, keepdim=True) + CLIENT_EPSILON).sqrt(),)

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """Which axes of the input vary, for torch.export."""
        return ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)

    def forward(self, audio: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        """[B, T] to [B, T', V], with blanks beyond the last output frame."""
        audio = original_level(audio)
        samples = torch.ones_like(audio[:, 0], dtype=torch.int64) * audio.shape[1]
        log_probs, length = self.recogniser(*self.front(audio, samples))
        mask = padding_mask(length, log_probs.shape[1]).unsqueeze(2)
        return (blank_where(mask, log_probs, self.blank),)


def original_level(audio: Tensor) -> Tensor:
    """Samples [B, T] before their division by the root of (variance + CLIENT_EPSILON).

    With the variance v before, the mean square after is m = v / (v + epsilon).
    """
    mean_square = audio.double().square().mean(1, keepdim=True)
    variance = CLIENT_EPSILON * mean_square / (1 - mean_square).clamp(min=1e-6)
    return audio * (variance + CLIENT_EPSILON).sqrt().to(audio.dtype)


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


def blank_where(mask: Tensor, log_probs: Tensor, blank: int) -> Tensor:
    """Log-probabilities [B, T, V] with certain blanks where a mask [B, T or 1, 1] is True."""
    is_blank = torch.arange(log_probs.shape[2]) == blank
    return torch.where(mask, torch.where(is_blank, 0.0, -100.0), log_probs)


def zeros_beyond(signal: Tensor, length: Tensor) -> Tensor:
    """A signal [B, F, T] with zeros beyond the end of each item."""
    mask = padding_mask(length, signal.shape[2]).unsqueeze(2)
    return mask_padding(signal.transpose(1, 2), mask).transpose(1, 2)
