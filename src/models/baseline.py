"""A tiny model, to see the frame work and to start one's own from."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.utils.lengths import valid


class Baseline(nn.Module):
    """Every frame with a few neighbours through a small perceptron.

    Args:
        n_features: bins of the spectrogram.
        n_tokens: of the output, the blank included.
        width: of the hidden layers.
        context: frames that the first layer sees, odd.
        stride: frames that become one.
    """

    def __init__(
        self, n_features: int, n_tokens: int, width: int = 256, context: int = 15, stride: int = 2
    ):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv1d(n_features, width, context, stride, padding=context // 2)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, n_tokens)

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        return (frames - 1) // self.stride + 1

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """`log_probs` [B, T', n_tokens] and `log_probs_length` [B]."""
        inside = valid(spectrogram_length, spectrogram.shape[-1]).unsqueeze(1)
        x = F.relu(self.conv(spectrogram * inside)).transpose(1, 2)
        x = self.output(F.relu(self.hidden(x)))
        return {
            "log_probs": F.log_softmax(x.float(), dim=-1),
            "log_probs_length": self.output_length(spectrogram_length),
        }
