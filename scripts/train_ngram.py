"""Train an n-gram language model of words: python scripts/train_ngram.py MANIFEST OUT.arpa."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.text_encoder.decoders.ngram_training import train_ngram
from src.text_encoder.normalizer import LATIN, Normalizer
from src.utils.entry import run_command
from src.utils.options import check_whole


def train(arguments: argparse.Namespace) -> None:
    """Train the model and write it.

    Raises:
        ValueError: the order is out of range, the manifest is bad, or `out` is a folder.
    """
    check_whole("--order", arguments.order, high=100)
    if arguments.out.is_dir():
        raise ValueError(f"{arguments.out}: a folder, not a file to write.")
    normalize = Normalizer(arguments.language, arguments.fold_yo, arguments.latin)
    texts = (normalize(row.text) for row in Manifest(arguments.manifest) if row.text)
    model = train_ngram(texts, arguments.order)
    model.write_arpa(arguments.out)
    print(f"{len(model.ngrams)} n-grams. Use them with: ", end="")
    print(f"+task.decoders.beam.language_model={arguments.out}")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train an n-gram language model of words on the transcripts of a manifest."
    )
    parser.add_argument("manifest", type=Path, help="its transcripts are the training data")
    parser.add_argument("out", type=Path, help="ARPA file to write; gzipped if it ends in .gz")
    parser.add_argument(
        "--order", type=int, default=3, help="length of the longest n-grams, in words (default: 3)"
    )
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
