"""NEST's training step beside NVIDIA NeMo's."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.benchmarks.measuring import OURS, Case, Options, installed, missing
from scripts.compare_with_nemo import Ours, Theirs, make_batch, our_model
from scripts.side_by_side import memory_added
from src.interop.nemo import save_nemo

CLASSES: dict[str, Any] = {OURS: Ours, "NeMo": Theirs}


def training_step(system: Any, batch: dict[str, Tensor], options: Options) -> Callable[[], None]:
    """A function that makes one optimisation step; ours has the fused optimizer of its recipe."""
    parameters = [p for p in system.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=isinstance(system, Ours))
    system.model.train()

    def step() -> None:
        optimizer.zero_grad()
        with options.autocast():
            loss = system(batch, None)["loss"]
        if torch.isfinite(loss):
            loss.backward()
        optimizer.step()

    return step


def memory_of(kind: str, answer: Any, path: Path, size: tuple, threads: int) -> None:
    """Put the memory that forward and backward pass add to a new process in `answer`."""
    torch.set_num_threads(threads)
    system = CLASSES[kind](path)
    system.model.train()
    system(make_batch(1, 1.0), None)["loss"].backward()  # loads libraries
    system.model.zero_grad()
    gc.collect()
    batch = make_batch(*size)
    answer.put(memory_added(lambda: system(batch, None)["loss"].backward()))


def cases(options: Options) -> Iterator[Case]:
    """A training step of NEST-L."""
    name, size = ("tiny", (2, 2.0)) if options.quick else ("L", (4, 10.0))
    kinds = [OURS, *(["NeMo"] if installed("nemo") else [])]
    batch = {key: value.to(options.device) for key, value in make_batch(*size).items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.nemo"
        save_nemo(our_model(name, dropout=True), path)
        steps = {
            kind: training_step(CLASSES[kind](path, options.device), batch, options)
            for kind in kinds
        }
        memory = (memory_of, kinds, (path, size, options.threads))
        note = "" if len(kinds) > 1 else missing("NeMo")
        title = f"NEST-{name}, training step, {size[0]} x {size[1]:g} s"
        yield Case(title, steps, note, None if options.quick else memory)
