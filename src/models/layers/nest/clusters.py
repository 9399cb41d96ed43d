"""Tokens of speech from clustered features (HuBERT, Hsu et al., arXiv 2106.07447)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.layers.nest.quantizer import nearest_code
from src.utils.options import check_sizes, check_whole


class StackedFrames(nn.Module):
    """Stacked frames of a log-mel spectrogram, or of its cepstrum, as vectors to cluster.

    For the first round of HuBERT (section 2.1), which clusters MFCCs with their differences of
    time; stacked frames hold these differences, and need no frame outside of their own token.

    Args:
        feat_in: frequency bins of a frame.
        combine_time_steps: consecutive frames that are stacked for one vector.
        num_ceps: first cepstral coefficients of each frame to use, e.g. 13, up to feat_in; None
            for the spectrogram itself.

    Raises:
        ValueError: a size is not a whole number from 1, or num_ceps is out of range.
    """

    num_codebooks = 1
    basis: Tensor | None

    def __init__(self, feat_in: int = 80, combine_time_steps: int = 4, num_ceps: int | None = None):
        super().__init__()
        check_sizes("StackedFrames", feat_in=feat_in, combine_time_steps=combine_time_steps)
        check_whole("StackedFrames.num_ceps", num_ceps, 1, feat_in, optional=True)
        self.feat_in, self.combine_time_steps = feat_in, combine_time_steps
        self.size = combine_time_steps * (num_ceps or feat_in)
        basis = None if num_ceps is None else cosine_basis(feat_in, num_ceps)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor | None = None) -> Tensor:
        """Stack the frames of a batch.

        Args:
            spectrogram: [B, F, T]; T is a multiple of combine_time_steps.
            spectrogram_length: not needed, since each vector depends on its own frames only.

        Returns:
            [1, B, T / combine_time_steps, size].
        """
        frames = spectrogram.transpose(1, 2)
        if self.basis is not None:
            frames = frames @ self.basis
        return frames.unflatten(1, (-1, self.combine_time_steps)).flatten(2).unsqueeze(0)


class EncoderLayers(nn.Module):
    """Hidden states of a pretrained encoder, which stays as it is, as vectors to cluster.

    For the second round of HuBERT (section 2.1). Several layers give a codebook each, a cluster
    ensemble (section 2.3).

    Args:
        encoder: whose states are used; frozen, and always in evaluation mode.
        layers: of the states: 0 for the input of the first block, i for the output of block i.

    Raises:
        ValueError: there is no layer, or one that the encoder doesn't have.
    """

    def __init__(self, encoder: ConformerEncoder, layers: Sequence[int]):
        super().__init__()
        check_whole("EncoderLayers.layers, number", len(layers))
        for layer in layers:
            check_whole("EncoderLayers.layers", layer, 0, len(encoder.layers))
        self.encoder = encoder.requires_grad_(False).eval()
        self.layers, self.num_codebooks = list(layers), len(layers)
        self.feat_in, self.size = encoder.feat_in, encoder.d_model
        self.combine_time_steps = encoder.subsampling.factor

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor) -> Tensor:
        """Compute the hidden states of a batch.

        Args:
            spectrogram: [B, F, T]; T is a multiple of combine_time_steps.
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            [num_codebooks, B, T / combine_time_steps, size].
        """
        states, _ = self.encoder.all_hidden_states(spectrogram, spectrogram_length)
        size = spectrogram.shape[2] // self.combine_time_steps  # causal subsampling has one more
        return states[self.layers, :, :size]

    def train(self, mode: bool = True) -> "EncoderLayers":
        """Set the mode; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self


class ClusterQuantizer(nn.Module):
    """Tokens of a spectrogram: the cluster centre that is nearest to its features (HuBERT).

    The centres, `codebooks`, are computed by `scripts/cluster_features.py` and never trained.

    Args:
        features: gives the vectors that are clustered.
        codebook_size: number of clusters, from 2.
        num_codebooks: number of the layers of features, each of which has centres of its own.

    Raises:
        ValueError: a size is out of range, or isn't that of the features.
    """

    def __init__(
        self,
        features: StackedFrames | EncoderLayers,
        codebook_size: int = 256,
        num_codebooks: int = 1,
    ):
        super().__init__()
        check_whole("ClusterQuantizer.codebook_size", codebook_size, low=2)
        if num_codebooks != features.num_codebooks:
            raise ValueError(
                f"ClusterQuantizer.num_codebooks: {num_codebooks}; {features.num_codebooks}, one "
                "for each layer of the features."
            )
        self.features = features
        self.feat_in, self.combine_time_steps = features.feat_in, features.combine_time_steps
        self.codebooks = nn.Parameter(torch.zeros(num_codebooks, codebook_size, features.size))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor) -> Tensor:
        """Quantize a batch.

        Args:
            spectrogram: [B, F, T]; T is a multiple of combine_time_steps.
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            Indices of clusters [B, T / combine_time_steps, num_codebooks], int64.
        """
        # Targets in full precision, as those that the centres were computed from.
        with torch.autocast(spectrogram.device.type, enabled=False):
            vectors = self.features(spectrogram.float(), spectrogram_length)
            pairs = zip(vectors.float(), self.codebooks.float(), strict=True)
            return torch.stack([nearest_code(*pair) for pair in pairs], dim=2)


def cosine_basis(size: int, number: int) -> Tensor:
    """Orthonormal basis [size, number] of the discrete cosine transform of type 2."""
    positions = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    basis = torch.cos(positions.unsqueeze(1) * torch.arange(number)) * math.sqrt(2 / size)
    basis[:, 0] /= math.sqrt(2)
    return basis.float()
