"""Synthesise the demo speech: python scripts/make_demo_speech.py [--folder data/demo_speech].

Does nothing but print the number of voices, utterances and hours if the folder holds it already.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.demo.speech import NOTE, Recipe, make_demo_speech
from src.utils.entry import run_command


def make(arguments: argparse.Namespace) -> Path:
    """Synthesise the corpus, unless it exists; returns its folder."""
    recipe = Recipe(hours=tuple(arguments.hours)) if arguments.hours else None
    return make_demo_speech(arguments.folder, recipe, arguments.workers)


def main() -> None:
    """Parse the command line, make the corpus, and print the size of its splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("data/demo_speech"), help="to write")
    parser.add_argument(
        "--hours",
        type=float,
        nargs=3,
        metavar=("TRAIN", "VAL", "TEST"),
        help="duration of each split (default: 4 0.2 0.3)",
    )
    parser.add_argument(
        "--workers", type=int, help="parallel processes (default: number of CPU cores)"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = run_command(lambda: make(arguments))
    for split, counts in json.loads((folder / NOTE).read_text())["splits"].items():
        print(f"{split:<6}" + "".join(f"{value:>9} {name}" for name, value in counts.items()))


if __name__ == "__main__":
    main()
