"""Put the audio of a manifest into shards: python scripts/make_shards.py MANIFEST OUT.

OUT gets audio_0.tar, audio_1.tar, ..., plain tar files as webdataset and NeMo read them, and
manifest.jsonl, which says of each utterance where in which shard its audio lies. Train on it like
on any manifest. OUT may be moved; where only the shards are copied, to a web server or an object
store, --address says to where. An interrupted call is continued by the same command.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import Manifest
from src.datasets.shards import MANIFEST, ShardOptions, write_shards
from src.utils.entry import run_command


def make(arguments: argparse.Namespace) -> None:
    """Write the shards and print how many there are."""
    options = ShardOptions(
        arguments.format, arguments.megabytes, not arguments.no_json, arguments.address
    )
    manifest = Manifest(arguments.manifest)
    count = write_shards(manifest, arguments.out, options)
    print(f"{arguments.out / MANIFEST}: {len(manifest)} utterances in {count} shards")


def main() -> None:
    """Parse the command line and make the shards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path, help="JSON lines")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--format", choices=("flac", "opus"), help="default: audio stays as it is")
    parser.add_argument(
        "--megabytes", type=float, default=500.0, help="of a shard at most (default: 500)"
    )
    parser.add_argument(
        "--no-json",
        action="store_true",
        help="no JSON file beside each audio file; NeMo's Lhotse reader refuses them by default",
    )
    parser.add_argument(
        "--address", metavar="URL", help="where the shards will lie, as s3://bucket/folder"
    )
    arguments = parser.parse_args()
    run_command(lambda: make(arguments))


if __name__ == "__main__":
    main()
