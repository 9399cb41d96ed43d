"""Compare our MossFormer2 with ClearerVoice's: outputs and gradients.

Both models have the same weights. Speed and memory are measured by scripts/benchmark.py. Run in a
separate environment:
    python3.11 -m venv clearer
    clearer/bin/pip install --no-deps clearvoice==0.1.2
    clearer/bin/pip install torch==2.11.0 einops rotary_embedding_torch==0.8.3 torchinfo jaxtyping
    clearer/bin/pip install numpy scipy pyyaml
    clearer/bin/python scripts/compare_with_clearervoice.py
"""

import argparse
import functools
import importlib
import sys
import tempfile
import types
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor, nn

from scripts.side_by_side import differ
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


def separate(ours: bool, model: nn.Module, audio: Tensor) -> Tensor:
    """Separate mixtures [B, T] into [B, S, T] with our model or theirs."""
    if ours:
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
        estimates[kind] = separate(kind == "Ours", model, sources.sum(1))
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


def compare(arguments: argparse.Namespace) -> None:
    """Print all comparisons for one model size."""
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ours.pt"
        save_clearervoice(our_model(arguments.size), path)
        compare_outputs(path)


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="full", choices=SIZES, help="of the model")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
