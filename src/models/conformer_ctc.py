"""Recognisers on a FastConformer: fine-tuned whole, or probed while it stays as it is."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder


class ConformerCTC(nn.Module):
    """An encoder and a linear layer: for CTC.

    Args:
        encoder: of spectrograms.
        n_tokens: of the output, the blank included.
    """

    def __init__(self, encoder: ConformerEncoder, n_tokens: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.output_width, n_tokens)

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        return self.encoder.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """`log_probs` [B, T', n_tokens] and `log_probs_length` [B]."""
        x, length = self.encoder.subsampling(spectrogram, spectrogram_length)
        scores = self.head(self.encoder.encode(x, length))
        return {"log_probs": F.log_softmax(scores.float(), dim=-1), "log_probs_length": length}


class LayerProbe(nn.Module):
    """What a frozen encoder knows: a learnt weighted sum of its layers and a linear layer, for CTC.

    As in SUPERB (Yang et al., arXiv 2105.01051, section 3): each layer's frames are normalised to
    mean 0 and variance 1 before they are weighed, so that a weight says how much a layer counts.

    Args:
        encoder: never trained here, and always in evaluation mode.
        n_tokens: of the output, the blank included.
    """

    def __init__(self, encoder: ConformerEncoder, n_tokens: int):
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.layer_scores = nn.Parameter(torch.zeros(len(encoder.layers) + 1))
        self.head = nn.Linear(encoder.width, n_tokens)

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        return self.encoder.output_length(frames)

    def layer_weights(self) -> Tensor:
        """What the subsampling and each layer weigh, adding up to 1: [layers + 1]."""
        return self.layer_scores.softmax(0)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """`log_probs` [B, T', n_tokens] and `log_probs_length` [B]."""
        with torch.no_grad():
            x, length = self.encoder.subsampling(spectrogram, spectrogram_length)
            states = torch.stack(list(self.encoder.states(x, length)))
            states = F.layer_norm(states, states.shape[-1:])
        mixed = torch.einsum("l,lbtd->btd", self.layer_weights().to(states.dtype), states)
        log_probs = F.log_softmax(self.head(mixed).float(), dim=-1)
        return {"log_probs": log_probs, "log_probs_length": length}

    def train(self, mode: bool = True) -> "LayerProbe":
        """As usual, but the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self
