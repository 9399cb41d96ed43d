"""Train a subword model by byte-pair encoding: python scripts/train_subwords.py MANIFEST OUT."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.text_encoder.normalizer import LATIN, Normalizer, normalized
from src.text_encoder.subwords import train_subwords
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_whole


def train(arguments: argparse.Namespace) -> None:
    """Train the model and write it.

    Raises:
        ValueError: the size is out of range, the manifest is bad or has no texts, or `out` is a
            folder.
    """
    check_whole("--size", arguments.size, low=2, high=1_000_000)
    if arguments.out.is_dir():
        raise ValueError(f"{arguments.out}: a folder, not a file to write.")
    normalize = Normalizer(arguments.language, arguments.fold_yo, arguments.latin)
    texts = (row.text for row in Manifest(arguments.manifest) if row.text)
    model = train_subwords(normalized(texts, normalize, arguments.manifest), arguments.size)
    with write_beside(arguments.out) as path:
        path.write_bytes(model)
    group = "russian_subwords" if arguments.language == "ru" else "subwords"
    print(f"Use it with: text_encoder={group} text_encoder.model={arguments.out}")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train a subword model by byte-pair encoding on the transcripts of a manifest."
    )
    parser.add_argument("manifest", type=Path, help="its transcripts are the training data")
    parser.add_argument("out", type=Path, help="sentencepiece model to write")
    parser.add_argument("--size", type=int, default=128, help="vocabulary size (default: 128)")
    parser.add_argument(
        "--language", default="en", choices=["en", "ru"], help="of the normalisation"
    )
    parser.add_argument("--fold-yo", action="store_true", help="Russian: replace ё by е")
    parser.add_argument(
        "--latin", default=LATIN[0], choices=LATIN, help="Russian: Latin letters (default: keep)"
    )
    arguments = parser.parse_args()
    run_command(lambda: train(arguments))


if __name__ == "__main__":
    main()
