"""Functions of a whole sequence, applied to a stream piece by piece with the same result.

A model that can be used on a stream describes itself as a chain of two kinds of stages. `Sliding`
recomputes a few outputs at the start of each piece from frames that it has kept; `Cached` keeps the
state of a recurrence. Time is the last axis of every tensor. The state of a stage in one stream is
a dict of tensors without a batch axis, so that streams of any age can be processed as one batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

State = dict[str, Tensor]
Transform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
HELD = "held"  # inputs that are still needed
FIRST = "first"  # index of the first one that is held
DONE = "done"  # number of outputs so far
COUNTS = (FIRST, DONE)  # are on the CPU, where they are read


class Stage(ABC):
    """One step of the way from samples to log-probabilities."""

    @abstractmethod
    def advance(
        self, states: Sequence[State], inputs: Sequence[Tensor | None], ends: Sequence[bool]
    ) -> list[Tensor | None]:
        """Take new inputs of several streams, and return the outputs that they make certain.

        Args:
            states: of the streams, {} for a new one; changed in place.
            inputs: of each stream, [..., n]; None if there are none.
            ends: whether a stream ends with these inputs.

        Returns:
            Outputs of each stream, [..., m], or None.
        """

    def check(self, name: str, value: Tensor) -> None:
        """Check a value of a state that was saved.

        Raises:
            ValueError: it isn't one of this stage.
        """
        if name not in (HELD, *COUNTS):
            raise ValueError(f"no '{name}'")


@dataclass(frozen=True)
class Sliding(Stage):
    """A function whose outputs depend on nearby inputs only: convolutions, spectrograms.

    Inputs come in groups of `stride`, for each of which there are `outputs` outputs. What lies
    outside of a sequence counts as the function has it, usually as zeros.

    Args:
        function: (inputs [B, ..., T], lengths [B]) -> (outputs [B, ..., T'], lengths [B]).
        stride: inputs in a group.
        left: groups at the beginning of a piece whose outputs differ from those for the whole
            sequence, because they depend on inputs before the piece.
        right: inputs after the first one of a group that its outputs depend on.
        outputs: outputs of a group.
    """

    function: Transform
    stride: int = 1
    left: int = 0
    right: int = 0
    outputs: int = 1

    def advance(
        self, states: Sequence[State], inputs: Sequence[Tensor | None], ends: Sequence[bool]
    ) -> list[Tensor | None]:
        """Take new inputs of several streams, and return the outputs that they make certain.

        Args:
            states: of the streams, {} for a new one; changed in place.
            inputs: of each stream, [..., n]; None if there are none.
            ends: whether a stream ends with these inputs.

        Returns:
            Outputs of each stream, [..., m], or None.
        """
        results: list[Tensor | None] = [None] * len(states)
        ready = []
        for i, (state, new) in enumerate(zip(states, inputs, strict=True)):
            append(state, new)
            held = HELD in state and state[HELD].shape[-1] > 0
            if held and (ends[i] or self.ready_groups(state) > self.groups(state, DONE)):
                ready.append(i)
        if not ready:
            return results
        pieces = [states[i][HELD] for i in ready]
        outputs, lengths = self.function(*as_batch(pieces))
        for row, i in enumerate(ready):
            state, length = states[i], int(lengths[row])
            begin = int(state[FIRST]) // self.stride * self.outputs  # of the piece, in outputs
            end = length if ends[i] else self.ready_groups(state) * self.outputs - begin
            start = int(state[DONE]) - begin
            if end > start:
                results[i] = outputs[row, ..., start:end]
                state[DONE] += end - start
            self.drop(state)
        return results

    def groups(self, state: State, key: str) -> int:
        """Number of groups among the outputs (`done`) so far."""
        return int(state[key]) // self.outputs

    def ready_groups(self, state: State) -> int:
        """Number of groups whose outputs are certain, whatever comes."""
        total = int(state[FIRST]) + state[HELD].shape[-1]
        return max(0, (total - 1 - self.right) // self.stride + 1)

    def drop(self, state: State) -> None:
        """Drop the inputs that aren't needed any more."""
        first = max(0, self.groups(state, DONE) - self.left) * self.stride
        unneeded = first - int(state[FIRST])
        if unneeded > 0:
            state[HELD] = state[HELD][..., unneeded:].clone()
            state[FIRST] += unneeded


@dataclass(frozen=True)
class Cached(Stage):
    """A function with a state: recurrent layers, attention to a limited number of past frames.

    Args:
        function: (inputs [B, ..., T], lengths [B], caches) -> (outputs [B, ..., T], caches), where
            each cache has a batch axis first.
        caches: the caches of a new stream, without a batch axis.
        chunk: inputs in a step, of which only the last of a stream has fewer; None: any number.
    """

    function: Callable[[Tensor, Tensor, State], tuple[Tensor, State]]
    caches: State
    chunk: int | None = None

    def advance(
        self, states: Sequence[State], inputs: Sequence[Tensor | None], ends: Sequence[bool]
    ) -> list[Tensor | None]:
        """Take new inputs of several streams, and return the outputs of all complete steps.

        Args:
            states: of the streams, {} for a new one; changed in place.
            inputs: of each stream, [..., n]; None if there are none.
            ends: whether a stream ends with these inputs.

        Returns:
            Outputs of each stream, [..., m], or None.
        """
        parts: list[list[Tensor]] = [[] for _ in states]
        for state, new in zip(states, inputs, strict=True):
            append(state, new)
        while ready := [i for i, state in enumerate(states) if self.is_ready(state, ends[i])]:
            for i, output in zip(ready, self.step([states[i] for i in ready]), strict=True):
                parts[i].append(output)
        for state, own in zip(states, parts, strict=True):
            if own:  # so that what was held before isn't kept in memory
                state[HELD] = state[HELD].clone()
        return [torch.cat(own, -1) if own else None for own in parts]

    def check(self, name: str, value: Tensor) -> None:
        """Check a value of a state that was saved: caches have a certain size."""
        if name not in self.caches:
            super().check(name, value)
        elif value.shape != self.caches[name].shape:
            raise ValueError(f"{name} {list(value.shape)}, not {list(self.caches[name].shape)}")

    def is_ready(self, state: State, end: bool) -> bool:
        """Whether a stream has the inputs of a step."""
        size = state[HELD].shape[-1] if HELD in state else 0
        return size > 0 and (self.chunk is None or end or size >= self.chunk)

    def step(self, states: Sequence[State]) -> list[Tensor]:
        """The outputs of one step of several streams, whose states are changed."""
        # Without padding, after which the caches of a stream that goes on would be wrong.
        most = self.chunk or min(state[HELD].shape[-1] for state in states)
        pieces = [state[HELD][..., :most] for state in states]
        caches = {
            name: torch.stack([state.get(name, start) for state in states]).to(pieces[0].device)
            for name, start in self.caches.items()
        }
        outputs, caches = self.function(*as_batch(pieces), caches)
        for row, (state, piece) in enumerate(zip(states, pieces, strict=True)):
            state[HELD] = state[HELD][..., piece.shape[-1] :]
            state |= {name: cache[row].clone() for name, cache in caches.items()}
        return [outputs[row, ..., : piece.shape[-1]] for row, piece in enumerate(pieces)]


def append(state: State, new: Tensor | None) -> None:
    """Add inputs [..., n] to those that a state holds."""
    if new is None:
        return
    if HELD in state:
        state[HELD] = torch.cat([state[HELD], new], -1)
    else:
        zero = torch.zeros((), dtype=torch.int64)
        state |= {HELD: new, FIRST: zero.clone(), DONE: zero.clone()}


def as_batch(pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pieces [..., n] as zero-padded batch [B, ..., T], with their lengths [B]."""
    sizes = [piece.shape[-1] for piece in pieces]
    longest = max(sizes)
    batch = torch.stack(
        [pad(piece, (0, longest - n)) for piece, n in zip(pieces, sizes, strict=True)]
    )
    return batch, torch.tensor(sizes, device=batch.device)


def convolutions(layers: Sequence[tuple[int, int, int]]) -> dict[str, int]:
    """`stride`, `left` and `right` of a `Sliding` chain of convolutions over time.

    Args:
        layers: of each (kernel size, stride, zeros that are padded before the sequence).
    """
    stride, left, right = 1, 0, 0
    for kernel_size, step, before in layers:
        right += (kernel_size - 1 - before) * stride
        stride *= step
        left = -(-(left + before) // step)
    return {"stride": stride, "left": left, "right": right}


def framewise(function: Callable[[Tensor], Tensor]) -> Sliding:
    """The stage of a function of single frames, [B, ..., T] to [B, ..., T]."""
    return Sliding(lambda inputs, lengths: (function(inputs), lengths))
