"""Speech to tokens by a random projection (BEST-RQ, Chiu et al., arXiv 2202.01855)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RandomProjectionQuantizer(nn.Module):
    """The nearest of random unit vectors to a random projection of some frames; never trained.

    Args:
        n_features: bins of a frame.
        frames: consecutive frames that become one token.
        classes: codes of a codebook.
        books: codebooks, each with its own part of the projection.
        code_size: of a code.
        distance: `l2` or `cosine`. Codes have length one, so both choose alike.

    Raises:
        ValueError: another distance.
    """

    def __init__(
        self,
        n_features: int = 80,
        frames: int = 8,
        classes: int = 8192,
        books: int = 1,
        code_size: int = 16,
        distance: str = "l2",
    ):
        super().__init__()
        if distance not in ("l2", "cosine"):
            raise ValueError(f"quantizer: distance '{distance}' is neither l2 nor cosine.")
        self.frames, self.books, self.distance = frames, books, distance
        self.projection = nn.Linear(n_features * frames, books * code_size, bias=False)
        nn.init.xavier_normal_(self.projection.weight)
        # In double precision, as NeMo keeps them, so that a checkpoint comes back unchanged.
        codes = F.normalize(torch.randn(books, classes, code_size, dtype=torch.float64), dim=-1)
        self.codebooks = nn.Parameter(codes)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor) -> Tensor:
        """Tokens [B, T / frames, books] of a spectrogram [B, F, T]; T is a multiple of frames."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            groups = spectrogram.transpose(1, 2).float().unflatten(1, (-1, self.frames))
            vectors = self.projection(groups.flatten(2)).unflatten(2, (self.books, -1))
            vectors = F.normalize(vectors, dim=-1, eps=1e-12)
            return torch.stack(
                [
                    self.nearest(vectors[:, :, book], self.codebooks[book].float())
                    for book in range(self.books)
                ],
                dim=2,
            )

    def nearest(self, vectors: Tensor, codes: Tensor) -> Tensor:
        """The index of the code nearest to each of vectors [B, T, C]: [B, T].

        |v - c|^2 is |v|^2 - 2 v c + |c|^2, of which the first term is the same for all codes.
        """
        closeness = vectors @ codes.T
        if self.distance == "l2":
            closeness -= 0.5 * codes.square().sum(dim=1)
        return closeness.argmax(dim=2)
