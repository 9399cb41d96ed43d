"""Modules made of ONNX's operators, in place of those that can't be exported as they are."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from src.models.layers.deepspeech.recurrent import Recurrent
from src.transforms.features.stft import PowerSpectrogram
from src.utils.lengths import padding_mask

OPSET = 18
# Operators of ONNX, their attributes, and where torch's gates stand in ONNX's order.
RNNS: dict[type[nn.RNNBase], tuple[str, dict[str, Any], tuple[int, ...]]] = {
    nn.RNN: ("RNN", {"activations": ["Relu", "Relu"]}, (0,)),
    nn.GRU: ("GRU", {"linear_before_reset": 1}, (1, 0, 2)),  # torch: r z n, ONNX: z r h
    nn.LSTM: ("LSTM", {}, (0, 3, 1, 2)),  # torch: i f g o, ONNX: i o f c
}


class MatrixSpectrogram(nn.Module):
    """`PowerSpectrogram` by a matrix product with the basis of the Fourier transform.

    STFT is slow in onnxruntime and missing in small builds; Gather and MatMul are everywhere. The
    product is in double precision, since a float32 sum loses the quiet bins of loud frames.

    Args:
        plain: the spectrogram to compute.
    """

    basis: Tensor

    def __init__(self, plain: PowerSpectrogram):
        super().__init__()
        self.n_fft, self.hop_length, self.size = plain.n_fft, plain.hop_length, plain.win_length
        # The window stands in the middle of the transform; its zeros on both sides are left out.
        self.first = (plain.n_fft - plain.win_length) // 2
        time = torch.arange(self.first, self.first + self.size, dtype=torch.float64)
        bins = torch.arange(plain.n_fft // 2 + 1, dtype=torch.float64)
        angles = time[:, None] * bins * (2 * torch.pi / plain.n_fft)
        basis = torch.cat([angles.cos(), angles.sin()], 1) * plain.window.double()[:, None]
        self.register_buffer("basis", basis, persistent=False)

    def output_length(self, samples):
        """Number of frames for a number of samples (int, array or tensor)."""
        return samples // self.hop_length + 1

    def forward(self, audio: Tensor, audio_length: Tensor) -> tuple[Tensor, Tensor]:
        """Power spectrograms [B, n_fft // 2 + 1, frames] of [B, T], and lengths [B] in frames."""
        audio = audio * ~padding_mask(audio_length, audio.shape[1])
        starts = torch.arange(self.output_length(audio.shape[1])) * self.hop_length + self.first
        index = starts[:, None] + torch.arange(self.size)  # [frames, win_length]
        frames = pad(audio, (self.n_fft // 2, self.n_fft // 2))[:, index]
        real, imaginary = (frames.double() @ self.basis).chunk(2, dim=2)
        power = (real.square() + imaginary.square()).float()
        return power.transpose(1, 2), self.output_length(audio_length)


class OnnxRecurrent(nn.Module):
    """`Recurrent` as one operator of ONNX for both directions.

    It can only be traced: outside of an export its results are undefined.

    Args:
        plain: the layer to compute.
    """

    weight: Tensor
    recurrence: Tensor
    bias: Tensor

    def __init__(self, plain: Recurrent):
        super().__init__()
        directions = [rnn for rnn in (plain.forward_rnn, plain.backward_rnn) if rnn is not None]
        operator, attributes, gates = RNNS[type(plain.forward_rnn)]
        self.operator, self.hidden_size = operator, plain.forward_rnn.hidden_size
        self.directions = len(directions)
        kind = "bidirectional" if self.directions == 2 else "forward"
        self.attributes = attributes | {"hidden_size": self.hidden_size, "direction": kind}
        if "activations" in attributes:
            self.attributes["activations"] = attributes["activations"][: self.directions]

        def stacked(name: str) -> Tensor:
            values = [getattr(rnn, f"{name}_l0").detach().chunk(len(gates)) for rnn in directions]
            return torch.stack([torch.cat([parts[gate] for gate in gates]) for parts in values])

        self.register_buffer("weight", stacked("weight_ih"))
        self.register_buffer("recurrence", stacked("weight_hh"))
        self.register_buffer("bias", torch.cat([stacked("bias_ih"), stacked("bias_hh")], 1))

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """[B, T, input_size] to [B, T, hidden_size], zero beyond the end of each utterance."""
        states = torch.onnx.ops.symbolic(
            self.operator,
            (x.transpose(0, 1), self.weight, self.recurrence, self.bias, length.int()),
            self.attributes,
            dtype=x.dtype,
            shape=(x.shape[1], self.directions, x.shape[0], self.hidden_size),
            version=OPSET,
        )  # [T, directions, B, hidden_size]
        return states.sum(1).transpose(0, 1)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, input_size] and the state before, [B, 1 or 2, hidden_size], to
        [B, T, hidden_size] and the state after; for one direction."""
        parts = [part[None] for part in state.unbind(1)]  # [directions, B, hidden_size]
        states, *last = torch.onnx.ops.symbolic_multi_out(
            self.operator,
            (x.transpose(0, 1), self.weight, self.recurrence, self.bias, None, *parts),
            self.attributes,
            dtypes=[x.dtype] * (1 + len(parts)),
            shapes=[(x.shape[1], 1, *parts[0].shape[1:]), *(part.shape for part in parts)],
            version=OPSET,
        )
        return states.squeeze(1).transpose(0, 1), torch.cat(last).transpose(0, 1)


Substitutes = Mapping[type[nn.Module], Callable[[Any], nn.Module]]
FOR_ONNX: Substitutes = {PowerSpectrogram: MatrixSpectrogram, Recurrent: OnnxRecurrent}


def substituted(module: nn.Module, substitutes: Substitutes = FOR_ONNX) -> nn.Module:
    """A copy of a module with substitutes for its submodules of some types."""
    module = copy.deepcopy(module)
    for name, part in list(module.named_modules()):
        if type(part) in substitutes:
            module.set_submodule(name, substitutes[type(part)](part))
    return module
