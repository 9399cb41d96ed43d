"""Worker processes that read batches, and end with the object that owns them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

GRACE = 2.0  # seconds in which workers may end by themselves before they are killed


class BatchIterator:
    """What a DataLoader yields; its worker processes end with this object.

    They end at the last batch, at an error, at `close()`, when this object is garbage collected,
    and before the interpreter exits. Other child processes are left alone.

    Args:
        loader: not yet iterated.
    """

    def __init__(self, loader: DataLoader):
        with blocked_signals():
            self.batches = iter(loader)
        # Unlike weakref's, this finalizer runs before multiprocessing joins its children at exit,
        # and never in a forked copy of this process.
        self.close = Finalize(self, end_workers, args=(self.batches,), exitpriority=0)

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Any:
        try:
            return next(self.batches)
        except BaseException:
            self.close()
            raise


def end_workers(batches: Any) -> None:
    """End the worker processes of a DataLoader's iterator, those that hang included."""
    workers = getattr(batches, "_workers", [])
    if not workers:
        return
    if batches._worker_pids_set:  # or torch takes their end for a fault, and raises
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
    impatience = threading.Timer(GRACE, kill, [workers])
    impatience.daemon = True
    with suppress(RuntimeError):  # no thread can start while the interpreter exits
        impatience.start()
    batches._shutdown_workers()
    impatience.cancel()
    kill(workers)
    for worker in workers:
        worker.join()


def kill(workers: list[BaseProcess]) -> None:
    """Kill processes; SIGTERM is blocked in them."""
    for worker in workers:
        worker.kill()


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block SIGINT and SIGTERM in the block, and for good in the processes that it starts.

    A signal to the whole process group then reaches the main process alone, which may still need
    batches. Ignored inside of the workers, a signal in their first milliseconds would end them.
    Windows can't block signals.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def iterate(dataset: Any, num_workers: int, seed: int, **options: Any) -> BatchIterator:
    """Batches of a dataset.

    The generator keeps torch from drawing the workers' seeds from the global random state.

    Args:
        dataset: of items or, if it is iterable, of batches.
        num_workers: 0 or more.
        seed: of the workers' own random state.
        options: of `DataLoader`.
    """
    return BatchIterator(
        DataLoader(
            dataset,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(seed),
            **options,
        )
    )


def read_in_order(items: Any, num_workers: int) -> Iterator[dict[str, Any]]:
    """The dicts `items[i]` in their order, read by worker processes.

    Arrays are passed in shared memory: they would fill the pipes, in which a worker would hang if
    this process was killed.

    Args:
        items: with `__len__` and `__getitem__`.
        num_workers: 1 or more.
    """
    for item in iterate(items, num_workers, 0, batch_size=None, collate_fn=with_tensors):
        yield {k: v.numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in item.items()}


def with_tensors(item: dict[str, Any]) -> dict[str, Any]:
    """A dict whose arrays are tensors."""
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in item.items()}
