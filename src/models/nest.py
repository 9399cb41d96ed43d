"""NEST: self-supervised pretraining by masked token prediction (arXiv 2408.13106)."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.layers.nest.clusters import ClusterQuantizer
from src.models.layers.nest.quantizer import RandomProjectionQuantizer
from src.utils.lengths import padding_mask
from src.utils.options import check_choice, check_sizes, check_whole

MASK_POSITIONS = ("before_subsampling", "after_subsampling")


class NEST(nn.Module):
    """Prediction of the tokens of clean speech from noisy speech with masked blocks.

    1. The quantizer computes tokens of the clean spectrogram, the targets.
    2. Blocks of the noisy spectrogram are replaced by a mask embedding.
    3. The encoder encodes the masked spectrogram.
    4. The decoder, a linear layer, predicts the tokens of masked frames, and only these: logits of
       every frame would take most of the memory of a training step.

    Args:
        encoder: encoder of spectrograms.
        masking: draws the masks.
        codebook_size: codes of each codebook of the quantizer, from 2.
        num_codebooks: codebooks of the quantizer; one token of each is predicted for a frame.
        code_dim: size of a code.
        distance: of the quantizer, `l2` or `cosine`.
        mask_position: `before_subsampling`, where frames of the spectrogram are masked, or
            `after_subsampling`, where the vectors at the input of the first block are masked and
            tokens are made of these vectors too. The subsampling is frozen then, as in NeMo:
            trained targets could collapse.
        mask_threshold: a token is predicted if more than this fraction of its frames is masked.
        mask_value: constant value of the mask embedding; None for a random vector.
        quantizer: gives tokens from clustered features, as in HuBERT (arXiv 2106.07447), of
            codebook_size and num_codebooks; None for random projections, as in BEST-RQ
            (arXiv 2202.01855).

    Raises:
        ValueError: an argument is outside of these values, or the quantizer has other sizes.
    """

    quantizer: ClusterQuantizer | RandomProjectionQuantizer

    def __init__(
        self,
        encoder: ConformerEncoder,
        masking: BlockMask,
        codebook_size: int = 8192,
        num_codebooks: int = 1,
        code_dim: int = 16,
        distance: str = "l2",
        mask_position: str = "before_subsampling",
        mask_threshold: float = 0.8,
        mask_value: float | None = None,
        quantizer: ClusterQuantizer | None = None,
    ):
        super().__init__()
        check_sizes("NEST", num_codebooks=num_codebooks, code_dim=code_dim)
        check_whole("NEST.codebook_size", codebook_size, low=2)
        check_choice("NEST.mask_position", mask_position, MASK_POSITIONS)
        self.encoder, self.masking = encoder, masking
        self.mask_position, self.mask_threshold = mask_position, mask_threshold
        before = mask_position == "before_subsampling"
        size = encoder.feat_in if before else encoder.d_model
        combine_time_steps = encoder.subsampling.factor if before else 1
        if quantizer is None:
            self.quantizer = RandomProjectionQuantizer(
                size, combine_time_steps, codebook_size, num_codebooks, code_dim, distance
            )
        else:
            check_choice("NEST.mask_position, with clusters", mask_position, MASK_POSITIONS[:1])
            check_quantizer(quantizer, size, combine_time_steps, codebook_size, num_codebooks)
            self.quantizer = quantizer
        encoder.subsampling.requires_grad_(before)
        embedding = 0.1 * torch.randn(size)
        if mask_value is not None:
            embedding = torch.full((size,), float(mask_value))
        self.mask_embedding = nn.Parameter(embedding, requires_grad=False)
        self.decoder = nn.Linear(encoder.feat_out, codebook_size * num_codebooks)
        nn.init.xavier_uniform_(self.decoder.weight)

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        return self.encoder.output_length(frames)

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        noisy_spectrogram: Float[Tensor, "B F T"] | None = None,
        seed: Int[Tensor, " B"] | None = None,
        ssl_mask: Bool[Tensor, "B M"] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Encode masked speech, and compute targets and logits of the masked tokens.

        Args:
            spectrogram: clean speech, [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.
            noisy_spectrogram: input of the encoder, [B, F, T]; None for the clean speech.
            seed: [B], from which masks are drawn; None for no mask.
            ssl_mask: mask to use instead of a drawn one, [B, M], True at masked frames; M is the
                number of frames before or after the subsampling.

        Returns:
            `encoded` [B, D, T'] and `encoded_length` [B]; `tokens` [B, num_codebooks, T'] and
            `tokens_length` [B]; `ssl_mask` [B, M] and `ssl_mask_length` [B]; `masked_tokens`
            [B, T'], True for the N tokens of the batch that are predicted; `logits`
            [N, codebook_size, num_codebooks] and `targets` [N, num_codebooks] of these tokens,
            in the order of utterances and time.
        """
        noisy = spectrogram if noisy_spectrogram is None else noisy_spectrogram
        after = self.mask_position == "after_subsampling"
        mask = self.mask_after_subsampling if after else self.mask_before_subsampling
        tokens, x, length, ssl_mask, masked_tokens = mask(
            spectrogram, noisy, spectrogram_length, seed, ssl_mask
        )
        x = self.encoder.encode(x, length)
        size = tokens.shape[1]  # with causal subsampling x has one frame more
        tokens_length = (
            length if after else -(-spectrogram_length // self.encoder.subsampling.factor)
        )
        masked_tokens = masked_tokens[:, :size] & ~padding_mask(tokens_length, size)
        return {
            "encoded": x.transpose(1, 2),
            "encoded_length": length,
            "tokens": tokens.transpose(1, 2),
            "tokens_length": tokens_length,
            "ssl_mask": ssl_mask,
            "ssl_mask_length": length if after else spectrogram_length,
            "masked_tokens": masked_tokens,
            "logits": self.logits(x[:, :size][masked_tokens]),
            "targets": tokens[masked_tokens],
        }

    def mask_before_subsampling(
        self,
        clean: Tensor,
        noisy: Tensor,
        length: Tensor,
        seed: Tensor | None,
        ssl_mask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Mask frames of the spectrogram, and subsample it.

        Args:
            clean: spectrogram of the clean speech, [B, F, T].
            noisy: spectrogram to mask, [B, F, T].
            length: [B], frames of each utterance without padding.
            seed: [B], from which masks are drawn; None for no mask.
            ssl_mask: mask to use instead of a drawn one, [B, T].

        Returns:
            Tokens [B, T', num_codebooks], vectors [B, T', D] and their lengths [B], the mask
            [B, T], and masked_tokens [B, T'].
        """
        factor = self.encoder.subsampling.factor
        tokens = self.quantizer(pad_to_multiple(clean, factor), length)
        noisy = pad_to_multiple(noisy, factor)
        ssl_mask = self.draw_mask(seed, length, noisy.shape[2], ssl_mask)
        embedding = self.mask_embedding[:, None].to(noisy.dtype)
        masked = torch.where(ssl_mask.unsqueeze(1), embedding, noisy)
        x, length = self.encoder.subsampling(masked, length)
        fraction = ssl_mask.float().unflatten(1, (-1, factor)).mean(2)
        return tokens, x, length, ssl_mask, fraction > self.mask_threshold

    @torch.no_grad()
    def mask_after_subsampling(
        self,
        clean: Tensor,
        noisy: Tensor,
        length: Tensor,
        seed: Tensor | None,
        ssl_mask: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Subsample the spectrogram, and mask the subsampled vectors.

        Args:
            clean: spectrogram of the clean speech, [B, F, T].
            noisy: spectrogram whose vectors are masked, [B, F, T].
            length: [B], frames of each utterance without padding.
            seed: [B], from which masks are drawn; None for no mask.
            ssl_mask: mask to use instead of a drawn one, [B, T'].

        Returns:
            Tokens [B, T', num_codebooks], vectors [B, T', D] and their lengths [B], the mask
            [B, T'], and masked_tokens [B, T'], which equals the mask.
        """
        subsampling = self.encoder.subsampling
        tokens = self.quantizer(subsampling(clean, length)[0].transpose(1, 2))
        x, length = subsampling(noisy, length)
        ssl_mask = self.draw_mask(seed, length, x.shape[1], ssl_mask, subsampling.factor)
        x = torch.where(ssl_mask.unsqueeze(2), self.mask_embedding.to(x.dtype), x)
        return tokens, x, length, ssl_mask, ssl_mask

    def draw_mask(
        self,
        seed: Tensor | None,
        length: Tensor,
        size: int,
        ssl_mask: Tensor | None,
        subsampling_factor: int = 1,
    ) -> Tensor:
        """Mask [B, size]: the given one, else one drawn from the seeds, else an empty one."""
        if ssl_mask is not None:
            return F.pad(ssl_mask, (0, size - ssl_mask.shape[1]))
        if seed is None:
            return torch.zeros(len(length), size, dtype=torch.bool, device=length.device)
        return self.masking(seed, length, size, subsampling_factor)

    def logits(self, encoded: Tensor) -> Tensor:
        """Logits [..., codebook_size, num_codebooks] of encoded frames [..., D]."""
        return self.decoder(encoded).unflatten(-1, (-1, len(self.quantizer.codebooks)))


def check_quantizer(
    quantizer: ClusterQuantizer,
    feat_in: int,
    combine_time_steps: int,
    codebook_size: int,
    num_codebooks: int,
) -> None:
    """Check that a quantizer has the sizes of the model whose targets it gives.

    Raises:
        ValueError: it has others.
    """
    wanted = {
        "feat_in": (feat_in, quantizer.feat_in),
        "subsampling_factor": (combine_time_steps, quantizer.combine_time_steps),
        "num_codebooks": (num_codebooks, quantizer.codebooks.shape[0]),
        "codebook_size": (codebook_size, quantizer.codebooks.shape[1]),
    }
    for name, (own, given) in wanted.items():
        if own != given:
            raise ValueError(f"NEST, {name}: {own}; that of the quantizer's clusters is {given}.")


def pad_to_multiple(spectrogram: Tensor, factor: int) -> Tensor:
    """Pad a spectrogram [B, F, T] with zeros to a multiple of factor frames."""
    return F.pad(spectrogram, (0, -spectrogram.shape[2] % factor))
