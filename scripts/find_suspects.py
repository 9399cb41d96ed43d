"""Rank the rows of a manifest whose transcript may be wrong: find_suspects.py RUN manifest.jsonl.

A recogniser aligns each transcript with its audio. A row is suspicious if its CTC loss per token,
its speaking rate or the confidence of its alignment is an outlier among the rows of the manifest.
The table has all rows, the most suspicious first, to drop them; a page beside it has players, to
listen to them again.
"""

import argparse
import csv
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import ctc_loss

from src.datasets.manifest_dataset import ManifestDataset
from src.forced_alignment import emissions, open_transcripts
from src.report.collector import write_player
from src.report.facts import Facts
from src.report.page import EvaluationReport, write_page
from src.tasks.error_analysis import word_alignment
from src.text_encoder.alignment import align
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_number, check_whole

LARGEST = 1000.0  # in place of an infinite loss
# Measures, and the smallest standard deviation that each is taken to have.
MEASURES = ("loss_per_token", "tokens_per_second", "confidence")
SMALLEST_SCALE = {"loss_per_token": 0.05, "tokens_per_second": 0.5, "confidence": 0.02}


def measure(log_probs: Tensor, tokens: list[int], seconds: float) -> dict[str, float]:
    """How well a transcript fits its audio.

    Args:
        log_probs: [T, V], natural logarithms; token 0 is the blank.
        tokens: ids of the transcript.
        seconds: duration of the audio.

    Returns:
        `loss_per_token`, the CTC loss in nats; `tokens_per_second`, between the first and the last
        token on the best path; and `confidence`, the mean posterior probability of the tokens on
        it. A transcript that CTC can't align has an infinite loss, and a confidence of 0.
    """
    length = torch.tensor([len(log_probs)]), torch.tensor([len(tokens)])
    loss = float(ctc_loss(log_probs[:, None], torch.tensor([tokens]), *length, reduction="sum"))
    rate = len(tokens) / seconds
    if not math.isfinite(loss) or not tokens:
        return dict(zip(MEASURES, (math.inf, rate, 0.0), strict=True))
    spans = align(log_probs, tokens)
    spoken = (spans[-1].end - spans[0].start) / len(log_probs)
    confidence = sum(span.posterior for span in spans) / len(spans)
    return dict(zip(MEASURES, (loss / len(tokens), rate / spoken, confidence), strict=True))


def deviations(name: str, values: np.ndarray) -> np.ndarray:
    """How unusual each value [N] is: its distance from the median in robust standard deviations.

    The modified z-score of Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993). Only
    a high loss and a low confidence are unusual; a rate may be either.
    """
    values = values.clip(max=LARGEST)
    middle = np.median(values)
    scale = 1.4826 * np.median(np.abs(values - middle))
    distance = (values - middle) / max(scale, SMALLEST_SCALE[name])
    signs = {"loss_per_token": distance, "confidence": -distance}
    return signs.get(name, np.abs(distance)).clip(min=0)


def ranked(rows: list[dict[str, Any]], threshold: float) -> list[dict[str, Any]]:
    """Rows with `score`, the largest of their deviations, and `reasons`, the highest first.

    Args:
        rows: with all measures.
        threshold: deviation from which on a measure is a reason.
    """
    scores = {name: deviations(name, np.array([row[name] for row in rows])) for name in MEASURES}
    for i, row in enumerate(rows):
        own = {name: float(scores[name][i]) for name in MEASURES}
        row["score"] = max(own.values())
        row["reasons"] = ", ".join(name for name in MEASURES if own[name] > threshold)
    return sorted(rows, key=lambda row: -row["score"])


def find(arguments: argparse.Namespace) -> None:
    """Align all rows, and write the table of suspects.

    Raises:
        ValueError: the rows have no transcripts, or a row can't be aligned.
    """
    check_number("--threshold", arguments.threshold)
    check_whole("--show", arguments.show, low=0)
    check_whole("--players", arguments.players, low=0)
    if arguments.out and arguments.out.suffix == ".html":
        raise ValueError(f"--out: {arguments.out}; the page gets this name, so another suffix.")
    system, dataset = open_transcripts(arguments.run, arguments.manifest, arguments.trust)
    rows = []
    for row in emissions(system, dataset):
        values = {
            "index": row.index,
            "line": int(dataset.manifest.lines[row.index]),
            "audio": str(dataset.manifest[row.index].audio_filepath),
            "text": row.text,
            "prediction": row.prediction,
        }
        seconds = float(dataset.durations[row.index])
        rows.append(values | measure(row.log_probs, row.tokens, seconds))
    rows = ranked(rows, arguments.threshold)
    out = arguments.out or arguments.manifest.with_suffix(".suspects.tsv")
    write_suspects(out, rows)
    found = sum(bool(row["reasons"]) for row in rows)
    page = out.with_suffix(".html")
    write_suspects_page(page, rows, dataset, arguments)
    print(f"{found} of {len(rows)} rows are suspicious; the worst:")
    for one in rows[: arguments.show]:
        print(f"{one['score']:8.1f}  line {one['line']}  {one['reasons']}")
        print(f"          text        {one['text']}\n          recognised  {one['prediction']}")
    print(f"\nAll rows, the most suspicious first: {out}, with players: {page}")


def write_suspects(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the table, with numbers of four decimals."""
    columns = ["score", "line", "audio", "reasons", *MEASURES, "text", "prediction"]
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, delimiter="\t", extrasaction="ignore")
        table.writeheader()
        for row in rows:
            table.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})


def write_suspects_page(
    path: Path, rows: list[dict[str, Any]], dataset: ManifestDataset, arguments: argparse.Namespace
) -> None:
    """Write a page about all rows, with players for the first of them in `<page>_audio`.

    Args:
        path: of the HTML file.
        rows: the most suspicious first, with their `index` in the dataset.
        dataset: which gives the audio.
        arguments: of the command line.
    """
    folder = path.with_name(f"{path.stem}_audio")
    shown = []
    for place, row in enumerate(rows):
        text, prediction = row["text"], row["prediction"]
        kept = {key: row[key] for key in ("score", "reasons", *MEASURES, "audio")}
        kept["file"] = kept.pop("audio")
        one = {"id": f"line {row['line']}"} | kept | {"target": text, "prediction": prediction}
        if place < arguments.players:
            folder.mkdir(parents=True, exist_ok=True)
            audio = dataset[row["index"]]["audio"]
            file = folder / f"line_{row['line']}.flac"
            one["audio"] = [write_player(file, "audio", audio, dataset.sample_rate)]
        shown.append(one)
    suspicious = sum(bool(row["reasons"]) for row in rows)
    report = EvaluationReport(
        name=arguments.manifest.name,
        values={"rows": len(rows), "suspicious": suspicious},
        further=(),
        rows=shown,
        alignments=[{"prediction": word_alignment(r["text"], r["prediction"])} for r in rows],
        sections=[],
        folder=f"{folder.name}/",
    )
    write_page(path, Facts(f"Suspects of {arguments.run}"), [report])


def main() -> None:
    """Parse the command line and find the suspects."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a CTC recogniser's run, or a .nemo file")
    parser.add_argument("manifest", type=Path, help="JSON lines with transcripts")
    parser.add_argument("--out", type=Path, help="table (default: MANIFEST.suspects.tsv)")
    parser.add_argument("--show", type=int, default=10, help="rows to print (default: 10)")
    parser.add_argument("--players", type=int, default=50, help="on the page (default: 50)")
    parser.add_argument(
        "--threshold", type=float, default=3.5, help="robust standard deviations (default: 3.5)"
    )
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the run's config may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: find(arguments))


if __name__ == "__main__":
    main()
