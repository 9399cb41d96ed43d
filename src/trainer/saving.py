"""Checkpoints, written by a thread while training goes on."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from src.utils.checkpoint import finish_shards, new_folder, remove_checkpoint, save_shard
from src.utils.entry import sentence
from src.utils.shards import Pieces, is_sharded, take_shards

logger = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a run, one after the other.

    As a context it waits for the last one at its end, whatever ends it.

    Args:
        run: `src.run.Run`.
        model: whose weights are saved; if it is sharded, each process writes its own shards.
        accelerator: of this process.
        background: copy everything to the memory of the CPU and let a thread write it; False:
            write it before `save` returns.
        timeout: seconds that the processes of a sharded model wait for each other to write.
    """

    def __init__(
        self, run: Any, model: nn.Module, accelerator: Accelerator, background: bool, timeout: float
    ):
        self.run, self.accelerator, self.background = run, accelerator, background
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None
        self.group = None
        if any(map(is_sharded, model.parameters())):
            # Of its own, since training goes on exchanging gradients.
            limit = timedelta(seconds=timeout)
            self.group = torch.distributed.new_group(backend="gloo", timeout=limit)

    def save(
        self, name: str, weights: dict[str, Tensor], state: dict, self_test: dict[str, Tensor]
    ) -> None:
        """Save a checkpoint; all processes must call this.

        Args:
            name: `best` or `last`.
            weights: the model's state dict.
            state: of training.
            self_test: as for `Run.save`; of processes other than the main one not used.

        Raises:
            OSError: this checkpoint or the one before could not be written.
        """
        self.wait()
        main = self.accelerator.is_main_process
        if self.group is None:
            if main:
                kept, state = self.kept(weights), self.kept(state)
                self.start(lambda: self.run.save(name, kept, state, self_test))
            return
        pieces: Pieces = {}
        rest = {"model": take_shards(weights, "model", pieces)}
        rest["state"] = take_shards(state, "state", pieces)
        if main:  # other weights, such as running statistics, are equal in all processes
            rank0 = {f"model.{k}": v for k, v in weights.items() if not is_sharded(v)}
            pieces |= {key: (value, [0] * value.ndim) for key, value in rank0.items()}
            remove_checkpoint(new_folder(self.run.path / name))  # that wasn't completed
        self.accelerator.wait_for_everyone()
        pieces, state = self.kept(pieces), self.kept(rest["state"])
        self.start(lambda: self.write_shards(name, pieces, state, self_test))

    def write_shards(
        self, name: str, pieces: Pieces, state: dict, self_test: dict[str, Tensor]
    ) -> None:
        """Write the shards of this process, and in the main one all else; they succeed together.

        Raises:
            OSError: one of them could not write.
        """
        folder, rank = self.run.path / name, self.accelerator.process_index
        try:
            digests = self.together(lambda: save_shard(folder, rank, pieces))
            merged = {file: digest for own in digests for file, digest in own.items()}
            if rank == 0:
                self.together(lambda: finish_shards(folder, merged, state, self_test))
            else:
                self.together(lambda: None)
        except OSError:
            if rank == 0:
                remove_checkpoint(new_folder(folder))  # of all processes
            raise

    def together(self, write: Callable[[], Any]) -> list[Any]:
        """The results of a function in all processes.

        Raises:
            OSError: one of them failed; in all processes.
        """
        try:
            own, error = write(), None
        except Exception as failure:
            own, error = None, sentence(failure)
        results: list[Any] = [None] * self.accelerator.num_processes
        torch.distributed.all_gather_object(results, (own, error), group=self.group)
        for _, failed in results:
            if failed is not None:
                raise OSError(failed)
        return [result for result, _ in results]

    def kept(self, value: Any) -> Any:
        """What a thread writes: a copy of containers with tensors, in the memory of the CPU."""
        return copied(value) if self.background else value

    def start(self, write: Callable[[], None]) -> None:
        """Call a function, in a thread if that is wanted."""

        def call() -> None:
            try:
                write()
            except BaseException as error:
                self.error = error

        if not self.background:
            write()
            return
        # As a daemon it doesn't keep a program that a second signal ends.
        self.thread = threading.Thread(target=call, name="checkpoint", daemon=True)
        self.thread.start()

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be written, without waiting for it."""
        if self.thread is not None and not self.thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            OSError: it could not be written.
        """
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        error, self.error = self.error, None
        if error is not None:
            raise error

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        if kind is None:
            self.wait()
        elif self.thread is not None and not issubclass(kind, KeyboardInterrupt):
            self.thread.join()  # the error that ends training comes first


def copied(value: Any) -> Any:
    """A copy of nested containers whose tensors are in the memory of the CPU."""
    if isinstance(value, Tensor):
        value = value.detach()
        return value.clone() if value.device.type == "cpu" else value.cpu()
    if isinstance(value, Mapping):
        return {key: copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(one) for one in value)
    return value
