"""Recurrent layers for padded batches."""

from typing import Any

import torch
from torch import Tensor, nn

from src.utils.options import check_choice

RNN_TYPES = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def reversed_frames(length: Tensor, size: int) -> Tensor:
    """Indices that reverse the frames of each utterance; padding stays at the end.

    Args:
        length: [B], frames of each utterance without padding.
        size: T, frames with padding.

    Returns:
        [B, T], int64.
    """
    frames = torch.arange(size, device=length.device)
    index = length.unsqueeze(1) - 1 - frames
    return torch.where(index >= 0, index, frames)


def take_frames(x: Tensor, index: Tensor) -> Tensor:
    """The frames of x [B, T, D] at indices [B, T]: [B, T, D]."""
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def rnn_states(rnn: nn.RNNBase, x: Tensor, start: Any = None) -> tuple[Tensor, Any]:
    """States [B, T, hidden_size] of an RNN for x [B, T, D], and torch's state after the last frame.

    On a CPU they are computed in the dtype of the weights, as torch has no LSTM in half precision
    on most of them and raises an error.

    Args:
        rnn: the RNN.
        x: its input.
        start: torch's state before the first frame; None: zeros.
    """
    if x.device.type != "cpu":
        return rnn(x, start)
    with torch.autocast("cpu", enabled=False):
        return rnn(x.to(next(rnn.parameters()).dtype), start)


class Recurrent(nn.Module):
    """Recurrent layer, unidirectional or bidirectional with the states of both directions added.

    The backward direction is an RNN over the reversed frames of each utterance, which needs no
    packed sequences and is faster than these on a CPU.

    Args:
        rnn_type: `rnn` (with ReLU), `gru` or `lstm`.
        input_size: size of the input vectors.
        hidden_size: size of the state.
        bidirectional: add the states of an RNN in the backward direction, as in Deep Speech 2.

    Raises:
        ValueError: another rnn_type.
    """

    def __init__(self, rnn_type: str, input_size: int, hidden_size: int, bidirectional: bool):
        super().__init__()
        check_choice("DeepSpeech2.rnn_type", rnn_type, tuple(RNN_TYPES))
        rnn = RNN_TYPES[rnn_type]
        options = {"nonlinearity": "relu"} if rnn_type == "rnn" else {}
        self.rnn_type = rnn_type
        self.forward_rnn = rnn(input_size, hidden_size, batch_first=True, **options)
        self.backward_rnn = None
        if bidirectional:
            self.backward_rnn = rnn(input_size, hidden_size, batch_first=True, **options)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Compute the states of a batch.

        Args:
            x: [B, T, input_size].
            length: [B], frames of each utterance without padding.

        Returns:
            [B, T, hidden_size]; values beyond the end of an utterance are undefined.
        """
        states = rnn_states(self.forward_rnn, x)[0]
        if self.backward_rnn is not None:
            index = reversed_frames(length, x.shape[1])
            backward = rnn_states(self.backward_rnn, take_frames(x, index))[0]
            states = states + take_frames(backward, index)
        return states

    @property
    def state_size(self) -> tuple[int, int]:
        """Shape of the state of one stream: an LSTM has a cell beside its hidden state."""
        return (2 if self.rnn_type == "lstm" else 1, self.forward_rnn.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """States for the next frames of a stream.

        Args:
            x: [B, T, input_size].
            state: after the frames before, [B, *state_size].

        Returns:
            [B, T, hidden_size], and the state after x.
        """
        parts = tuple(part[None].contiguous() for part in state.unbind(1))
        states, last = rnn_states(self.forward_rnn, x, parts if len(parts) > 1 else parts[0])
        last = last if isinstance(last, tuple) else (last,)
        return states, torch.stack([part[0] for part in last], 1)
