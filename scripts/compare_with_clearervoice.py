"""Our MossFormer2 beside ClearerVoice's: the same weights in both, their outputs, times, memory.

In an environment of its own:
    python3.11 -m venv clearer
    clearer/bin/pip install --no-deps clearvoice==0.1.2
    clearer/bin/pip install torch==2.11.0 einops rotary_embedding_torch==0.8.3 torchinfo jaxtyping
    clearer/bin/pip install numpy scipy pyyaml
    clearer/bin/python scripts/compare_with_clearervoice.py
"""

import argparse
import functools
import gc
import importlib
import sys
import tempfile
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn

from scripts.side_by_side import cpu_memory, differ, gpu_memory, memory_added, time_both
from src.interop.clearervoice import load_clearervoice, save_clearervoice, to_clearervoice
from src.loss.pit import PermutationInvariantSiSdr
from src.models.mossformer2 import MossFormer2
from src.utils.entry import run_command

INSTALL = "clearvoice is not installed; the head of this script says how to get it."
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 64, "layers": 2},
    "small": {"width": 384, "layers": 25},
    "full": {"width": 512, "layers": 24},
}


@functools.cache
def their_class() -> Any:
    """ClearerVoice's network, without the package's front door, which loads all of its tasks.

    Raises:
        ValueError: it is not installed.
    """
    spec = find_spec("clearvoice")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(INSTALL)
    root = Path(next(iter(spec.submodule_search_locations)))
    for name, place in (("clearvoice", root), ("clearvoice.models", root / "models")):
        package = types.ModuleType(name)
        package.__path__ = [str(place)]
        sys.modules[name] = package
    module = importlib.import_module("clearvoice.models.mossformer2_ss.mossformer2")
    return module.MossFormer2_SS_16K


def their_model(path: Path) -> nn.Module:
    """Theirs with the weights of a checkpoint that we wrote, all of which must fit."""
    weights = torch.load(path, weights_only=True)["model"]
    options = load_clearervoice(path).options
    arguments = types.SimpleNamespace(
        num_spks=options["speakers"],
        encoder_kernel_size=options["kernel"],
        encoder_embedding_dim=options["width"],
        mossformer_sequence_dim=options["width"],
        num_mossformer_layer=options["layers"],
    )
    model = their_class()(arguments).model
    model.load_state_dict(weights)
    return model


def our_model(size: str) -> MossFormer2:
    """A MossFormer2 with random weights, norms and biases too."""
    torch.manual_seed(0)
    model = MossFormer2(**SIZES[size])
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and parameter.requires_grad and len(parameter) > 1:
            nn.init.normal_(parameter, 1.0 if "norm.weight" in name else 0.0, 0.1)
    return model


def separate(kind: str, model: nn.Module, audio: Tensor) -> Tensor:
    """[B, S, T] by either model."""
    if kind == "Ours":
        size = torch.full((len(audio),), audio.shape[1], device=audio.device)
        return model(audio=audio, audio_length=size)["estimates"]
    return torch.stack(model(audio), 1)


def make_sources(seconds: float, device: str = "cpu") -> Tensor:
    """Two signals [1, 2, T] at 16 kHz."""
    draw = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(1, 2, round(seconds * 16000), generator=draw).to(device)


def compare_outputs(path: Path) -> None:
    """Print how far the estimates and gradients of both are apart."""
    models = {"Ours": load_clearervoice(path).eval(), "Theirs": their_model(path).eval()}
    sources, grads, found = make_sources(0.5), {}, {}
    for kind, model in models.items():
        found[kind] = separate(kind, model, sources.sum(1))
        loss_of(found[kind], sources).backward()
        grads[kind] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    differ("estimates", found["Ours"], found["Theirs"], 1e-5)
    ours = to_clearervoice({**models["Ours"].state_dict(), **grads["Ours"]})  # type: ignore
    # Where the input of a ReLU lies within rounding of zero two right gradients differ somewhat.
    apart = {n: relative(ours[n], own) for n, own in grads["Theirs"].items()}
    worst = max(apart, key=apart.__getitem__)
    print(f"gradients, relative: median {median(apart.values()):.1e}, {worst} {apart[worst]:.1e}")
    if not median(apart.values()) < 1e-3 or not apart[worst] < 0.1:
        raise ValueError(f"gradients differ, most that of {worst}.")


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm."""
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()


def loss_of(estimates: Tensor, sources: Tensor) -> Tensor:
    """Minus SI-SDR."""
    size = torch.full((len(sources),), sources.shape[2], device=sources.device)
    given = {"estimates": estimates.float(), "sources": sources, "sources_length": size}
    return PermutationInvariantSiSdr()(**given, audio=sources.sum(1))["loss"]


def inference_of(kind: str, model: nn.Module, seconds: float, bf16: bool) -> Callable[[], None]:
    """A separation as a function."""
    device = next(model.parameters()).device.type
    audio = make_sources(seconds, device).sum(1)
    model.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            separate(kind, model, audio)

    return step


def training_of(kind: str, model: nn.Module, seconds: float, bf16: bool) -> Callable[[], None]:
    """An optimisation step as a function."""
    device = next(model.parameters()).device.type
    sources = make_sources(seconds, device)
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True
    )
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            estimates = separate(kind, model, sources.sum(1))
        loss_of(estimates, sources).backward()
        optimizer.step()

    return step


def memory_of(
    kind: str, answer: Any, path: Path, work: str, seconds: float, recompute: bool, threads: int
) -> None:
    """What some work adds to the memory of a fresh process; CPU."""
    torch.set_num_threads(threads)
    model: Any = load_clearervoice(path) if kind == "Ours" else their_model(path)
    if kind == "Ours":
        model.mask_net.recompute = recompute
    make = training_of if work == "training" else inference_of
    make(kind, model, 0.1, False)()  # what is loaded and set up once is no matter here
    gc.collect()
    answer.put(memory_added(make(kind, model, seconds, False)))


def show_lengths(path: Path, arguments: argparse.Namespace) -> None:
    """Time and memory of ours for longer and longer audio."""
    model = load_clearervoice(path).to(arguments.device)
    for seconds in arguments.lengths:
        inference_of("Ours", model, 0.1, arguments.bf16)()
        step = inference_of("Ours", model, seconds, arguments.bf16)
        took = time_both({"Ours": step}, 1, warm_up=0)["Ours"]
        if arguments.device == "cpu":
            options = (path, "inference", seconds, False, arguments.threads)
            added = cpu_memory(memory_of, ["Ours"], *options)
        else:
            added = gpu_memory({"Ours": step})
        print(f"ours, {seconds:>4g} s of audio: {took:.2f} s, {added['Ours']:.0f} MiB")


def show(what: str, ours: float, theirs: float, unit: str) -> None:
    """Both, and their ratio."""
    print(f"{what:<36}ours {ours:.2f} {unit}, theirs {theirs:.2f} {unit}, {ours / theirs:.2f}")


def compare(arguments: argparse.Namespace) -> None:
    """All comparisons of one size."""
    torch.set_num_threads(arguments.threads)
    device, threads = arguments.device, arguments.threads
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.pt"
        save_clearervoice(our_model(arguments.size), path)
        compare_outputs(path)
        models: dict[str, nn.Module] = {
            "Ours": load_clearervoice(path).to(device),
            "Theirs": their_model(path).to(device),
        }
        for name, make, seconds in (
            ("inference", inference_of, arguments.seconds),
            ("training", training_of, arguments.training_seconds),
        ):
            steps = {k: make(k, model, seconds, arguments.bf16) for k, model in models.items()}
            times = time_both(steps, arguments.rounds)
            show(f"{name}, {seconds:g} s of audio", times["Ours"], times["Theirs"], "s")
            if device == "cuda":
                found = gpu_memory(steps)
            else:
                options = (path, name, seconds, False, threads)
                found = cpu_memory(memory_of, ["Ours", "Theirs"], *options)
            show(f"{name}, memory added", found["Ours"], found["Theirs"], "MiB")
        if device == "cpu":
            options = (path, "training", arguments.training_seconds, True, threads)
            frugal = cpu_memory(memory_of, ["Ours"], *options)["Ours"]
            show("training, memory with recomputation", frugal, found["Theirs"], "MiB")
        del models
        show_lengths(path, arguments)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Our MossFormer2 beside ClearerVoice's.")
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--seconds", type=float, default=4.0, help="separated, at 16 kHz")
    parser.add_argument("--training-seconds", type=float, default=1.0)
    parser.add_argument("--lengths", type=float, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=1, help="timed, after one of warm-up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
