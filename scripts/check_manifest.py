"""List every bad row of a manifest: python scripts/check_manifest.py FILE.

A row is bad if its audio can't be read or is silent, its duration differs from that of the file,
its text has characters outside of the alphabet, or is too long for CTC. The exit code is 1 if there
is a bad row.
"""

import argparse
import sys
from pathlib import Path

from tqdm.auto import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.checking import find_errors
from src.text_encoder.characters import CharacterEncoder
from src.text_encoder.languages import LANGUAGES
from src.utils.entry import run_command


def check(arguments: argparse.Namespace) -> int:
    """Print the error of each bad row; returns the number of bad rows."""
    rows = bad = 0
    option = "language" if arguments.alphabet in LANGUAGES else "alphabet"
    encoder = CharacterEncoder(**{option: arguments.alphabet})
    for number, error in find_errors(arguments.file, encoder, arguments.frames_per_second):
        rows += 1
        if error:
            bad += 1
            tqdm.write(f"line {number}: {error}")
    print(f"{bad} of {rows} rows are bad.", file=sys.stderr)
    return bad


def main() -> None:
    """Parse the command line and check the manifest; exits with 1 if a row is bad."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="manifest, one JSON object per line")
    parser.add_argument(
        "--alphabet", default="en", help="en, ru, or a string of characters (default: en)"
    )
    parser.add_argument(
        "--frames-per-second",
        type=float,
        default=25.0,
        help="output frames of the model, for the CTC check (default: 25, the demo model)",
    )
    arguments = parser.parse_args()
    sys.exit(1 if run_command(lambda: check(arguments)) else 0)


if __name__ == "__main__":
    main()
