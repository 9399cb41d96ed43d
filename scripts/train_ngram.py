"""Learn a language model: python scripts/train_ngram.py MANIFEST OUT.arpa --order 3."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.text_encoder.decoders.ngram_training import train_ngram
from src.text_encoder.normalizer import Normalizer
from src.utils.entry import run_command


def learn(arguments: argparse.Namespace) -> None:
    """Train the model and write it."""
    normalize = Normalizer(arguments.language)
    texts = (normalize(row.text) for row in Manifest(arguments.manifest) if row.text)
    model = train_ngram(texts, arguments.order)
    model.write_arpa(arguments.out)
    print(f"{len(model.ngrams)} n-grams. Use them with: ", end="")
    print(f"+task.decoders.beam.language_model={arguments.out}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Learn an n-gram language model of words.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path, help="an ARPA file; gzipped if it ends in .gz")
    parser.add_argument("--order", type=int, default=3, help="words an n-gram (default: 3)")
    parser.add_argument("--language", default="en", choices=["en", "ru"])
    arguments = parser.parse_args()
    run_command(lambda: learn(arguments))


if __name__ == "__main__":
    main()
