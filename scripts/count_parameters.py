"""Count parameters by module: python scripts/count_parameters.py -cn=NAME [key=value ...]."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from torch import nn

from src.building import build_model
from src.config import build, check_top_level
from src.utils.entry import run_command

HEADER = ("module", "parameters", "trained", "fraction")


def rows_of(model: nn.Module, depth: int) -> list[tuple[str, int, int]]:
    """Number of parameters and of trained parameters by module.

    Args:
        model: the model; a parameter that modules share is counted once.
        depth: levels of the module hierarchy that are told apart.

    Returns:
        Rows (module, parameters, trained parameters).
    """
    rows: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        module = ".".join(name.split(".")[:-1][:depth]) or name
        counts = rows.setdefault(module, [0, 0])
        counts[0] += parameter.numel()
        counts[1] += parameter.numel() * parameter.requires_grad
    return [(module, total, trained) for module, (total, trained) in rows.items()]


def count(arguments: argparse.Namespace) -> None:
    """Build the model on the meta device, which takes no memory, and print its parameters.

    Raises:
        ValueError: the config can't be composed, is one of inference, or leaves the model open.
    """
    try:
        with initialize_config_dir(str(ROOT / "src" / "configs"), version_base="1.3"):
            config = compose(arguments.config_name, overrides=arguments.overrides)
    except HydraException as error:
        raise ValueError(str(error).splitlines()[0]) from None
    check_top_level(config)
    text_encoder = build(config, "text_encoder")
    with torch.device("meta"):
        model = build_model(config, text_encoder)
    if not isinstance(model, nn.Module):
        raise ValueError("config, model: without _target_; it is that of init.model.source.")
    rows = rows_of(model, arguments.depth)
    total, trained = sum(row[1] for row in rows), sum(row[2] for row in rows)
    width = max(len(row[0]) for row in rows)
    print(f"{HEADER[0]:<{width}}{HEADER[1]:>16}{HEADER[2]:>16}{HEADER[3]:>10}")
    for module, own, trained_here in [*rows, ("all", total, trained)]:
        print(f"{module:<{width}}{own:>16,}{trained_here:>16,}{100 * own / total:>9.1f}%")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Count the parameters of an experiment's model by module."
    )
    parser.add_argument("-cn", "--config-name", default="asr_deepspeech2", help="experiment")
    parser.add_argument(
        "--depth", type=int, default=2, help="levels of the module hierarchy (default: 2)"
    )
    parser.add_argument("overrides", nargs="*", help="key=value, as for train.py")
    arguments = parser.parse_args()
    run_command(lambda: count(arguments))


if __name__ == "__main__":
    main()
