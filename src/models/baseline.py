"""A minimal CTC model, to try the template and to start a new model from."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from src.utils.lengths import padding_mask
from src.utils.options import check_sizes


class Baseline(nn.Module):
    """CTC log-probabilities from one strided convolution over time and two linear layers.

    Args:
        feat_in: frequency bins of the spectrogram.
        vocab_size: number of output tokens, including the blank.
        hidden_size: channels of the convolution and of the hidden layer.
        kernel_size: of the convolution, in frames, odd.
        stride: of the convolution, in frames.

    Raises:
        ValueError: a size is not a whole number from 1.
    """

    def __init__(
        self,
        feat_in: int,
        vocab_size: int,
        hidden_size: int = 256,
        kernel_size: int = 15,
        stride: int = 2,
    ):
        super().__init__()
        check_sizes(
            "Baseline",
            feat_in=feat_in,
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            kernel_size=kernel_size,
            stride=stride,
        )
        self.stride = stride
        self.conv = nn.Conv1d(feat_in, hidden_size, kernel_size, stride, padding=kernel_size // 2)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, vocab_size)

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return (frames - 1) // self.stride + 1

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Compute CTC log-probabilities.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `log_probs` [B, T', V] in float32 and `log_probs_length` [B], in output frames.
        """
        padded = padding_mask(spectrogram_length, spectrogram.shape[-1]).unsqueeze(1)
        x = F.relu(self.conv(spectrogram.masked_fill(padded, 0.0))).transpose(1, 2)
        x = self.output(F.relu(self.hidden(x)))
        return {
            "log_probs": F.log_softmax(x.float(), dim=-1),
            "log_probs_length": self.output_length(spectrogram_length),
        }
