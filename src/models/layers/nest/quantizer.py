"""Random-projection quantizer of speech (BEST-RQ, Chiu et al., arXiv 2202.01855, section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.utils.options import check_choice, check_sizes


class RandomProjectionQuantizer(nn.Module):
    """Tokens of a spectrogram: the code that is nearest to a random projection of stacked frames.

    Projection and codes are random and never trained. Codes are unit vectors.

    Args:
        feat_in: frequency bins of a frame.
        combine_time_steps: consecutive frames that are stacked for one token.
        codebook_size: codes of a codebook.
        num_codebooks: number of codebooks, each with its projection.
        code_dim: size of a code.
        distance: `l2` or `cosine`; both choose the same code, up to rounding.

    Raises:
        ValueError: a size is not a whole number from 1, or another distance.
    """

    def __init__(
        self,
        feat_in: int = 80,
        combine_time_steps: int = 8,
        codebook_size: int = 8192,
        num_codebooks: int = 1,
        code_dim: int = 16,
        distance: str = "l2",
    ):
        super().__init__()
        check_sizes(
            "RandomProjectionQuantizer",
            combine_time_steps=combine_time_steps,
            codebook_size=codebook_size,
            num_codebooks=num_codebooks,
            code_dim=code_dim,
        )
        check_choice("RandomProjectionQuantizer.distance", distance, ("l2", "cosine"))
        self.combine_time_steps, self.distance = combine_time_steps, distance
        self.proj = nn.Linear(feat_in * combine_time_steps, num_codebooks * code_dim, bias=False)
        nn.init.xavier_normal_(self.proj.weight)
        # Double precision as in NeMo, so that its checkpoints are exported unchanged.
        codes = torch.randn(num_codebooks, codebook_size, code_dim, dtype=torch.float64)
        self.codebooks = nn.Parameter(F.normalize(codes, dim=-1))
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor | None = None) -> Tensor:
        """Quantize a batch.

        Args:
            spectrogram: [B, F, T]; T is a multiple of combine_time_steps.
            spectrogram_length: not needed, since each token depends on its own frames only.

        Returns:
            Indices of codes [B, T / combine_time_steps, num_codebooks], int64.
        """
        with torch.autocast(spectrogram.device.type, enabled=False):
            x = spectrogram.transpose(1, 2).float().unflatten(1, (-1, self.combine_time_steps))
            x = self.proj(x.flatten(2)).unflatten(2, (len(self.codebooks), -1))
            x = F.normalize(x, dim=-1, eps=1e-12)  # [B, T', num_codebooks, code_dim]
            pairs = zip(x.unbind(2), self.codebooks.float(), strict=True)
            return torch.stack([nearest_code(*pair, self.distance) for pair in pairs], dim=2)


def nearest_code(x: Tensor, codes: Tensor, distance: str = "l2") -> Tensor:
    """Index of the code that is nearest to each vector.

    |x - c|^2 = |x|^2 - 2 x c + |c|^2, of which |x|^2 is the same for all codes.

    Args:
        x: vectors [..., C].
        codes: [N, C].
        distance: `l2`, or `cosine` for vectors and codes of length 1.

    Returns:
        [...], int64.
    """
    similarity = x @ codes.T
    if distance == "l2":
        similarity -= 0.5 * codes.square().sum(dim=1)
    return similarity.argmax(dim=-1)
