"""Write a pretrained run as NVIDIA NeMo's file: python scripts/convert.py RUN OUT.nemo."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.interop.nemo import save_nemo
from src.models.nest import NEST
from src.run import load_run
from src.transforms.features.log_mel import LogMel
from src.utils.entry import run_command


def convert(arguments: argparse.Namespace) -> None:
    """Load the run, see that it is one that NeMo knows, write it.

    Raises:
        ValueError: the run holds another model, or the name doesn't end in .nemo.
    """
    if arguments.out.suffix != ".nemo":
        raise ValueError(f"{arguments.out}: the name must end in .nemo.")
    run = load_run(arguments.run, arguments.checkpoint, device="cpu")
    if not isinstance(run.model, NEST):
        raise ValueError(f"{arguments.run}: holds {type(run.model).__name__}; wanted NEST.")
    features = next((t for t in run.transforms.values() if isinstance(t, LogMel)), None)
    if features is None:
        raise ValueError(f"{arguments.run}: no log-mel features, and NeMo knows no others.")
    save_nemo(run.model, arguments.out, features)
    total = sum(parameter.numel() for parameter in run.model.parameters())
    print(f"{arguments.out}: {total:,} parameters")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Write a pretrained run as NeMo's file.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    arguments = parser.parse_args()
    run_command(lambda: convert(arguments))


if __name__ == "__main__":
    main()
