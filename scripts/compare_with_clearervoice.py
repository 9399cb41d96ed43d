"""Compare our MossFormer2 with ClearerVoice's: outputs, gradients, speed and memory.

Both models have the same weights. Run in a separate environment:
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

INSTALL = "clearvoice is not installed; --help shows how."
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"d_model": 64, "num_layers": 2},
    "small": {"d_model": 384, "num_layers": 25},
    "full": {"d_model": 512, "num_layers": 24},
}


@functools.cache
def their_class() -> Any:
    """ClearerVoice's network, imported without its package, which would import all tasks.

    Raises:
        ValueError: clearvoice is not installed.
    """
    spec = find_spec("clearvoice")
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(INSTALL)
    root = Path(next(iter(spec.submodule_search_locations)))
    for name, folder in (("clearvoice", root), ("clearvoice.models", root / "models")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    module = importlib.import_module("clearvoice.models.mossformer2_ss.mossformer2")
    return module.MossFormer2_SS_16K


def their_model(path: Path) -> nn.Module:
    """ClearerVoice's model with the weights of a checkpoint, loaded with strict=True."""
    weights = torch.load(path, weights_only=True)["model"]
    options = load_clearervoice(path).options
    arguments = types.SimpleNamespace(
        num_spks=options["num_speakers"],
        encoder_kernel_size=options["kernel_size"],
        encoder_embedding_dim=options["d_model"],
        mossformer_sequence_dim=options["d_model"],
        num_mossformer_layer=options["num_layers"],
    )
    model = their_class()(arguments).model
    model.load_state_dict(weights)
    return model


def our_model(size: str) -> MossFormer2:
    """Our model with random weights, including those of norms and biases."""
    torch.manual_seed(0)
    model = MossFormer2(**SIZES[size])
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and parameter.requires_grad and len(parameter) > 1:
            nn.init.normal_(parameter, 1.0 if "norm.weight" in name else 0.0, 0.1)
    return model


def separate(kind: str, model: nn.Module, audio: Tensor) -> Tensor:
    """Separate mixtures [B, T] into [B, S, T] with either model."""
    if kind == "Ours":
        length = torch.full((len(audio),), audio.shape[1], device=audio.device)
        return model(audio=audio, audio_length=length)["estimates"]
    return torch.stack(model(audio), 1)


def make_sources(seconds: float, device: str = "cpu") -> Tensor:
    """Two sources of noise [1, 2, T] at 16 kHz."""
    draw = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(1, 2, round(seconds * 16000), generator=draw).to(device)


def compare_outputs(path: Path) -> None:
    """Print the differences between the outputs and the gradients of both models.

    Raises:
        ValueError: a difference exceeds its limit.
    """
    models = {"Ours": load_clearervoice(path).eval(), "Theirs": their_model(path).eval()}
    sources, grads, estimates = make_sources(0.5), {}, {}
    for kind, model in models.items():
        estimates[kind] = separate(kind, model, sources.sum(1))
        loss_of(estimates[kind], sources).backward()
        grads[kind] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    differ("estimates", estimates["Ours"], estimates["Theirs"], 1e-5)
    ours = to_clearervoice({**models["Ours"].state_dict(), **grads["Ours"]})  # type: ignore
    # Two correct gradients differ where the input of a ReLU is within rounding of zero.
    errors = {n: relative_error(ours[n], grad) for n, grad in grads["Theirs"].items()}
    worst = max(errors, key=errors.__getitem__)
    middle = median(errors.values())
    print(f"gradients, relative: median {middle:.1e}, {worst} {errors[worst]:.1e}")
    if not middle < 1e-3 or not errors[worst] < 0.1:
        raise ValueError(f"Gradients differ, most in {worst}: {errors[worst]:.1e}, limit 0.1.")


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of `theirs`."""
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()


def loss_of(estimates: Tensor, sources: Tensor) -> Tensor:
    """Permutation-invariant negative SI-SDR in dB."""
    length = torch.full((len(sources),), sources.shape[2], device=sources.device)
    batch = {"estimates": estimates.float(), "sources": sources, "sources_length": length}
    return PermutationInvariantSiSdr()(**batch, audio=sources.sum(1))["loss"]


def inference_of(kind: str, model: nn.Module, seconds: float, bf16: bool) -> Callable[[], None]:
    """A function that separates a mixture of a given duration."""
    device = next(model.parameters()).device.type
    audio = make_sources(seconds, device).sum(1)
    model.eval()

    def step() -> None:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=bf16):
            separate(kind, model, audio)

    return step


def training_of(kind: str, model: nn.Module, seconds: float, bf16: bool) -> Callable[[], None]:
    """A function that makes an optimisation step on audio of a given duration."""
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
    kind: str,
    answer: Any,
    path: Path,
    work: str,
    seconds: float,
    activation_checkpointing: bool,
    threads: int,
) -> None:
    """Put the memory in MiB that "inference" or "training" adds to a new process in `answer`."""
    torch.set_num_threads(threads)
    model: Any = load_clearervoice(path) if kind == "Ours" else their_model(path)
    if kind == "Ours":
        model.mask_net.activation_checkpointing = activation_checkpointing
    make = training_of if work == "training" else inference_of
    make(
        kind, model, 0.1, False
    )()  # loads libraries and allocates buffers, which are not to be measured
    gc.collect()
    answer.put(memory_added(make(kind, model, seconds, False)))


def show_lengths(path: Path, arguments: argparse.Namespace) -> None:
    """Print time and memory of our inference for several durations of audio."""
    model = load_clearervoice(path).to(arguments.device)
    for seconds in arguments.lengths:
        inference_of("Ours", model, 0.1, arguments.bf16)()
        step = inference_of("Ours", model, seconds, arguments.bf16)
        seconds_taken = time_both({"Ours": step}, 1, warm_up=0)["Ours"]
        if arguments.device == "cpu":
            options = (path, "inference", seconds, False, arguments.threads)
            added = cpu_memory(memory_of, ["Ours"], *options)
        else:
            added = gpu_memory({"Ours": step})
        print(f"ours, {seconds:>4g} s of audio: {seconds_taken:.2f} s, {added['Ours']:.0f} MiB")


def show(name: str, ours: float, theirs: float, unit: str) -> None:
    """Print both values and their ratio."""
    print(f"{name:<36}ours {ours:.2f} {unit}, theirs {theirs:.2f} {unit}, {ours / theirs:.2f}")


def compare(arguments: argparse.Namespace) -> None:
    """Print all comparisons for one model size."""
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
                added = gpu_memory(steps)
            else:
                options = (path, name, seconds, False, threads)
                added = cpu_memory(memory_of, ["Ours", "Theirs"], *options)
            show(f"{name}, memory added", added["Ours"], added["Theirs"], "MiB")
        if device == "cpu":
            options = (path, "training", arguments.training_seconds, True, threads)
            ours = cpu_memory(memory_of, ["Ours"], *options)["Ours"]
            show("training, activation checkpointing", ours, added["Theirs"], "MiB")
        del models
        show_lengths(path, arguments)


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="full", choices=SIZES, help="of the model")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of audio at 16 kHz, for inference"
    )
    parser.add_argument(
        "--training-seconds", type=float, default=1.0, help="of audio at 16 kHz, for training"
    )
    parser.add_argument(
        "--lengths",
        type=float,
        nargs="*",
        default=[1, 4, 16, 64],
        help="seconds of audio, for time and memory of our inference",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="timed rounds, after one for warm-up; the median is printed",
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    parser.add_argument(
        "--bf16", action="store_true", help="autocast to bfloat16 where times are measured"
    )
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
