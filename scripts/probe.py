"""Compare what frozen encoders know, by small probes as in SUPERB (arXiv 2105.01051).

python scripts/probe.py ENCODER... [--tasks phonemes,speaker] [--minutes 10] [--out runs/probes]
python scripts/probe.py ENCODER... --train train.jsonl --val val.jsonl --test test.jsonl

ENCODER is a run whose model has an encoder (pretraining, a recogniser), also user/name on the hub,
a .nemo file, or `random`: random weights, with the size of the first encoder. Each probe is a
weighted sum of the encoder's layers, with learned weights, and a linear layer:

phonemes    CTC, phonemes of eSpeak NG; phoneme error rate
characters  CTC; character error rate
speaker     which speaker of the training set; trained on 80 % of its utterances, tested on 10 %
keyword     which of the most frequent words is in a sentence that has exactly one of them

Prints a table, and the weights of the layers; writes OUT/probes.tsv and OUT/layer_weights.png.
Each probe is a run below OUT, of the experiment asr_nest_probe or probe_<task>. If it is
interrupted, the same command goes on; finished probes are not repeated.
"""

import argparse
import csv
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from omegaconf import DictConfig
from tqdm.auto import tqdm

from src.config import compose_experiment
from src.datasets.classification import choose_keywords, speakers_in
from src.datasets.manifest import Manifest
from src.interop.initialization import adopt_configs
from src.run import Run
from src.utils.checkpoint import read_weights
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import read_jsonl, write_beside
from src.utils.options import check_choice, check_number, check_whole
from src.utils.plots import curves_figure, save_figure
from train import train

RANDOM = "random"
LANGUAGES = ("en", "ru")
PARTS = {"train": [0.0, 0.8], "val": [0.8, 0.9], "test": [0.9, 1.0]}  # of the utterances


@dataclass(frozen=True)
class Kind:
    """A kind of probe.

    Attributes:
        experiment: its config in src/configs.
        metric: of its test evaluation.
        title: of the metric in the table.
    """

    experiment: str
    metric: str
    title: str


KINDS = {
    "phonemes": Kind("probe_phonemes", "PER", "PER"),
    "characters": Kind("asr_nest_probe", "CER", "CER"),
    "speaker": Kind("probe_speaker", "accuracy", "speaker accuracy"),
    "keyword": Kind("probe_keyword", "accuracy", "keyword accuracy"),
}


@dataclass(frozen=True)
class Probe:
    """One training: an encoder and a task.

    Attributes:
        encoder: name of the encoder in the table.
        task: one of `KINDS`.
        folder: of the run.
    """

    encoder: str
    task: str
    folder: Path

    @property
    def kind(self) -> Kind:
        """What is trained."""
        return KINDS[self.task]

    def test_values(self) -> dict[str, float] | None:
        """The metrics of the test set; None if the training hasn't finished."""
        path = self.folder / "metrics.jsonl"
        rows = read_jsonl(path, tolerant=True) if path.exists() else []
        found = [row for row in rows if f"test/{self.kind.metric}" in row]
        return found[-1] if found else None

    def value(self, metric: str) -> float | None:
        """A value of the test set; None if there is no such metric.

        Raises:
            ValueError: the run has no test metrics.
        """
        values = self.test_values()
        if values is None:
            raise ValueError(f"{self.folder}: no test/{self.kind.metric} in its metrics.jsonl.")
        return values.get(f"test/{metric}")

    def utterances(self) -> int:
        """Number of utterances of the test set."""
        with (self.folder / "report" / "test.tsv").open(encoding="utf-8", newline="") as file:
            return sum(1 for _ in csv.DictReader(file, delimiter="\t"))

    def layer_weights(self) -> list[float]:
        """Weights of the layers of the best checkpoint, the input of the first layer before."""
        scores = read_weights(Run(self.folder).checkpoint("best"))["layer_scores"]
        return scores.softmax(0).tolist()


def config_of(probe: Probe, source: str, arguments: argparse.Namespace) -> DictConfig:
    """The config of a probe's training.

    Args:
        probe: to be trained.
        source: of the encoder, or of its size alone.
        arguments: of the command line.
    """
    own = [f"seed={arguments.seed}", f"threads={arguments.threads or 'null'}", "writer=nothing"]
    if arguments.language == "ru" and probe.task == "characters":
        own.append("text_encoder=russian")
    if arguments.train:
        labelled = probe.task in ("speaker", "keyword")
        own.append("datasets=classes" if labelled else "datasets=manifest")
    config = compose_experiment(probe.kind.experiment, *own, *arguments.overrides)
    config.run_dir, config.init.encoder.source = str(probe.folder), source
    config.trainer.steps_per_epoch = -(-arguments.steps // config.trainer.epochs)
    config.trainer.show_every_epochs, config.report.audio = 0, "none"
    if probe.task == "phonemes":
        config.text_encoder.language = arguments.language
    if arguments.train:
        set_manifests(config, probe.task, arguments)
    if arguments.minutes:
        config.datasets.train.minutes = arguments.minutes
    if probe.encoder == RANDOM:
        adopt_configs(config)
        config.init = {}
    return config


def set_manifests(config: DictConfig, task: str, arguments: argparse.Namespace) -> None:
    """Enter the manifests of the command line into a config, and the classes in them.

    Args:
        config: of a probe, changed in place.
        task: of the probe.
        arguments: of the command line.
    """
    for split, part in PARTS.items():
        node = config.datasets[split]
        node.manifest = arguments.train if task == "speaker" else getattr(arguments, split)
        if task == "speaker":
            node.target, node.part = task, part
        if task == "keyword":
            node.target = task
    if task == "speaker":
        config.vars.labels = speakers_in(Manifest(arguments.train))
    if task == "keyword":
        config.vars.labels = choose_keywords(Manifest(arguments.train), arguments.keywords)


def train_probe(probe: Probe, source: str, arguments: argparse.Namespace) -> None:
    """Train a probe, or resume its training; what it prints goes to a file.

    Raises:
        ValueError: it can't be trained.
    """
    config = config_of(probe, source, arguments)
    if Run(probe.folder).has("last"):
        config.trainer.resume_from = str(probe.folder)
    log = probe.folder.with_name(f"{probe.folder.name}.log")
    with log.open("w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        train(config)


def named(encoders: list[str]) -> dict[str, str]:
    """Name in the table -> source of each encoder; that of `random` is the first other one.

    Raises:
        ValueError: two have the same name, or only `random` is given.
    """
    others = [encoder for encoder in encoders if encoder != RANDOM]
    if not others:
        raise ValueError("encoders: only 'random'; name another one, whose size it gets.")
    sources: dict[str, str] = {}
    for encoder in encoders:
        fresh = encoder == RANDOM
        name = RANDOM if fresh else Path(encoder).resolve().name.removesuffix(".nemo")
        if name in sources:
            raise ValueError(f"{encoder}: another encoder is called '{name}', too; rename one.")
        sources[name] = others[0] if fresh else encoder
    return sources


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check the command line.

    Raises:
        ValueError: a value is not allowed, or a manifest is missing; names the option.
    """
    for task in arguments.tasks:
        check_choice("--tasks", task, tuple(KINDS))
    check_choice("--language", arguments.language, LANGUAGES)
    check_whole("--steps", arguments.steps)
    check_whole("--keywords", arguments.keywords, low=2)
    check_number("--minutes", arguments.minutes, optional=True)
    given = [split for split in PARTS if getattr(arguments, split)]
    needed = ["train"] if arguments.tasks == ["speaker"] else list(PARTS)
    if given and not {*needed} <= {*given}:
        raise ValueError(f"--{', --'.join(given)}: needs --{', --'.join(needed)}.")


def check_same_options(sources: dict[str, str], arguments: argparse.Namespace) -> None:
    """Write the options into the output folder, or check that they equal those already there.

    More encoders and tasks may be added to a comparison.

    Raises:
        ValueError: the folder holds probes with other options, or of another encoder of a name.
    """
    path = arguments.out / "probes.json"
    kept = ("train", "val", "test", "minutes", "steps", "keywords", "language", "seed", "overrides")
    options: dict[str, Any] = {name: getattr(arguments, name) for name in kept}
    earlier = json.loads(path.read_text()) if path.exists() else {"encoders": {}, **options}
    known = earlier.pop("encoders")
    if earlier != options or any(known.get(name, own) != own for name, own in sources.items()):
        raise ValueError(f"{arguments.out}: holds other probes, {path.read_text().strip()}.")
    with write_beside(path) as beside:
        beside.write_text(json.dumps({"encoders": known | sources, **options}) + "\n")


def compare(arguments: argparse.Namespace) -> None:
    """Train the probes that are missing, and print and write the results."""
    check_arguments(arguments)
    sources = named(arguments.encoders)
    arguments.out = arguments.out.resolve()
    probes = [
        Probe(name, task, arguments.out / f"{name}_{task}")
        for name in sources
        for task in arguments.tasks
    ]
    missing = [probe for probe in probes if probe.test_values() is None]
    for probe in missing:  # before the first training
        adopt_configs(config_of(probe, sources[probe.encoder], arguments))
    check_same_options(sources, arguments)
    for probe in tqdm(missing, desc="probes", disable=not missing):
        train_probe(probe, sources[probe.encoder], arguments)
    show(probes, arguments)


def show(probes: list[Probe], arguments: argparse.Namespace) -> None:
    """Print the table and the weights of the layers, and write them."""
    by_task = {task: [one for one in probes if one.task == task] for task in arguments.tasks}
    encoders = list(dict.fromkeys(probe.encoder for probe in probes))
    values = {(one.encoder, one.task): one.value(one.kind.metric) for one in probes}
    lines = [["in %", *(KINDS[task].title for task in by_task)]]
    for name in encoders:
        lines.append([name, *(percent(values[name, task]) for task in by_task)])
    majority = [own[0].value("accuracy_majority") for own in by_task.values()]
    if any(value is not None for value in majority):
        lines.append(["most frequent class", *map(percent, majority)])
    lines.append(["test utterances", *(str(own[0].utterances()) for own in by_task.values())])
    weights = {(one.encoder, one.task): one.layer_weights() for one in probes}
    print(f"{in_columns(lines)}\n\nweights of the layers, 0 is the input of the first one")
    print(in_columns(weight_lines(weights)))
    write_rows(arguments.out / "probes.tsv", probes, weights)
    panels: dict[str, dict] = {task: {} for task in by_task}
    for (name, task), own in weights.items():
        panels[task][name] = (list(range(len(own))), own)
    save_figure(curves_figure(panels, "layer"), arguments.out / "layer_weights.png")
    print(f"\n{arguments.out}/probes.tsv, layer_weights.png")


def percent(value: float | None) -> str:
    """A fraction in percent."""
    return "" if value is None else f"{100 * value:.1f}"


def weight_lines(weights: dict[tuple[str, str], list[float]]) -> list[list[str]]:
    """Lines of a table with the weights of the layers of each probe."""
    most = max(map(len, weights.values()))
    lines = [["encoder", "task", *map(str, range(most))]]
    for pair, own in weights.items():
        lines.append([*pair, *(f"{weight:.2f}" for weight in own), *[""] * (most - len(own))])
    return lines


def write_rows(path: Path, probes: list[Probe], weights: dict) -> None:
    """Write a row for each probe, separated by tabs."""
    with write_beside(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["encoder", "task", "metric", "value", "utterances", "layer_weights"])
        for one in probes:
            own = " ".join(f"{weight:.4f}" for weight in weights[one.encoder, one.task])
            metric = one.kind.metric
            row = [one.encoder, one.task, metric, f"{one.value(metric):.4f}", one.utterances()]
            writer.writerow([*row, own])


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("encoders", nargs="+", metavar="ENCODER", help="run, .nemo file or random")
    parser.add_argument(
        "--tasks",
        type=lambda text: text.split(","),
        default=list(KINDS),
        help=f"separated by commas; default: {','.join(KINDS)}",
    )
    parser.add_argument("--minutes", type=float, help="of training speech; default: all")
    for split in ("--train", "--val", "--test"):
        parser.add_argument(split, help="manifest; default: the demo speech")
    parser.add_argument("--language", default="en", help="of the texts: en or ru")
    parser.add_argument("--keywords", type=int, default=10, help="number of keywords in manifests")
    parser.add_argument("--steps", type=int, default=500, help="optimisation steps of a probe")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/probes"), help="output folder")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="key=value, passed to every training"
    )
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
