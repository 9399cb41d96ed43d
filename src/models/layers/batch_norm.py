"""Batch normalisation with statistics of the batches of several processes."""

import torch
import torch.distributed.nn.functional
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """torch's BatchNorm1d of frames, which can be synchronised on a CPU, too.

    Attributes:
        synchronised: in training, the statistics are those of the batches of all processes of
            torch.distributed, each of which must call this; False: of this process.
        counted: whether the batch of this process is part of synchronised statistics.
    """

    synchronised, counted = False, True

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the channels of frames; those of a single one by the running statistics.

        Args:
            input: [N, C].
        """
        if self.training and not self.synchronised and len(input) == 1:
            # A single frame, that of a very short utterance, has no variance; torch refuses it.
            own = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(input, *own, eps=self.eps)
        if not (self.training and self.synchronised):
            return super().forward(input)
        # Sums of values shifted by the running mean, which avoids cancellation.
        pivot = self.running_mean.clone()  # type: ignore[union-attr]
        shifted = input - pivot
        sums = (shifted.sum(0), shifted.square().sum(0), shifted.new_tensor(len(input)))
        total, square, count = sum_over_processes(*sums, counted=self.counted)
        mean, variance = moments(total, square, count)
        mean = mean + pivot
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        self.update_running_statistics(mean.detach(), unbiased)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (input * scale + (self.bias - mean * scale)).to(input.dtype)

    @torch.no_grad()
    def update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running mean and variance towards those of a batch, [C]."""
        for name, value in (("running_mean", mean), ("running_var", variance)):
            running: Tensor = getattr(self, name)
            running.lerp_(value.to(running.dtype), self.momentum)  # type: ignore[arg-type]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


def moments(total: Tensor, square: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [C] of values by their sum, that of their squares and their count."""
    mean = total / count
    return mean, (square / count - mean.square()).clamp(min=0)


def sum_over_processes(
    total: Tensor, square: Tensor, count: Tensor, counted: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all processes, with gradients: [C], [C] and [] to the same.

    Args:
        total, square, count: those of this process.
        counted: False: they are left out.
    """
    size, sums = len(total), torch.cat([total, square, count.reshape(1).to(total.dtype)])
    sums = torch.distributed.nn.functional.all_reduce(sums if counted else 0.0 * sums)
    return sums[:size], sums[size : 2 * size], sums[2 * size]
