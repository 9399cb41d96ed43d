"""Convolutional CTC models: Jasper, QuartzNet and Citrinet.

arXiv 1904.03288, 1910.10261 and 2104.01721. They differ in the options of their blocks only, see
`src/configs/model`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from src.models.layers.jasper.jasper_block import JasperBlock
from src.models.ops.dispatch import use_cpu_path
from src.models.ops.masking import mask_padding
from src.utils.annotations import check_arguments
from src.utils.lengths import padding_mask
from src.utils.options import check_sizes


class ConvEncoder(nn.Module):
    """Encoder of spectrograms: a stack of convolutional blocks over time.

    Args:
        feat_in: frequency bins of the spectrogram.
        blocks: arguments of each `JasperBlock`: out_channels, kernel_size, repeat, stride,
            stride_last, dilation, groups, separable, residual, residual_dense, residual_mode, se,
            se_reduction_ratio, kernel_size_factor, dropout.
        block_defaults: arguments of the blocks that do not have their own.
        activation: `relu`, `selu`, `hardtanh` or `swish`.

    Raises:
        ValueError: an argument is unknown, missing or outside of its values.
    """

    def __init__(
        self,
        feat_in: int,
        blocks: Sequence[Mapping[str, Any]],
        block_defaults: Mapping[str, Any] | None = None,
        activation: str = "relu",
    ):
        super().__init__()
        check_sizes("ConvEncoder", feat_in=feat_in)
        if not blocks:
            raise ValueError("ConvEncoder.blocks: none; at least one.")
        options = [{**(block_defaults or {}), **block} for block in blocks]
        # As given, for the configs of exported checkpoints.
        self.options: dict[str, Any] = {
            "feat_in": feat_in,
            "blocks": options,
            "activation": activation,
        }
        self.feat_in = feat_in
        self.blocks = nn.ModuleList()
        channels = feat_in
        dense: list[int] = []
        for number, own in enumerate(options):
            place = f"ConvEncoder.blocks[{number}]"
            for key in ("out_channels", "kernel_size"):
                if key not in own:
                    raise ValueError(f"{place}.{key}: missing.")
            dense = [*dense, channels] if own.get("residual_dense") else []
            values = {"in_channels": dense or [channels], "activation": activation, **own}
            check_arguments(place, JasperBlock, values)
            self.blocks.append(JasperBlock(**values, place=place))
            channels = own["out_channels"]
        self.feat_out = channels

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        for block in self.blocks:
            frames = block.output_length(frames)  # type: ignore[operator]
        return frames

    def forward(
        self,
        spectrogram: Float[Tensor, "B F T"],
        spectrogram_length: Int[Tensor, " B"],
        **_,
    ) -> dict[str, Tensor]:
        """Encode spectrograms.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            `encoded` [B, D, T'], zero beyond the end of each utterance, and `encoded_length` [B],
            in output frames.
        """
        x = self.encode(spectrogram, spectrogram_length)
        length = self.output_length(spectrogram_length)
        return {"encoded": x.transpose(1, 2), "encoded_length": length}

    def encode(self, spectrogram: Tensor, spectrogram_length: Tensor) -> Tensor:
        """Apply the blocks.

        Args:
            spectrogram: [B, F, T].
            spectrogram_length: [B], frames of each utterance without padding.

        Returns:
            [B, T', D], zero beyond the end of each utterance.
        """
        x = spectrogram.transpose(1, 2)
        length: Tensor | None = spectrogram_length
        if use_cpu_path(x) and int(spectrogram_length.min()) == x.shape[1]:
            length = None  # no padding, no masks
        else:
            x = mask_padding(x, padding_mask(spectrogram_length, x.shape[1]).unsqueeze(2))
        dense: list[Tensor] = []
        for block in self.blocks:
            dense = [*dense, x] if block.residual_dense else []
            x, length = block(x, length, dense or [x])
        return x
