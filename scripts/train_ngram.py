"""Train an n-gram language model of words: python scripts/train_ngram.py TEXT OUT.arpa.

TEXT is a manifest, or a text file with one sentence a line (.txt, or gzipped .txt.gz).
"""

import argparse
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.text_encoder.decoders.ngram import open_text
from src.text_encoder.decoders.ngram_training import train_ngram
from src.text_encoder.normalizer import LATIN, Normalizer, normalized
from src.utils.entry import run_command
from src.utils.files import check_regular
from src.utils.options import check_whole


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a manifest, or the lines of a text file.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: it is a bad manifest, or not readable as text; names it.
    """
    if not path.name.endswith((".txt", ".txt.gz")):
        yield from (row.text for row in Manifest(path) if row.text)
        return
    check_regular(path)
    try:
        with open_text(path, "rt") as file:
            yield from file
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not readable as a text ({error}).") from None


def train(arguments: argparse.Namespace) -> None:
    """Train the model and write it.

    Raises:
        ValueError: the order is out of range, the text is bad or empty, or `out` is a folder.
    """
    check_whole("--order", arguments.order, high=100)
    if arguments.out.is_dir():
        raise ValueError(f"{arguments.out}: a folder, not a file to write.")
    normalize = Normalizer(arguments.language, arguments.fold_yo, arguments.latin)
    texts = normalized(read_texts(arguments.text), normalize, arguments.text)
    model = train_ngram(texts, arguments.order)
    model.write_arpa(arguments.out)
    print(f"{len(model.ngrams)} n-grams. Use them with: ", end="")
    print(f"task.decoders.beam.language_model={arguments.out}")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description="Train an n-gram language model of words with modified Kneser-Ney smoothing."
    )
    parser.add_argument(
        "text", type=Path, help="a manifest, or sentences, one a line, in a .txt or .txt.gz file"
    )
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
