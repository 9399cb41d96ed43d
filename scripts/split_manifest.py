"""Split a manifest: python scripts/split_manifest.py FILE FOLDER --by=speaker.

Writes FOLDER/train.jsonl, val.jsonl and test.jsonl. All rows of a speaker (or of a sentence) are
in one split, which follows from a hash of its name alone: when rows are added to FILE and it is
split again, no other row moves. With --by=duration the limits between the splits are given.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.corpora.forms import placed
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.splitting import (
    sentence_of,
    shared,
    speaker_of,
    split_by_duration,
    split_by_hash,
)
from src.datasets.statistics import print_statistics
from src.utils.entry import run_command
from src.utils.options import check_whole, shown

KEYS = {"speaker": speaker_of, "sentence": sentence_of}


def parse_fractions(texts: list[str]) -> dict[str, float]:
    """Name -> fraction, of texts like `train=0.8`.

    Raises:
        ValueError: one is something else, or a name is no file name or occurs twice.
    """
    fractions: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name.isidentifier() or name in fractions:
            raise ValueError(f"--splits: {shown(text)}; a name of its own, as train=0.8.")
        try:
            fractions[name] = float(value or "nan")
        except ValueError:
            raise ValueError(f"--splits: {shown(text)}; NAME=FRACTION, as train=0.8.") from None
    return fractions


def split(arguments: argparse.Namespace) -> None:
    """Write the splits, and print what they hold.

    Raises:
        FileExistsError: a file of a split exists, and isn't to be replaced.
        ValueError: an option is bad, or a row has no speaker or sentence.
    """
    check_whole("--seed", arguments.seed, low=0)
    fractions = parse_fractions(arguments.splits)
    source, folder = arguments.manifest, arguments.folder
    paths = {name: folder / f"{name}.jsonl" for name in fractions}
    for path in paths.values():
        same = path.exists() and source.exists() and path.samefile(source)
        if same or (path.exists() and not arguments.replace):
            advice = "choose another folder" if same else "--replace replaces it"
            raise FileExistsError(f"{path}: exists; {advice}.")
    manifest = Manifest(source)
    if arguments.by == "duration":
        splits = split_by_duration(manifest, list(fractions), arguments.limits)
    else:
        splits = split_by_hash(manifest, KEYS[arguments.by], fractions, arguments.seed)
    for name, rows in splits.items():
        write_manifest(paths[name], [placed(values, folder, source.parent) for values in rows])
        print_statistics(f"{paths[name]}", rows)
    for name, key in KEYS.items():
        count = shared(splits, key)
        if count is not None:
            print(f"{name}s in more than one split: {count}")


def main() -> None:
    """Parse the command line and split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="JSON lines")
    parser.add_argument("folder", type=Path, help="to write to")
    parser.add_argument("--by", choices=[*KEYS, "duration"], default="speaker")
    parser.add_argument(
        "--splits",
        nargs="+",
        metavar="NAME=FRACTION",
        default=["train=0.8", "val=0.1", "test=0.1"],
        help="of the speakers or sentences (default: train=0.8 val=0.1 test=0.1)",
    )
    parser.add_argument(
        "--limits",
        nargs="+",
        type=float,
        default=[],
        metavar="SECONDS",
        help="between the splits, ascending, with --by=duration",
    )
    parser.add_argument("--seed", type=int, default=0, help="gives other splits (default: 0)")
    parser.add_argument("--replace", action="store_true", help="replace the files of splits")
    arguments = parser.parse_args()
    run_command(lambda: split(arguments))


if __name__ == "__main__":
    main()
