"""Make a manifest of existing shards: python scripts/index_shards.py OUT.jsonl SHARD ...

A SHARD is a plain tar file or a pattern like 'audio_{0..7}.tar', as a path or as an address that
begins with https://, s3://, gs:// or abfs://; or a folder of them on a disk. Without --nemo they
are shards of webdataset: files with the same name before the first dot are a sample, of which
.json (with text, speaker and lang) and .txt are read. With --nemo, the manifests of a tarred data
set of NeMo say what the shards hold: python scripts/index_shards.py all.jsonl 'audio_{0..7}.tar'
--nemo tarred_audio_manifest.json
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import write_manifest
from src.datasets.shard_index import expand, index_shards
from src.utils.byte_ranges import Remote
from src.utils.entry import run_command


def index(arguments: argparse.Namespace) -> None:
    """Write the manifest and print what it holds.

    Raises:
        FileExistsError: there is one already, and it isn't to be replaced.
        ValueError: a shard can't be read, or none holds audio.
    """
    out = arguments.out
    if os.path.lexists(out) and not arguments.replace:
        raise FileExistsError(f"{out}: exists; --replace replaces it.")
    shards, manifests = expand(arguments.shards), expand(arguments.nemo)
    count, seconds = 0, 0.0

    def counted():
        nonlocal count, seconds
        for values in index_shards(shards, manifests, out, Remote(), arguments.text):
            count, seconds = count + 1, seconds + values["duration"]
            yield values
        if not count:
            raise ValueError(f"{shards[0]}: no audio in this and {len(shards) - 1} other shards.")

    write_manifest(out, counted())
    print(f"{out}: {count} utterances, {seconds / 3600:.2f} hours in {len(shards)} shards")


def main() -> None:
    """Parse the command line and make the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="manifest to write")
    parser.add_argument("shards", nargs="+", metavar="SHARD")
    parser.add_argument(
        "--nemo", nargs="+", default=[], metavar="MANIFEST", help="of all shards, or one of each"
    )
    parser.add_argument(
        "--text", default="text", metavar="KEY", help="of the transcript in JSON (default: text)"
    )
    parser.add_argument("--replace", action="store_true", help="replace the manifest")
    arguments = parser.parse_args()
    run_command(lambda: index(arguments))


if __name__ == "__main__":
    main()
