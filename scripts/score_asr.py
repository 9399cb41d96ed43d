"""WER and CER from two folders of text: python scripts/score_asr.py REFERENCES HYPOTHESES."""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.metrics.cer import CER
from src.metrics.wer import WER
from src.text_encoder.normalizer import Normalizer
from src.utils.edit_distance import character_error_rate, word_error_rate
from src.utils.entry import run_command


def read_folder(folder: Path, language: str) -> dict[str, str]:
    """Name -> text of each .txt file.

    Raises:
        FileNotFoundError: no such folder, or no text in it.
    """
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise FileNotFoundError(f"{folder}: no .txt files here.")
    normalize = str.strip if language == "none" else Normalizer(language)
    return {path.stem: normalize(path.read_text(encoding="utf-8")) for path in paths}


def matched(references: dict[str, str], hypotheses: dict[str, str], allow: bool) -> list[str]:
    """The names that both folders have.

    Raises:
        ValueError: one lacks some that the other has.
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
        raise ValueError("the folders have no name in common.")
    return common


def write_table(path: Path, names: list[str], text: list[str], prediction: list[str]) -> None:
    """A line for each utterance, the worst first."""
    rows = [
        (word_error_rate(t, p), character_error_rate(t, p), name, t, p)
        for name, t, p in zip(names, text, prediction, strict=True)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t")
        table.writerow(("id", "WER", "CER", "target", "prediction"))
        for wer, cer, name, t, p in sorted(rows, key=lambda row: (-row[0], row[2])):
            table.writerow((name, f"{wer:.4f}", f"{cer:.4f}", t, p))


def score(arguments: argparse.Namespace) -> None:
    """Print the figures."""
    references = read_folder(arguments.references, arguments.language)
    hypotheses = read_folder(arguments.hypotheses, arguments.language)
    names = matched(references, hypotheses, arguments.allow_missing)
    text = [references[name] for name in names]
    prediction = [hypotheses[name] for name in names]
    print(f"{len(names)} utterances")
    for name, metric in (("WER", WER()), ("CER", CER())):
        metric.update(text=text, prediction=prediction)
        found = metric.compute()
        parts = ", ".join(f"{found[kind]:.0f} {kind}" for kind in metric.figures[1:4])
        print(f"{name} {found['']:.6f}  ({parts}, of {found['reference_length']:.0f})")
    if arguments.table:
        write_table(arguments.table, names, text, prediction)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="WER and CER over a corpus of .txt files.")
    parser.add_argument("references", type=Path, help="folder of .txt files")
    parser.add_argument("hypotheses", type=Path, help="folder of .txt files of the same names")
    parser.add_argument(
        "--language", default="en", choices=["en", "ru", "none"], help="whose rules normalise"
    )
    parser.add_argument("--table", type=Path, help="write a table of utterances, worst first")
    parser.add_argument("--allow-missing", action="store_true", help="score the common names")
    arguments = parser.parse_args()
    run_command(lambda: score(arguments))


if __name__ == "__main__":
    main()
