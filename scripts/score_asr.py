"""WER and CER of two folders of text files: python scripts/score_asr.py REFERENCES HYPOTHESES."""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.datasets.tables import read_text
from src.metrics.cer import CER
from src.metrics.error_rate import ERRORS, ErrorRate
from src.metrics.wer import WER
from src.text_encoder.normalizer import Normalizer
from src.utils.entry import run_command


def read_folder(folder: Path, language: str) -> dict[str, str]:
    """Normalised text of each .txt file in a folder, by file name without suffix.

    Raises:
        FileNotFoundError: no such folder, or no .txt file in it.
        ValueError: a file is no UTF-8 text; names it.
    """
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no .txt files here.")
    normalize = str.strip if language == "none" else Normalizer(language)
    return {path.stem: normalize(read_text(path)) for path in paths}


def common_names(references: dict[str, str], hypotheses: dict[str, str], allow: bool) -> list[str]:
    """Names that are in both folders, sorted.

    Args:
        references, hypotheses: name -> text.
        allow: whether names may be missing from one of the folders.

    Raises:
        ValueError: a name is missing although `allow` is false, or no name is in both folders.
    """
    for names, others, kind in (
        (references, hypotheses, "hypothesis"),
        (hypotheses, references, "reference"),
    ):
        missing = sorted(set(names) - set(others))
        if missing and not allow:
            raise ValueError(f"{len(missing)} texts have no {kind}; the first is {missing[0]}.txt.")
    common = sorted(set(references) & set(hypotheses))
    if not common:
        raise ValueError("The folders have no file name in common.")
    return common


def print_corpus(name: str, metric: ErrorRate) -> None:
    """Print the error rate of the corpus, and the numbers of errors and reference tokens."""
    values = metric.compute()
    counts = ", ".join(f"{values[kind]:.0f} {kind}" for kind in ERRORS)
    print(f"{name} {values['']:.6f}  ({counts}, of {values['reference_length']:.0f})")


def write_table(path: Path, rows: list[dict]) -> None:
    """Write a table of utterances, the highest WER first."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter="\t")
        table.writeheader()
        for row in sorted(rows, key=lambda row: (-row["WER"], row["id"])):
            table.writerow(row | {name: f"{row[name]:.4f}" for name in ("WER", "CER")})


def score(arguments: argparse.Namespace) -> None:
    """Print WER and CER, and write the table of utterances if it is asked for."""
    references = read_folder(arguments.references, arguments.language)
    hypotheses = read_folder(arguments.hypotheses, arguments.language)
    names = common_names(references, hypotheses, arguments.allow_missing)
    text = [references[name] for name in names]
    prediction = [hypotheses[name] for name in names]
    metrics = {"WER": WER(), "CER": CER()}
    scores = {name: m.update(text=text, prediction=prediction) for name, m in metrics.items()}
    print(f"{len(names)} utterances")
    for name, metric in metrics.items():
        print_corpus(name, metric)
    if arguments.table:
        columns = {"id": names, **scores, "target": text, "prediction": prediction}
        rows = zip(*columns.values(), strict=True)
        write_table(arguments.table, [dict(zip(columns, row, strict=True)) for row in rows])


def main() -> None:
    """Parse the command line and score the folders."""
    parser = argparse.ArgumentParser(
        description="WER and CER of a corpus: errors over reference words or characters."
    )
    parser.add_argument("references", type=Path, help="folder of reference transcripts, *.txt")
    parser.add_argument(
        "hypotheses", type=Path, help="folder of hypotheses, *.txt, of the same names"
    )
    parser.add_argument(
        "--language",
        default="en",
        choices=["en", "ru", "none"],
        help="of the text normalisation; none only strips white space (default: en)",
    )
    parser.add_argument("--table", type=Path, help="write a TSV table of utterances, worst first")
    parser.add_argument(
        "--allow-missing", action="store_true", help="ignore files without a counterpart"
    )
    arguments = parser.parse_args()
    run_command(lambda: score(arguments))


if __name__ == "__main__":
    main()
