"""List every bad row of a manifest: python scripts/check_manifest.py FILE."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.checking import find_faults
from src.text_encoder.characters import CharacterEncoder
from src.utils.entry import run_command


def check(arguments: argparse.Namespace) -> int:
    """Print a line for each bad row; returns how many there are."""
    rows = bad = 0
    encoder = CharacterEncoder(arguments.alphabet)
    for number, fault in find_faults(arguments.file, encoder, arguments.frames_per_second):
        rows += 1
        if fault:
            bad += 1
            tqdm.write(f"line {number}: {fault}")
    print(f"{bad} of {rows} rows are bad.", file=sys.stderr)
    return bad


def main() -> None:
    """Read the command line; exit with 1 if a row is bad."""
    parser = argparse.ArgumentParser(description="List every bad row of a manifest.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--alphabet", default="en", help="en, ru or the characters (default: en)")
    parser.add_argument(
        "--frames-per-second",
        type=float,
        default=25.0,
        help="that the model puts out (default: 25, the demo model's)",
    )
    arguments = parser.parse_args()
    sys.exit(1 if run_command(lambda: check(arguments)) else 0)


if __name__ == "__main__":
    main()
