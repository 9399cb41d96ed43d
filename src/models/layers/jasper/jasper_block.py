"""Block of Jasper, QuartzNet and Citrinet: repeated convolutions with residuals."""

from collections.abc import Sequence

from torch import Tensor, nn

from src.models.layers.jasper.activations import ACTIVATIONS, activate
from src.models.layers.jasper.squeeze_excitation import SqueezeExcitation
from src.models.layers.jasper.sub_block import SubBlock
from src.models.ops.dropout import dropout
from src.utils.lengths import padding_mask
from src.utils.options import (
    check_choice,
    check_drop_probabilities,
    check_number,
    check_sizes,
    check_whole,
    refuse,
)

RESIDUAL_MODES = ("add", "stride_add")


class JasperBlock(nn.Module):
    """Sub-blocks of convolution, norm, activation and dropout, with residuals before the last one.

    Jasper (arXiv 1904.03288, section 2.1), QuartzNet (1910.10261, section 2.1) and Citrinet
    (2104.01721, section 2), with the names of NVIDIA's configs apart from `out_channels` (filters)
    and `kernel_size` (kernel).

    Args:
        in_channels: channels of the inputs of the residual branches; the last is the block's input.
        out_channels: channels of the output.
        kernel_size: in frames, multiplied by kernel_size_factor, rounded down and made odd by
            adding one.
        repeat: number of sub-blocks.
        stride: of every sub-block, in frames.
        stride_last: only the last sub-block has the stride.
        dilation: distance in frames between two frames under the kernel; 1 if stride is not.
        groups: groups of channels of the convolutions, if separable of the 1x1 convolutions.
        separable: depthwise and 1x1 convolutions instead of full ones.
        residual: add the block's input, after a 1x1 convolution and norm.
        residual_dense: add the inputs of all dense blocks before, too.
        residual_mode: `add`, or `stride_add`, which strides the 1x1 convolution of the residual.
        se: squeeze-and-excitation after the last norm.
        se_reduction_ratio: out_channels divided by the hidden size of squeeze-and-excitation.
        kernel_size_factor: gamma in Citrinet.
        dropout: dropout probability after each activation.
        activation: `relu`, `selu`, `hardtanh` or `swish`.
        place: what messages begin with.

    Raises:
        ValueError: an argument is outside of these values.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int,
        repeat: int = 1,
        stride: int = 1,
        stride_last: bool = False,
        dilation: int = 1,
        groups: int = 1,
        separable: bool = False,
        residual: bool = False,
        residual_dense: bool = False,
        residual_mode: str = "add",
        se: bool = False,
        se_reduction_ratio: int = 8,
        kernel_size_factor: float = 1.0,
        dropout: float = 0.0,
        activation: str = "relu",
        place: str = "JasperBlock",
    ):
        super().__init__()
        sizes = {"out_channels": out_channels, "kernel_size": kernel_size, "repeat": repeat}
        check_sizes(place, **sizes, stride=stride, dilation=dilation, groups=groups)
        check_drop_probabilities(place, dropout=dropout)
        check_number(f"{place}.kernel_size_factor", kernel_size_factor)
        check_choice(f"{place}.residual_mode", residual_mode, RESIDUAL_MODES)
        check_choice(f"{place}.activation", activation, tuple(ACTIVATIONS))
        if stride > 1 and dilation > 1:
            refuse(f"{place}.dilation", dilation, f"1 with a stride of {stride}")
        if in_channels[-1] % groups or out_channels % groups:
            allowed = f"a divisor of {in_channels[-1]} and {out_channels} channels"
            refuse(f"{place}.groups", groups, allowed)
        strides = [1 if stride_last else stride] * (repeat - 1) + [stride]
        check_residual(place, strides, residual, residual_dense, residual_mode)
        self.residual_dense, self.activation, self.dropout = residual_dense, activation, dropout
        size = max(int(kernel_size * kernel_size_factor), 1) | 1
        channels = [in_channels[-1]] + [out_channels] * repeat
        self.sub_blocks = nn.ModuleList(
            SubBlock(channels[i], out_channels, size, strides[i], dilation, groups, separable)
            for i in range(repeat)
        )
        self.se = None
        if se:
            check_whole(f"{place}.se_reduction_ratio", se_reduction_ratio, 1, out_channels)
            self.se = SqueezeExcitation(out_channels, se_reduction_ratio, activation)
        self.residuals = nn.ModuleList(
            SubBlock(size, out_channels, stride=stride) for size in in_channels if residual
        )

    def output_length(self, frames):
        """Number of output frames for a number of input frames (int, array or tensor)."""
        for sub_block in self.sub_blocks:
            frames = sub_block.output_length(frames)  # type: ignore[operator]
        return frames

    def forward(
        self, x: Tensor, length: Tensor | None, inputs: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Apply the block.

        Args:
            x: [B, T, C], zero beyond the end of each utterance.
            length: [B], frames of each utterance without padding; None: there is no padding.
            inputs: of the residual branches, [B, T, C] each; the last is x.

        Returns:
            [B, T', out_channels], zero beyond the end of each utterance, and lengths [B] or None.
        """
        mask = None
        for number, sub_block in enumerate(self.sub_blocks):
            if number:
                x = self.activate(x, mask)
            frames = sub_block.output_length(x.shape[1])  # type: ignore[operator]
            length = None if length is None else sub_block.output_length(length)  # type: ignore
            mask = None if length is None else padding_mask(length, frames).unsqueeze(2)
            x = sub_block(x, mask)
        if self.se is not None:
            x = self.se(x, mask)
        for branch, y in zip(self.residuals, inputs, strict=False):
            x = x + branch(y, mask)
        return self.activate(x, mask), length

    def activate(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """Apply activation and dropout, and set padded frames of [B, T, C] to zero; changes x."""
        return dropout(activate(x, self.activation, padding_mask), self.dropout, self.training)


def check_residual(
    place: str, strides: list[int], residual: bool, residual_dense: bool, residual_mode: str
) -> None:
    """Check that the residuals of a block have as many frames as its output.

    Raises:
        ValueError: they don't, or residual_dense without residual.
    """
    if residual_dense and not residual:
        refuse(f"{place}.residual", residual, "true with residual_dense")
    strided = [stride for stride in strides if stride > 1]
    if not residual or not strided:
        return
    if residual_mode == "add":
        refuse(f"{place}.residual_mode", residual_mode, f"stride_add with a stride of {strided[0]}")
    if len(strided) > 1:
        refuse(f"{place}.stride_last", False, "true for a residual with stride and repeat")
    if residual_dense:
        refuse(f"{place}.stride", strided[0], "1 with residual_dense")
