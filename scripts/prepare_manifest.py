"""Make a manifest of a corpus: python scripts/prepare_manifest.py FORM SOURCE OUT.jsonl.

FORM is one of
  folder       recordings in a folder and below, the transcript of a.wav in a.txt beside it or in a
               folder `transcriptions`
  csv          a .csv file, or a .tsv file without quotes, with a column for the audio, and perhaps
               for text and speaker
  kaldi        a data folder with wav.scp, and perhaps text, utt2spk and segments; commands in
               wav.scp are not executed
  librispeech  a split of LibriSpeech, or all of it
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.corpora.forms import (
    placed,
    rows_of_folder,
    rows_of_kaldi,
    rows_of_librispeech,
    rows_of_table,
)
from src.datasets.manifest import check_row, write_manifest
from src.datasets.statistics import print_statistics
from src.utils.entry import run_command

FORMS = ("folder", "csv", "kaldi", "librispeech")


def read_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the source, with absolute paths.

    Raises:
        ValueError: an option is for another form.
    """
    columns = [arguments.audio_column, arguments.text_column, arguments.speaker_column]
    if any(columns) and arguments.form != "csv":
        raise ValueError(f"--*-column: only for csv, not for {arguments.form}.")
    if arguments.speaker_folders and arguments.form != "folder":
        raise ValueError(f"--speaker-folders: only for folder, not for {arguments.form}.")
    if arguments.form == "folder":
        return rows_of_folder(arguments.source, arguments.speaker_folders)
    if arguments.form == "csv":
        return rows_of_table(arguments.source, *columns)
    return (rows_of_kaldi if arguments.form == "kaldi" else rows_of_librispeech)(arguments.source)


def prepare(arguments: argparse.Namespace) -> None:
    """Write the manifest and print what it holds.

    Raises:
        FileExistsError: there is one already, and it isn't to be replaced.
        ValueError: the corpus can't be read.
    """
    out = arguments.out
    if os.path.lexists(out) and not arguments.replace:
        raise FileExistsError(f"{out}: exists; --replace replaces it.")
    rows = [placed(check_row(row), out.parent) for row in read_rows(arguments)]
    write_manifest(out, rows)
    print_statistics(str(out), rows)


def main() -> None:
    """Parse the command line and make the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", choices=FORMS)
    parser.add_argument("source", type=Path, help="folder, or table of csv")
    parser.add_argument("out", type=Path, help="manifest to write")
    parser.add_argument("--audio-column", metavar="NAME", help="of csv (default: a usual name)")
    parser.add_argument("--text-column", metavar="NAME", help="of csv (default: a usual name)")
    parser.add_argument("--speaker-column", metavar="NAME", help="of csv (default: a usual name)")
    parser.add_argument(
        "--speaker-folders", action="store_true", help="the folders are named after speakers"
    )
    parser.add_argument("--replace", action="store_true", help="replace the manifest")
    arguments = parser.parse_args()
    run_command(lambda: prepare(arguments))


if __name__ == "__main__":
    main()
