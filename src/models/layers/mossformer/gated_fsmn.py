"""The recurrent module of MossFormer2 without recurrence (arXiv 2312.11825, section 2.2).

A feed-forward sequential memory network (FSMN) models what a recurrent network would remember by
convolutions over the frames around, here dilated, densely connected, and gated.
"""

import torch
from torch import Tensor, nn

from src.models.layers.mossformer.conv_module import ConvModule, LayerNorm, apply_parallel
from src.models.layers.mossformer.masked_norm import MaskedNorm
from src.models.ops.checkpointing import checkpointed
from src.models.ops.grouped_conv import grouped_conv1d
from src.models.ops.masking import mask_padding
from src.models.ops.prelu import prelu
from src.models.ops.relu import relu

FSMN_DIM = 256  # channels of the bottleneck, whatever d_model is
FSMN_ORDER = 20  # frames of memory to either side, the present one included


class FSMNLayer(nn.Module):
    """A grouped and dilated convolution over time, norm over time, PReLU.

    Args:
        group_size: input channels for each output channel.
        dilation: in frames.
    """

    def __init__(self, group_size: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        channels, kernel_size = group_size * FSMN_DIM, 2 * FSMN_ORDER - 1
        self.kernel = nn.Conv1d(channels, FSMN_DIM, kernel_size, groups=FSMN_DIM, bias=False).weight
        self.norm = MaskedNorm(FSMN_DIM, axes=(1,), eps=1e-5)
        self.slope = nn.Parameter(torch.full((FSMN_DIM,), 0.25))

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, group_size * FSMN_DIM], zero in the padding, to [B, T, FSMN_DIM]."""
        x = grouped_conv1d(x, self.kernel, self.dilation)
        return prelu(self.norm(x, padding_mask), self.slope)


class DilatedFSMN(nn.Module):
    """Two FSMN layers with a dense connection: the second takes input and output of the first."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(FSMN_DIM, FSMN_DIM)
        self.project = nn.Linear(FSMN_DIM, FSMN_DIM, bias=False)
        self.layer1, self.layer2 = FSMNLayer(1, dilation=1), FSMNLayer(2, dilation=2)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, FSMN_DIM] to [B, T, FSMN_DIM].

        Args:
            x: [B, T, FSMN_DIM].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        z = mask_padding(self.project(relu(self.linear(x))), padding_mask)
        # Always checkpointed: it is fast to compute again and large to save.
        return x + checkpointed(self.dense_layers, z, padding_mask, has_dropout=False)

    def dense_layers(self, z: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, FSMN_DIM], zero in the padding, to [B, T, FSMN_DIM]."""
        y = mask_padding(self.layer1(z, padding_mask), padding_mask)
        return self.layer2(torch.cat([y, z], dim=-1), padding_mask)


class GatedFSMN(nn.Module):
    """Gated FSMN block: bottleneck, gated convolutional unit around a dilated FSMN, output layer.

    Args:
        d_model: channels of the frames.
        dropout: probability of outputs of its modules to be zeroed in training.
    """

    def __init__(self, d_model: int, dropout: float):
        super().__init__()
        self.bottleneck = nn.Linear(d_model, FSMN_DIM)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.norm_in, self.norm_out = nn.LayerNorm(FSMN_DIM), nn.LayerNorm(FSMN_DIM)
        self.to_u = ConvModule(FSMN_DIM, FSMN_DIM, LayerNorm(FSMN_DIM), dropout)
        self.to_v = ConvModule(FSMN_DIM, FSMN_DIM, LayerNorm(FSMN_DIM), dropout)
        self.fsmn = DilatedFSMN()
        self.output = nn.Linear(FSMN_DIM, d_model)

    def forward(self, x: Tensor, padding_mask: Tensor | None) -> Tensor:
        """[B, T, D] to [B, T, D].

        Args:
            x: [B, T, D].
            padding_mask: bool, [B, T, 1], True beyond the end; None: there is no padding.
        """
        y = self.norm_in(prelu(self.bottleneck(x), self.slope))
        u, v = apply_parallel([self.to_u, self.to_v], y, padding_mask)
        y = torch.addcmul(y, v, self.fsmn(u, padding_mask))  # y + v * fsmn(u)
        return x + self.output(self.norm_out(y))
