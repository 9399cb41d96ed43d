"""Export the model of a run to ONNX, and check it: python scripts/export.py RUN OUT [--int8].

OUT is a new folder. Of a recogniser it holds model.onnx, vocab.txt and config.json, as onnx-asr
loads them, samples.onnx and tokens.txt for sherpa-onnx, and frontend.onnx, from samples to the
input of model.onnx; of NEST model.onnx and frontend.onnx, from samples to vectors; of MossFormer2
model.onnx, from samples to the speakers. Of a streaming recogniser also streaming.onnx, which takes
chunks of log-mel energies as sherpa-onnx's OnlineRecognizer does. The check compares outputs at
other lengths than the traced ones, and then scores the run's test set by PyTorch, onnxruntime and
every installed client; report.json holds the table. It exits with 1 where float32 differs by more
than 1e-4, the WER of a client by more than 0.1 points (in int8 0.3), or SI-SDRi by more than
0.05 dB (0.3).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from omegaconf import OmegaConf
from tqdm.auto import tqdm

from src.datasets.loading.collate import collate
from src.interop.export.clients import CLIENTS, Transcribe
from src.interop.export.compare import DURATIONS, largest_difference, streaming_difference
from src.interop.export.forms import (
    INT8_SUFFIX,
    Form,
    encoder_form,
    recogniser_form,
    separator_form,
    write_form,
)
from src.interop.export.packages import required
from src.interop.export.programs import SUFFIXES
from src.interop.export.sessions import OnnxFile, OnnxModule, OnnxStreamingModule, load_program
from src.interop.export.streaming_graph import StreamingGraph
from src.metrics.base import Metric
from src.metrics.separation import SiSdrImprovement
from src.metrics.wer import WER
from src.models.mossformer2 import MossFormer2
from src.models.nest import NEST
from src.run import load_run
from src.stream import choices
from src.system import System
from src.tasks.recognition import RecognitionTask
from src.text_encoder.decoders.greedy import GreedyDecoder
from src.trainer.setup import open_dataset
from src.transforms.chain import Chain
from src.transforms.features.log_mel import LOG_OFFSET
from src.transforms.wave.cleaning import Cleaning
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import create_beside, readable, write_beside
from src.utils.nodes import plain
from src.utils.options import check_whole

MOST_DIFFERENCE = 1e-4  # of an output value, relative to it where it is above 1
MOST_APART = {"WER": 0.1, "SI-SDRi": 0.05}  # points; dB
INT8_APART = {"WER": 0.3, "SI-SDRi": 0.3}
MISSING = {
    "samples": "it needs a model in ONNX at 16 kHz whose features are normalised per utterance",
    "streaming": "this model has no form for its streams",
}
FRONTEND, REPORT = "frontend.onnx", "report.json"
TORCH, TORCH_STREAM = "torch", "torch, stream"  # rows
PRECISIONS = (".onnx", INT8_SUFFIX)
AUDIO = ("audio", "audio_length")
SPECTROGRAM = ("spectrogram", "spectrogram_length")


@dataclass
class Row:
    """A line of the table.

    Attributes:
        name: what computed the outputs.
        file: in the folder; empty for PyTorch.
        size: of the file or of the weights, in bytes.
        difference: the largest from PyTorch's outputs; None if it wasn't measured.
        metric: name of the score.
        score: WER in percent or SI-SDRi in dB; None if it wasn't measured.
        real_time_factor: time by duration of the audio; None if it wasn't measured.
        reference: name of the row whose score is compared with this one.
    """

    name: str
    file: str
    size: int
    difference: float | None = None
    metric: str = ""
    score: float | None = None
    real_time_factor: float | None = None
    reference: str = TORCH


Evaluate = Callable[[dict[str, Any]], dict[str, Any]]  # from an item to what the metric reads


def export(arguments: argparse.Namespace) -> None:
    """Write the folder, check it, and print the table.

    Raises:
        FileExistsError: the folder exists.
        ValueError: a package is missing, the model has no form, or the export differs from it.
    """
    check_whole("--limit", arguments.limit, optional=True)
    if arguments.int8 and arguments.format != "onnx":
        raise ValueError(f"--int8: not with --format {arguments.format}, only with onnx.")
    if arguments.format == "onnx":
        required("onnx", "onnxscript", "onnxruntime")
    with create_beside(arguments.out) as folder:
        system = load_run(arguments.run, arguments.checkpoint, device="cpu")
        context = tuple(arguments.context) if arguments.context else None
        form = make_form(system, arguments.run, arguments.format == "onnx", context)
        scored = arguments.check == "all" and arguments.format == "onnx" and metric_of(form)
        items = read_items(system, arguments) if scored else []
        write_form(form, folder, arguments.format, arguments.int8)
    print(f"{arguments.out}: {', '.join(sorted(path.name for path in arguments.out.iterdir()))}")
    if arguments.check == "none":
        return
    rows = compare_outputs(form, arguments)
    if scored:
        rows += score_all(system, form, arguments, items)
    failures = check(rows)
    report(rows, failures, form, arguments.out)
    if failures:
        raise ValueError(" ".join(failures))


def make_form(
    system: System, run: Path, for_clients: bool, context: tuple[int, int] | None = None
) -> Form:
    """The form in which the model of a run is exported.

    Raises:
        ValueError: it has none, or its input is cleaned.
    """
    model: Any = system.model
    config: Any = system.config
    features = plain(config.features) if config.features else {}
    features = {key: value for key, value in features.items() if not key.startswith("_")}
    transforms, rate = system.inference_transforms, system.sample_rate
    for name, transform in transforms.items():
        if isinstance(transform, Cleaning):
            raise ValueError(f"{run}: cleaning.{name} can't be exported.")
    if context and not isinstance(system.task, RecognitionTask):
        raise ValueError(f"--context: {run} is no recogniser.")
    if isinstance(model, NEST):
        return encoder_form(model, transforms, rate, features)
    if isinstance(model, MossFormer2):
        return separator_form(model, rate)
    if isinstance(system.task, RecognitionTask):
        encoder = system.text_encoder
        return recogniser_form(model, transforms, encoder, rate, features, for_clients, context)
    raise ValueError(f"{run}: a {type(model).__name__} can't be exported.")


def compare_outputs(form: Form, arguments: argparse.Namespace) -> list[Row]:
    """Rows with the differences of all exported programs from PyTorch."""
    rows = []
    for graph in form.graphs:
        name = graph.name + SUFFIXES[arguments.format]
        path = arguments.out / name
        program = load_program(path)
        apart = largest_difference(graph, program, DURATIONS)
        if isinstance(graph, StreamingGraph):
            apart = max(apart, streaming_difference(graph, program))
        rows.append(Row(arguments.format, name, path.stat().st_size, apart))
    return rows


def metric_of(form: Form) -> tuple[str, type[Metric], float] | None:
    """Name, class and factor of the metric of a task; None for features, which have none."""
    metrics: dict[str, tuple[str, type[Metric], float]] = {
        "recognition": ("WER", WER, 100.0),
        "separation": ("SI-SDRi", SiSdrImprovement, 1.0),
    }
    return metrics.get(form.config["task"])


def score_all(
    system: System, form: Form, arguments: argparse.Namespace, items: list[dict[str, Any]]
) -> list[Row]:
    """Rows with the scores of PyTorch, onnxruntime and the installed clients on items."""
    weights = sum(p.numel() * p.element_size() for p in form.graphs[0].parameters())
    rows = [score(Row(TORCH, "", weights), evaluator(system, form, None), items, form)]
    graphs = {graph.name for graph in form.graphs}
    for suffix in PRECISIONS[: 1 + arguments.int8]:
        path = arguments.out / f"model{suffix}"
        steps = {"onnxruntime": (path, evaluator(system, form, path))}
        for name in ("samples", "model"):
            if name in graphs:
                steps |= client_evaluators(form, arguments.out / f"{name}{suffix}")
        rows += score_files(steps, items, form)
    return rows + (score_streams(system, form, arguments, items) if form.streaming else [])


def score_streams(
    system: System, form: Form, arguments: argparse.Namespace, items: list[dict[str, Any]]
) -> list[Row]:
    """Rows with the scores of streams: of PyTorch, onnxruntime and the installed clients.

    They are compared with PyTorch's stream, and this with whole utterances in the same context,
    which have a row of their own where evaluation has another context.

    In onnxruntime, a stream of a model whose outputs are held back ends with chunks of length 0;
    others are followed by silence, as clients append it.
    """
    streaming: Any = form.streaming
    own = greedy(system, system.model, system.inference_transforms)
    rows: list[Row] = []

    def whole(item: dict[str, Any]) -> dict[str, Any]:
        with streaming.in_context():
            return own.evaluation_step(collate([item]))

    def stream(item: dict[str, Any]) -> dict[str, Any]:
        one = own.stream(streaming.context)
        one.accept(item["audio"], system.sample_rate)
        return {"text": [item["text"]], "prediction": [one.finish()]}

    weights = sum(p.numel() * p.element_size() for p in streaming.network.parameters())
    row = Row(TORCH_STREAM, "", weights)
    if streaming.context != choices(own.model, own.task, None, None)[0]:
        row.reference = "torch, context {} {}".format(*streaming.context)
        reference = Row(row.reference, "", weights, reference=row.reference)
        rows.append(score(reference, whole, items, form))
    rows.append(score(row, stream, items, form))
    for suffix in PRECISIONS[: 1 + arguments.int8]:
        path = arguments.out / f"streaming{suffix}"
        chunks = OnnxStreamingModule(
            OnnxFile(path, torch.get_num_threads()),
            streaming.size,
            streaming.caches(1),
            streaming.flushes,
            None if streaming.flushes else math.log(LOG_OFFSET),
        )
        steps = {"onnxruntime, stream": (path, evaluator(system, form, path, chunks))}
        steps |= client_evaluators(form, path)
        rows += score_files(steps, items, form, TORCH_STREAM)
    return rows


def score_files(
    steps: dict[str, tuple[Path, Evaluate]],
    items: list[dict[str, Any]],
    form: Form,
    reference: str = TORCH,
) -> list[Row]:
    """Rows with the scores of programs on their files, and the name of the one to compare with."""
    return [
        score(Row(name, path.name, path.stat().st_size, reference=reference), step, items, form)
        for name, (path, step) in steps.items()
    ]


def evaluator(system: System, form: Form, file: Path | None, model: Any = None) -> Evaluate:
    """Evaluates items by a system; by exported files in place of its model and front end.

    Args:
        system: of the run.
        form: what was exported.
        file: of the model; None for the system's own.
        model: in place of the file.
    """
    transforms, own_model = system.inference_transforms, model is None
    model = system.model if own_model else model
    open_file = partial(OnnxFile, threads=torch.get_num_threads())
    if file is not None and form.config["task"] == "recognition":
        front = OnnxModule(open_file(file.with_name(FRONTEND)), AUDIO, SPECTROGRAM)
        transforms = Chain({"frontend": front})
        if own_model:
            model = OnnxModule(open_file(file), SPECTROGRAM, ("log_probs", "log_probs_length"))
    elif file is not None:
        model = OnnxModule(open_file(file), AUDIO, ("estimates",), {"estimates_length": AUDIO[1]})
    own = greedy(system, model, transforms)
    return lambda item: own.evaluation_step(collate([item]))


def greedy(system: System, model: Any, transforms: Chain) -> System:
    """A system with another model and front end; one of recognition decodes greedily, as clients.

    Args:
        system: of the run.
        model: e.g. an exported one.
        transforms: of inference.
    """
    task = system.task
    if isinstance(task, RecognitionTask):
        decoders: dict[str, Callable] = {"greedy": GreedyDecoder()}
        task = RecognitionTask(system.text_encoder, decoders, window_seconds=None)
    return System(
        model,
        task,
        sample_rate=system.sample_rate,
        inference_transforms=transforms,
        text_encoder=system.text_encoder,
    ).eval()


def client_evaluators(form: Form, path: Path) -> dict[str, tuple[Path, Evaluate]]:
    """A file, and evaluation of items by it, for each client that can run it, by name."""

    def evaluate(transcribe: Transcribe, item: dict[str, Any]) -> dict[str, Any]:
        text = " ".join(transcribe(item["audio"]).split())
        return {"text": [item["text"]], "prediction": [text]}

    graph, threads = path.name.split(".")[0], torch.get_num_threads()
    steps: dict[str, tuple[Path, Evaluate]] = {}
    if form.config["task"] != "recognition":
        return steps
    for name, client in CLIENTS.items():
        if client.graph == graph and client.obstacle(form.config) is None:
            size, rate = form.config["features_size"], form.config["sample_rate"]
            transcribe = client.make(path.parent, path.name, size, rate, threads)
            steps[name] = path, partial(evaluate, transcribe)
    return steps


def read_items(system: System, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The items of the run's test set, or of a manifest.

    Raises:
        ValueError: the dataset can't be built, or has no targets.
    """
    config: Any = system.config
    system.task.window_seconds = None  # clients are given whole recordings
    if arguments.manifest:
        target = "src.datasets.manifest_dataset.ManifestDataset"
        config.datasets.test = {"_target_": target, "manifest": str(arguments.manifest)}
    elif not config.datasets.get("test") or OmegaConf.is_missing(config.datasets.test, "manifest"):
        raise ValueError(f"{arguments.run}: has no test set; --manifest FILE, or --check outputs.")
    if arguments.limit:
        config.datasets.test.limit = arguments.limit
    dataset = open_dataset(config, "test", system, train=False)
    if not getattr(dataset, "has_targets", True):
        raise ValueError("datasets.test: no targets to score against; --check outputs.")
    return [dataset[0, i] for i in tqdm(range(len(dataset)), "reading", leave=False)]


def score(row: Row, step: Evaluate, items: list[dict[str, Any]], form: Form) -> Row:
    """The row with the score and the real-time factor on a dataset, after one warm-up item."""
    name, kind, factor = metric_of(form)  # type: ignore[misc]
    metric, seconds = kind(), 0.0
    step(items[0])
    for item in tqdm(items, f"{row.name} {row.file}", leave=False):
        start = time.perf_counter()
        batch = step(item)
        seconds += time.perf_counter() - start
        metric.update(**batch)
    duration = sum(len(item["audio"]) for item in items) / form.config["sample_rate"]
    value = metric.compute().get("")
    row.metric, row.score = name, None if value is None else factor * value
    row.real_time_factor = seconds / duration
    return row


def check(rows: list[Row]) -> list[str]:
    """A sentence for each row beyond a limit."""
    failures = []
    scores = {row.name: row.score for row in rows}
    for row in rows:
        place, wanted = ", ".join(filter(None, (row.name, row.file))), scores.get(row.reference)
        if row.difference is not None and not row.difference <= MOST_DIFFERENCE:
            failures.append(f"{place}: outputs differ by {row.difference:.1e}.")
        if row.score is None or wanted is None:
            continue
        apart = abs(row.score - wanted)
        limits = INT8_APART if row.file.endswith(INT8_SUFFIX) else MOST_APART
        if not apart <= limits[row.metric]:
            failures.append(f"{place}: {row.metric} differs by {apart:.2f} from {row.reference}.")
    return failures


def report(rows: list[Row], failures: list[str], form: Form, folder: Path) -> None:
    """Print the table, and write it to report.json."""
    name = (metric_of(form) or ("score",))[0]
    lines: list[tuple[str, ...]] = [("", "file", "size", "difference", name, "real-time factor")]
    for row in rows:
        numbers = [(row.difference, ".1e"), (row.score, ".2f"), (row.real_time_factor, ".4f")]
        shown = ("" if value is None else format(value, spec) for value, spec in numbers)
        lines.append((row.name, row.file, readable(row.size), *shown))
    print(in_columns(lines))
    notes = obstacles(form)
    for note in notes:
        print(note)
    content = {"rows": [asdict(row) for row in rows], "notes": notes, "failures": failures}
    with write_beside(folder / REPORT) as path:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def obstacles(form: Form) -> list[str]:
    """A sentence for each client that can't run the export."""
    if form.config["task"] != "recognition":
        return []
    graphs = {graph.name for graph in form.graphs}
    reasons = {
        name: client.obstacle(form.config) if client.graph in graphs else MISSING[client.graph]
        for name, client in CLIENTS.items()
    }
    return [f"{name}: not run; {reason}." for name, reason in reasons.items() if reason]


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run, also user/name on the hub, or a .nemo file")
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument(
        "--int8", action="store_true", help="also model.int8.onnx, with weights of eight bits"
    )
    parser.add_argument("--format", default="onnx", choices=tuple(SUFFIXES), help="default: onnx")
    parser.add_argument(
        "--check",
        default="all",
        choices=("none", "outputs", "all"),
        help="compare outputs only, or also score the test set; default: all",
    )
    parser.add_argument(
        "--context",
        type=int,
        nargs=2,
        metavar=("LEFT", "RIGHT"),
        help="of attention in streams, in frames; default: the first of the model",
    )
    parser.add_argument("--limit", type=int, help="utterances of the test set; default: all")
    parser.add_argument("--manifest", type=Path, help="instead of the run's test set")
    parser.add_argument(
        "--checkpoint", default="best", choices=("best", "last"), help="default: best"
    )
    return parser


def main() -> None:
    """Parse the command line and export."""
    arguments = make_parser().parse_args()
    run_command(lambda: export(arguments))


if __name__ == "__main__":
    main()
