"""Align the transcripts of a manifest with their audio: align.py RUN manifest.jsonl words.jsonl.

A recogniser with CTC finds the time of each word of each transcript (forced alignment). Written is
a manifest with one row a word: the file, its offset and duration in seconds, the word, and the
confidence of its alignment; with --ctm also NIST's .ctm. The rows are recordings of isolated words,
for training or scoring: with --only, those of a list, e.g. of the ten digits.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.manifest import write_manifest
from src.datasets.manifest_dataset import ManifestDataset
from src.datasets.tables import read_lines
from src.forced_alignment import emissions, open_transcripts, word_times
from src.tasks.subtitles import ctm
from src.text_encoder.alignment import Word
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_number

DIGITS = 6  # after the decimal point of seconds: less than a sample


def align(arguments: argparse.Namespace) -> None:
    """Align all rows, and write the words.

    Raises:
        ValueError: the run is no recogniser with CTC, or the manifest has no transcripts.
    """
    check_number("--margin", arguments.margin, inclusive=True)
    check_number("--confidence", arguments.confidence, high=1, inclusive=True)
    only = None
    if arguments.only:
        listed = read_lines(arguments.only, "list of words")
        only = {word for _, line in listed for word in line.split()}
    system, dataset = open_transcripts(arguments.run, arguments.manifest, arguments.trust)
    aligned = [(one.index, one.id, word_times(system, one)) for one in emissions(system, dataset)]
    aligned.sort()  # as in the manifest
    rows = [
        row
        for index, _, words in aligned
        for row in word_rows(dataset, index, words, arguments.margin)
        if (only is None or row["text"] in only) and row["confidence"] >= arguments.confidence
    ]
    if not rows:
        raise ValueError(f"{arguments.manifest}: none of its words is to be written.")
    write_manifest(arguments.out, rows)
    if arguments.ctm:
        lines = "".join(ctm(name, words) for _, name, words in aligned)
        with write_beside(arguments.ctm) as beside:
            beside.write_text(lines, encoding="utf-8")
    failed = sum(not words for _, _, words in aligned)
    print(f"{len(rows)} words of {len(aligned)} rows in {arguments.out}")
    if failed:
        print(f"{failed} rows have no transcript, or one too long for their audio: left out.")


def word_rows(
    dataset: ManifestDataset, index: int, words: list[Word], margin: float
) -> Iterator[dict[str, Any]]:
    """Rows of a manifest for the words of a row.

    Args:
        dataset: of the row.
        index: of the row in the dataset.
        words: with times from the start of the row's audio.
        margin: seconds before and after each word, at most up to its neighbours.
    """
    row, seconds = dataset.manifest[index], float(dataset.durations[index])
    starts = [0.0, *(word.end for word in words[:-1])]
    ends = [*(word.start for word in words[1:]), seconds]
    for word, lowest, highest in zip(words, starts, ends, strict=True):
        start = max(word.start - margin, min(lowest, word.start))
        end = min(word.end + margin, max(highest, word.end), seconds)  # a frame may end later
        values = {
            "audio_filepath": str(row.audio_filepath),
            "offset": round(row.offset + start, DIGITS),
            "duration": round(end - start, DIGITS),
            "text": word.text,
            "confidence": round(word.confidence, 4),
        }
        yield values | ({"speaker": row.speaker} if row.speaker is not None else {})


def main() -> None:
    """Parse the command line and align."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a CTC recogniser's run, or a .nemo file")
    parser.add_argument("manifest", type=Path, help="JSON lines with transcripts")
    parser.add_argument("out", type=Path, help="manifest of words to write")
    parser.add_argument("--only", type=Path, help="file with the words to write, one a line")
    parser.add_argument("--ctm", type=Path, help="file of all words with times to write")
    parser.add_argument(
        "--margin",
        type=float,
        default=0.1,
        help="seconds before and after a word, at most up to its neighbours (default: 0.1)",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.0,
        help="smallest posterior of a word's tokens (default: 0, all words)",
    )
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the run's config may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: align(arguments))


if __name__ == "__main__":
    main()
