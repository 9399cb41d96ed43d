"""Learn subwords from a manifest: python scripts/train_subwords.py MANIFEST OUT --size 128."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.text_encoder.normalizer import Normalizer
from src.text_encoder.subwords import train_subwords
from src.utils.entry import run_command
from src.utils.files import write_beside


def learn(arguments: argparse.Namespace) -> None:
    """Train the model and write it."""
    normalize = Normalizer(arguments.language)
    texts = (normalize(row.text) for row in Manifest(arguments.manifest) if row.text)
    model = train_subwords(texts, arguments.size)
    with write_beside(arguments.out) as path:
        path.write_bytes(model)
    print(f"Use it with: text_encoder=subwords text_encoder.model={arguments.out}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Learn subwords by byte-pair encoding.")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128, help="pieces (default: 128)")
    parser.add_argument("--language", default="en", choices=["en", "ru"])
    arguments = parser.parse_args()
    run_command(lambda: learn(arguments))


if __name__ == "__main__":
    main()
