"""Parameters by module: python scripts/count_parameters.py -cn=NAME [key=value ...]."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from torch import nn

from src import build
from src.utils.entry import run_command

HEAD = ("module", "parameters", "trained", "share")


def rows_of(model: nn.Module, depth: int) -> list[tuple[str, int, int]]:
    """(module, parameters, trained ones), for modules down to a depth; shared ones count once."""
    found: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        module = ".".join(name.split(".")[:-1][:depth]) or name
        counts = found.setdefault(module, [0, 0])
        counts[0] += parameter.numel()
        counts[1] += parameter.numel() * parameter.requires_grad
    return [(module, total, trained) for module, (total, trained) in found.items()]


def count(arguments: argparse.Namespace) -> None:
    """Build the model without memory for its weights, and print the table.

    Raises:
        ValueError: the experiment can't be composed.
    """
    try:
        with initialize_config_dir(str(ROOT / "src" / "configs"), version_base="1.3"):
            config = compose(arguments.config_name, overrides=arguments.overrides)
    except HydraException as error:
        raise ValueError(str(error).splitlines()[0]) from None
    text_encoder = build.build(config, "text_encoder")
    with torch.device("meta"):
        model = build.build_model(config, text_encoder)
    rows = rows_of(model, arguments.depth)
    total, trained = sum(row[1] for row in rows), sum(row[2] for row in rows)
    width = max(len(row[0]) for row in rows)
    print(f"{HEAD[0]:<{width}}{HEAD[1]:>16}{HEAD[2]:>16}{HEAD[3]:>8}")
    for module, own, learning in [*rows, ("all", total, trained)]:
        print(f"{module:<{width}}{own:>16,}{learning:>16,}{100 * own / total:>7.1f}%")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Parameters of an experiment's model by module.")
    parser.add_argument("-cn", "--config-name", default="asr_deepspeech2")
    parser.add_argument("--depth", type=int, default=2, help="of the modules shown")
    parser.add_argument("overrides", nargs="*", help="key=value, as for train.py")
    arguments = parser.parse_args()
    run_command(lambda: count(arguments))


if __name__ == "__main__":
    main()
