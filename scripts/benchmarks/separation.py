"""MossFormer2 beside ClearerVoice's."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scripts.benchmarks.measuring import OURS, Case, Options, installed, missing
from scripts.compare_with_clearervoice import (
    loss_of,
    make_sources,
    our_model,
    separate,
    their_model,
)
from scripts.side_by_side import memory_added
from src.interop.clearervoice import load_clearervoice, save_clearervoice

THEIRS = "clearvoice"


def inference_of(
    kind: str, model: nn.Module, seconds: float, options: Options
) -> Callable[[], None]:
    """A function that separates a mixture of a given duration."""
    audio = make_sources(seconds, options.device).sum(1)
    model.eval()

    def step() -> None:
        model.eval()
        with torch.inference_mode(), options.autocast():
            separate(kind == OURS, model, audio)

    return step


def training_of(
    kind: str, model: nn.Module, seconds: float, options: Options
) -> Callable[[], None]:
    """A function that makes an optimisation step on audio of a given duration."""
    sources = make_sources(seconds, options.device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-5, fused=True)

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        with options.autocast():
            estimates = separate(kind == OURS, model, sources.sum(1))
        loss_of(estimates, sources).backward()
        optimizer.step()

    return step


KINDS = {"inference": inference_of, "training step": training_of}


def load(kind: str, path: Path) -> nn.Module:
    """Either model with the weights of a checkpoint; "checkpointing" is ours."""
    if kind == THEIRS:
        return their_model(path)
    model = load_clearervoice(path)
    model.mask_net.activation_checkpointing = kind == "checkpointing"
    return model


def memory_of(kind: str, answer: Any, path: Path, work: str, seconds: float, threads: int) -> None:
    """Put the memory in MiB that inference or training adds to a new process in `answer`."""
    torch.set_num_threads(threads)
    model, options = load(kind, path), Options(threads=threads)
    own = THEIRS if kind == THEIRS else OURS
    KINDS[work](own, model, 0.1, options)()  # loads libraries and allocates buffers
    gc.collect()
    answer.put(memory_added(KINDS[work](own, model, seconds, options)))


def cases(options: Options) -> Iterator[Case]:
    """Inference and training of MossFormer2, and inference of longer audio by ours alone."""
    kinds = [OURS, *([THEIRS] if installed("clearvoice") else [])]
    note = "" if len(kinds) > 1 else missing("clearvoice")
    size, durations = ("tiny", (0.2, 0.2)) if options.quick else ("full", (4.0, 1.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.pt"
        save_clearervoice(our_model(size), path)
        models = {kind: load(kind, path).to(options.device) for kind in kinds}
        for (work, make), seconds in zip(KINDS.items(), durations, strict=True):
            steps = {kind: make(kind, models[kind], seconds, options) for kind in kinds}
            memory = (memory_of, kinds, (path, work, seconds, options.threads))
            name = f"MossFormer2, {work}, {seconds:g} s"
            yield Case(name, steps, note, None if options.quick else memory)
        if options.quick:
            return
        own = load("checkpointing", path).to(options.device)
        step = {OURS: training_of(OURS, own, durations[1], options)}
        arguments = (path, "training step", durations[1], options.threads)
        title = f"MossFormer2, training step, {durations[1]:g} s, activation checkpointing"
        yield Case(title, step, "ours alone", (memory_of, ["checkpointing"], arguments))
        for seconds in (1.0, 16.0):
            step = {OURS: inference_of(OURS, models[OURS], seconds, options)}
            arguments = (path, "inference", seconds, options.threads)
            title = f"MossFormer2, inference, {seconds:g} s"
            yield Case(title, step, "ours alone", (memory_of, [OURS], arguments))
