"""Probes of a frozen encoder, as in SUPERB (Yang et al., arXiv 2105.01051)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.jasper import ConvEncoder
from src.utils.lengths import padding_mask
from src.utils.options import check_labels


def sum_of_layers(states: Tensor, scores: Tensor) -> Tensor:
    """Weighted sum of an encoder's layers, as in SUPERB (arXiv 2105.01051, section 3).

    The states are normalised to mean 0 and variance 1 per frame before the sum, so that the
    weights of layers can be compared with each other.

    Args:
        states: [num_layers + 1, B, T', D].
        scores: whose softmax are the weights, [num_layers + 1].

    Returns:
        [B, T', D].
    """
    states = F.layer_norm(states, states.shape[-1:])
    return torch.einsum("l,lbtd->btd", scores.softmax(0).to(states.dtype), states)


class FrozenEncoder(nn.Module):
    """A learnt weighted sum of a frozen encoder's layers (SUPERB, section 3).

    Of an encoder whose layers differ in size only the output is used, with the weight 1.

    Args:
        encoder: encoder of spectrograms; its parameters are frozen, and it is always in evaluation
            mode.
    """

    def __init__(self, encoder: ConformerEncoder | ConvEncoder):
        super().__init__()
        layers, self.size = 1, encoder.feat_out
        if isinstance(encoder, ConformerEncoder):
            layers, self.size = len(encoder.layers) + 1, encoder.d_model
        self.encoder = encoder.requires_grad_(False).eval()
        self.layer_scores = nn.Parameter(torch.zeros(layers))

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return self.encoder.output_length(frames)

    def layer_weights(self) -> Tensor:
        """Weights of the subsampling and of each layer, with the sum 1: [num_layers + 1]."""
        return self.layer_scores.softmax(0)

    def mixed_states(self, spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted sum of the layers' hidden states [B, T', D], and its lengths [B].

        Args:
            spectrogram: [B, F, T].
            length: [B], frames of each utterance without padding.
        """
        with torch.no_grad():
            states, state_length = self.states(spectrogram, length)
        return sum_of_layers(states, self.layer_scores), state_length

    def states(self, spectrogram: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states of all layers [num_layers + 1, B, T', D], and their lengths [B]."""
        if isinstance(self.encoder, ConformerEncoder):
            return self.encoder.all_hidden_states(spectrogram, length)
        outputs = self.encoder(spectrogram, length)
        return outputs["encoded"].transpose(1, 2).unsqueeze(0), outputs["encoded_length"]

    def train(self, mode: bool = True) -> "FrozenEncoder":
        """Set the mode of the probe; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self


class LayerClassifier(FrozenEncoder):
    """Classes of utterances from a frozen encoder: weighted sum, mean over time, linear layer.

    Args:
        encoder: encoder of spectrograms; its parameters are frozen, and it is always in evaluation
            mode.
        labels: names of the classes.

    Raises:
        ValueError: the labels are fewer than two, or not different texts.
    """

    def __init__(self, encoder: ConformerEncoder | ConvEncoder, labels: list[str]):
        super().__init__(encoder)
        self.head = nn.Linear(self.size, len(check_labels("model.labels", labels)))

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Compute the scores of the classes.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `class_logits` [B, C] in float32.
        """
        mixed, length = self.mixed_states(spectrogram, spectrogram_length)
        mixed = mixed.masked_fill(padding_mask(length, mixed.shape[1]).unsqueeze(2), 0.0)
        mean = mixed.sum(1) / length.clamp(min=1).unsqueeze(1)
        return {"class_logits": self.head(mean).float()}
