"""How much separation helps to transcribe conversations, over several draws of them.

python scripts/compare_conversations.py runs/turns --recogniser runs/first
python scripts/compare_conversations.py small=RUN large=RUN --recogniser FILE.nemo \\
    --overrides datasets=conversations datasets.test.manifest=test.jsonl

SEPARATOR is a run of separation, or NAME=RUN. Each draw is inference.py -cn=inference_conversation
with another seed, whose files are written to OUT/NAME/seed_<seed>. Prints the table of a metric,
cpWER if no other is given: of the mixture, the separated voices and the clean sources, and how much
of what the mixture costs is recovered, (mixture - separated) / (mixture - sources).
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tqdm.auto import tqdm

from inference import infer
from src.comparison import name_runs
from src.config import compose_experiment
from src.metrics.conversation import HYPOTHESES, PACKAGE, recovered
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_choice

RATES = ("cpWER", "ORC-WER", "tcpWER")
SEPARATED = HYPOTHESES[0]
RECOVERED = "recovered"
ROWS = ("mixture", SEPARATED, "sources", RECOVERED)
Values = dict[str, list[float]]  # row of a table -> the value of each draw


def converse(separator: Path, seed: int, output: Path, arguments: argparse.Namespace) -> dict:
    """Transcribe a draw of conversations.

    Args:
        separator: its run.
        seed: of the draw.
        output: folder to write to.
        arguments: of the command line.

    Returns:
        Value of each metric by its name.

    Raises:
        ValueError: there is no error rate of one of `HYPOTHESES`.
    """
    config = compose_experiment("inference_conversation", *arguments.overrides)
    config.separator, config.recogniser = str(separator), arguments.recogniser
    config.seed, config.output, config.evaluate_on = seed, str(output), ["test"]
    for other in RATES:
        if other != arguments.metric:  # some take long
            for hypothesis in HYPOTHESES:
                config.metrics.pop(column(other, hypothesis), None)
    values = {key.removeprefix("test/"): value for key, value in infer(config).items()}
    missing = [key for key in HYPOTHESES if column(arguments.metric, key) not in values]
    if missing:
        raise ValueError(
            f"{output}: no {arguments.metric} of {', '.join(missing)}; it needs conversations with "
            "known transcripts and clean sources, and must not be left out by --overrides."
        )
    return values


def column(metric: str, hypothesis: str) -> str:
    """The name of an error rate in the results of an inference."""
    return metric if hypothesis == SEPARATED else f"{metric}_{hypothesis}"


def compare(arguments: argparse.Namespace) -> None:
    """Make all inferences, and print and write the table."""
    check_choice("--metric", arguments.metric, RATES)
    if find_spec(PACKAGE) is None:
        raise ValueError(f"{arguments.metric}: needs `pip install {PACKAGE}`.")
    runs = name_runs(arguments.separator)
    draws = [(name, seed) for name in runs for seed in arguments.seeds]
    found: dict[str, Values] = {name: {row: [] for row in ROWS} for name in runs}
    for name, seed in tqdm(draws, desc="draws"):
        output = arguments.out / name / f"seed_{seed}"
        measured = converse(runs[name], seed, output, arguments)
        values = {key: measured[column(arguments.metric, key)] for key in HYPOTHESES}
        for row, value in (values | {RECOVERED: recovered(values)}).items():
            found[name][row].append(value)
    text = table(found, arguments)
    print(f"\n{text}")
    with write_beside(arguments.out / f"{arguments.metric}.md") as path:
        path.write_text(text + "\n", encoding="utf-8")


def table(found: Mapping[str, Values], arguments: argparse.Namespace) -> str:
    """The table in Markdown: a row for each separator and transcript, a column for each draw.

    What is recovered in the mean is that of the mean error rates.
    """
    head = ["separator", arguments.metric, *(f"seed {seed}" for seed in arguments.seeds), "mean"]
    lines = [head, ["---"] * len(head)]
    for name, rows in found.items():
        means = {row: statistics.mean(rows[row]) for row in HYPOTHESES}
        means[RECOVERED] = recovered(means)
        for row, values in rows.items():
            shape = "{:.0%}" if row == RECOVERED else "{:.2f}"
            own = [*values, means[row]]
            lines.append([name, row, *(shape.format(value) for value in own)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "separator", nargs="+", metavar="SEPARATOR", help="run of separation; or NAME=RUN"
    )
    parser.add_argument(
        "--recogniser", required=True, help="run of recognition, also of the hub, or .nemo file"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a draw each")
    parser.add_argument("--metric", default=RATES[0], help=f"{', '.join(RATES)}")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/conversations"), help="output folder"
    )
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="key=value of inference_conversation"
    )
    run_command(lambda: compare(parser.parse_args()))


if __name__ == "__main__":
    main()
