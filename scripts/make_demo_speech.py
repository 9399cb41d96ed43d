"""Make the demo speech: python scripts/make_demo_speech.py [--folder data/demo_speech]."""

import argparse
import json
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.demo_speech import NOTE, Recipe, make_demo_speech
from src.utils.entry import run_command


def main() -> None:
    """Make it, and say how much there is."""
    parser = argparse.ArgumentParser(description="Make the demo speech, unless it is there.")
    parser.add_argument("--folder", type=Path, default=Path("data/demo_speech"))
    parser.add_argument(
        "--hours", type=float, nargs=3, metavar=("TRAIN", "VAL", "TEST"), help="of each split"
    )
    parser.add_argument("--workers", type=int, help="voices at a time; default: one a core")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = Recipe(hours=tuple(arguments.hours)) if arguments.hours else None
    folder = run_command(lambda: make_demo_speech(arguments.folder, recipe, arguments.workers))
    for split, counts in json.loads((folder / NOTE).read_text())["splits"].items():
        print(f"{split:<6}" + "".join(f"{value:>9} {name}" for name, value in counts.items()))


if __name__ == "__main__":
    main()
