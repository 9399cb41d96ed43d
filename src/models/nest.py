"""NEST: self-supervised speech model by masked token prediction (arXiv 2408.13106)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.layers.nest.quantizer import RandomProjectionQuantizer
from src.utils.lengths import valid

POSITIONS = ("before_subsampling", "after_subsampling")


class NEST(nn.Module):
    """Hides blocks of noisy speech and predicts the tokens of the clean speech behind them.

    1. The quantizer turns the clean spectrogram into tokens.
    2. Blocks of the noisy spectrogram are replaced by one vector, the mask embedding.
    3. The encoder sees the rest.
    4. The decoder names the tokens under the mask, and only those: scores for every frame would be
       most of the memory of a training step.

    Args:
        encoder: of spectrograms.
        masking: draws the blocks.
        classes, books, code_size, distance: of the quantizer.
        mask_position: `before_subsampling`, on the spectrogram, or `after_subsampling`, on the
            vectors that enter the first layer. As in NeMo, tokens are then made of these vectors,
            and the subsampling stays as it is at the start: targets that moved could be chased.
        mask_threshold: a token is masked if more than this share of its frames is.
        mask_value: a constant in place of the mask embedding.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        encoder: ConformerEncoder,
        masking: BlockMask,
        classes: int = 8192,
        books: int = 1,
        code_size: int = 16,
        distance: str = "l2",
        mask_position: str = "before_subsampling",
        mask_threshold: float = 0.8,
        mask_value: float | None = None,
    ):
        super().__init__()
        if mask_position not in POSITIONS:
            raise ValueError(f"NEST: mask_position '{mask_position}' is none of {POSITIONS}.")
        if classes < 2 or books < 1 or code_size < 1:
            raise ValueError(
                f"NEST: {classes} classes in {books} books of codes of {code_size} numbers; at "
                "least 2, 1 and 1 are needed."
            )
        self.encoder, self.masking = encoder, masking
        self.mask_position, self.mask_threshold = mask_position, mask_threshold
        before = mask_position == "before_subsampling"
        size = encoder.n_features if before else encoder.width
        frames = encoder.subsampling.factor if before else 1
        self.quantizer = RandomProjectionQuantizer(
            size, frames, classes, books, code_size, distance
        )
        encoder.subsampling.requires_grad_(before)
        embedding = 0.1 * torch.randn(size)
        if mask_value is not None:
            embedding = torch.full((size,), float(mask_value))
        self.mask_embedding = nn.Parameter(embedding, requires_grad=False)
        self.decoder = nn.Linear(encoder.output_width, classes * books)
        nn.init.xavier_uniform_(self.decoder.weight)

    def output_length(self, frames):
        """Frames that come out for so many going in (an int, array or tensor)."""
        return self.encoder.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        noisy_spectrogram: Float[Tensor, "B F T"] | None = None,
        seed: Int[Tensor, " B"] | None = None,
        mask: Bool[Tensor, "B M"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Encoded frames, and tokens with the scores of those under the mask.

        Args:
            spectrogram: of the clean speech.
            spectrogram_length: in frames.
            noisy_spectrogram: what the encoder sees; without it, the clean speech.
            seed: of each item, from which masks are drawn; without seeds nothing is masked.
            mask: instead of a drawn one, [B, frames of the masked axis].

        Returns:
            `encoded` [B, D, T'] and `encoded_length` [B]; `tokens` [B, books, T'] with
            `tokens_length`; `mask` and its `mask_length`; `masked_tokens`, True where a token is
            to be predicted [B, T']; `logits` [N, classes, books] and `targets` [N, books] of those
            N tokens, batch by batch in order of time.
        """
        noisy = spectrogram if noisy_spectrogram is None else noisy_spectrogram
        given = (spectrogram, noisy, spectrogram_length, seed, mask)
        hide = self.hide_vectors if self.after_subsampling else self.hide_frames
        tokens, x, length, mask, hidden = hide(*given)
        x = self.encoder.encode(x, length)
        size = tokens.shape[1]  # causal subsampling puts out a frame more
        tokens_length = length
        if not self.after_subsampling:
            tokens_length = -(-spectrogram_length // self.quantizer.frames)
        hidden = hidden[:, :size] & valid(tokens_length, size)
        return {
            "encoded": x.transpose(1, 2),
            "encoded_length": length,
            "tokens": tokens.transpose(1, 2),
            "tokens_length": tokens_length,
            "mask": mask,
            "mask_length": length if self.after_subsampling else spectrogram_length,
            "masked_tokens": hidden,
            "logits": self.scores(x[:, :size][hidden]),
            "targets": tokens[hidden],
        }

    @property
    def after_subsampling(self) -> bool:
        """Where the mask lies."""
        return self.mask_position == "after_subsampling"

    def hide_frames(
        self, clean: Tensor, noisy: Tensor, length: Tensor, seed: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Masked before the subsampling.

        Returns:
            Tokens [B, T', books], vectors [B, T', D], their lengths, the mask [B, T] and the masked
            tokens [B, T'].
        """
        frames = self.quantizer.frames
        tokens = self.quantizer(whole_groups(clean, frames))
        noisy = whole_groups(noisy, frames)
        mask = self.draw(seed, length, noisy.shape[2], mask)
        embedding = self.mask_embedding[:, None].to(noisy.dtype)
        x, length = self.encoder.subsampling(
            torch.where(mask.unsqueeze(1), embedding, noisy), length
        )
        share = mask.float().unflatten(1, (-1, frames)).mean(2)
        return tokens, x, length, mask, share > self.mask_threshold

    @torch.no_grad()
    def hide_vectors(
        self, clean: Tensor, noisy: Tensor, length: Tensor, seed: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """Masked after the subsampling; returns what `hide_frames` does."""
        tokens = self.quantizer(self.encoder.subsampling(clean, length)[0].transpose(1, 2))
        x, length = self.encoder.subsampling(noisy, length)
        mask = self.draw(seed, length, x.shape[1], mask, self.encoder.subsampling.factor)
        x = torch.where(mask.unsqueeze(2), self.mask_embedding.to(x.dtype), x)
        return tokens, x, length, mask, mask

    def draw(
        self,
        seed: Tensor | None,
        length: Tensor,
        size: int,
        mask: Tensor | None,
        shorten: int = 1,
    ) -> Tensor:
        """The mask that was given, a drawn one, or an empty one: [B, size]."""
        if mask is not None:
            return F.pad(mask, (0, size - mask.shape[1]))
        if seed is None:
            return torch.zeros(len(length), size, dtype=torch.bool, device=length.device)
        return self.masking(seed, length, size, shorten)

    def scores(self, encoded: Tensor) -> Tensor:
        """Logits [..., classes, books] of encoded frames [..., D]."""
        return self.decoder(encoded).unflatten(-1, (-1, self.quantizer.books))


def whole_groups(spectrogram: Tensor, frames: int) -> Tensor:
    """The spectrogram [B, F, T] with zeros up to a multiple of `frames`."""
    return F.pad(spectrogram, (0, -spectrogram.shape[2] % frames))
