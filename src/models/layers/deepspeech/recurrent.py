"""Recurrent layers over padded batches, exact for every length."""

import torch
from torch import Tensor, nn

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def flip(x: Tensor, length: Tensor) -> Tensor:
    """Each item's own frames in reverse order, its padding left at the end.

    Args:
        x: [B, T, D].
        length: [B].
    """
    frames = torch.arange(x.shape[1], device=x.device)
    index = length.unsqueeze(1) - 1 - frames
    index = torch.where(index >= 0, index, frames)
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def run(cell: nn.RNNBase, x: Tensor) -> Tensor:
    """A cell's states for x [B, T, D].

    On a CPU in the precision of the weights: most have no LSTM in half precision, and torch fails.
    """
    if x.device.type != "cpu":
        return cell(x)[0]
    with torch.autocast("cpu", enabled=False):
        return cell(x.to(next(cell.parameters()).dtype))[0]


class Recurrent(nn.Module):
    """One recurrent layer, one-way or in both directions with the two states added.

    The backward direction is a one-way cell on each item's own reversed frames, so that nothing
    has to be packed; on a CPU that is faster than a packed sequence, and as exact.

    Args:
        cell: rnn (with ReLU), gru or lstm.
        inputs: features coming in.
        width: of the state.
        bidirectional: both directions, added as in Deep Speech 2.
    """

    def __init__(self, cell: str, inputs: int, width: int, bidirectional: bool):
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"recurrent cell '{cell}' is none of {', '.join(CELLS)}.")
        options = {"nonlinearity": "relu"} if cell == "rnn" else {}
        self.forwards = CELLS[cell](inputs, width, batch_first=True, **options)
        self.backwards = (
            CELLS[cell](inputs, width, batch_first=True, **options) if bidirectional else None
        )

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """States for every frame.

        Args:
            x: [B, T, inputs].
            length: [B].

        Returns:
            [B, T, width]; beyond the lengths anything.
        """
        states = run(self.forwards, x)
        if self.backwards is not None:
            states = states + flip(run(self.backwards, flip(x, length)), length)
        return states
