"""The model card of a published run: README.md in the form of the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from src.metrics.error_rate import ErrorRate
from src.metrics.masked_prediction import MaskedAccuracy
from src.report.facts import Facts
from src.report.results import Result, Score
from src.utils.annotations import TARGET
from src.utils.places import MISSING, without_places

NORMALIZATIONS = {
    "own": "that of the text encoder",
    "none": "none",
    "whisper_english": "Whisper's, English",
    "": "",
}


@dataclass(frozen=True)
class Kind:
    """What a card says about all runs of a task.

    Attributes:
        title: of the task.
        pipeline: the hub's name of the task; None: it has none.
        tags: by which the hub finds the model.
        code: Python after `load_run`, with `{run}` for the call that loads.
        options: of `inference.py` for own recordings, beside the run.
        train: options of `train.py` that start from the run, `{run}`; empty: none.
        limits: what the model can't do.
    """

    title: str
    pipeline: str | None
    tags: tuple[str, ...]
    code: str
    options: str
    train: str
    limits: str


KINDS = {
    "recognition": Kind(
        "Speech recognition",
        "automatic-speech-recognition",
        ("automatic-speech-recognition", "speech", "ctc"),
        'transcribe = {run}\nprint(transcribe("a.wav"))  # or a list, or (samples, sample_rate)',
        "datasets=custom_dir datasets.test.dir=FOLDER",
        "",
        "Speech unlike the training data (other speakers, microphones, noise or topics) is "
        "recognised worse than the metrics say.",
    ),
    "separation": Kind(
        "Speech separation",
        "audio-to-audio",
        ("speech-separation", "audio-to-audio", "speech"),
        'separate = {run}\nestimates = separate("mixture.wav")  # [speakers, samples]',
        "datasets=custom_dir_separation datasets.test.dir=FOLDER",
        "",
        "It always gives the same number of speakers, in no particular order. Voices, rooms and "
        "noise unlike the training data are separated worse than the metrics say.",
    ),
    "pretraining": Kind(
        "Self-supervised pretraining",
        "feature-extraction",
        ("self-supervised", "feature-extraction", "speech"),
        'encode = {run}\nframes = encode("a.wav")  # [features, frames]',
        "datasets=manifest datasets.test.manifest=test.jsonl",
        "-cn=asr_nest init.encoder.source={run}",
        "It recognises nothing by itself: its encoder is to be fine-tuned.",
    ),
    "classification": Kind(
        "Speech classification",
        "audio-classification",
        ("audio-classification", "speech"),
        'classify = {run}\nprint(classify("a.wav"))  # one of the labels',
        "datasets=classes datasets.test.manifest=test.jsonl",
        "",
        "It always names one of its classes, also for audio that is of none.",
    ),
}
OTHER = Kind("Speech", None, ("speech",), 'model = {run}\nprint(model("a.wav"))', "", "", "")


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    Attributes:
        name: of the model: `user/name`, or that of the folder.
        task: name of the run's task.
        inference: experiment that evaluates such runs; empty: none.
        facts: about the run.
        config: of the run, plain.
        architecture: class of the model.
        checkpoint: `best` or `last`.
        trained: whether the config says how the model was trained; not so that of a .nemo file.
        language: code of the language; None: unknown, or none.
        license: identifier of the hub; None: none was chosen.
        data: description of the training data; empty: none.
        limits: what this model can't do, beside what is said about all runs of its task.
        code: address of the repository; empty: unknown.
        trusted: packages whose classes the config names.
        results: of the test evaluations.
        page: path of the report in the folder; empty: none.
    """

    name: str
    task: str
    inference: str
    facts: Facts
    config: dict[str, Any]
    architecture: str
    checkpoint: str
    trained: bool = True
    language: str | None = None
    license: str | None = None
    data: str = ""
    limits: str = ""
    code: str = ""
    trusted: Sequence[str] = ()
    results: Sequence[Result] = field(default_factory=list)
    page: str = ""

    @property
    def kind(self) -> Kind:
        """What is said about all runs of this task."""
        return KINDS.get(self.task, OTHER)


def model_card(card: Card) -> str:
    """The text of README.md: a header in YAML, and Markdown."""
    header = yaml.safe_dump(header_of(card), sort_keys=False, allow_unicode=True, width=1000)
    sections = {
        "Results": results_section(card),
        "Use": use_section(card),
        "Training data": data_section(card),
        "Model": model_section(card),
        "Limits": limits_section(card),
    }
    body = "\n".join(f"## {title}\n\n{text}\n" for title, text in sections.items() if text)
    return f"---\n{header}---\n\n# {card.name}\n\n{summary(card)}\n\n{body}"


def header_of(card: Card) -> dict[str, Any]:
    """The metadata that the hub reads."""
    kind = card.kind
    header: dict[str, Any] = {"license": card.license or "unknown"}
    if card.language:
        header["language"] = [card.language]
    header |= {"library_name": "triphone"}
    if kind.pipeline:
        header["pipeline_tag"] = kind.pipeline
    header["tags"] = ["triphone", *kind.tags]
    if card.results:
        header["model-index"] = [
            {"name": card.name, "results": [entry(card, result) for result in card.results]}
        ]
    return header


def entry(card: Card, result: Result) -> dict[str, Any]:
    """An evaluation in the model index."""
    kind = card.kind
    return {
        "task": {"type": kind.pipeline or "other", "name": kind.title},
        "dataset": {"type": result.name, "name": dataset_text(result.dataset, "")},
        "metrics": [
            {"type": kind_of(score), "name": title(score), "value": round(scaled(score), 4)}
            for score in result.scores
        ],
    }


def summary(card: Card) -> str:
    """The first sentence."""
    address = f" ({card.code})" if card.code else ""
    how = "trained with" if card.trained else "converted from a .nemo file for"
    return (
        f"{card.kind.title}: `{card.architecture}`, {card.facts.parameters:,} parameters, {how} "
        f"Triphone{address}, a template for speech research in PyTorch."
    )


def results_section(card: Card) -> str:
    """A table of metrics for each evaluation."""
    tables = []
    for result in card.results:
        count = "" if result.utterances is None else f", {result.utterances:,} utterances"
        lines = [f"`{result.name}`: {dataset_text(result.dataset)}{count}.", ""]
        texts = any(score.metric.normalization for score in result.scores)
        names = ["metric", "value", *(["normalization"] if texts else [])]
        lines += [row(names), row(["---"] * len(names))]
        for score in result.scores:
            how = NORMALIZATIONS.get(score.metric.normalization, score.metric.normalization)
            lines.append(row([title(score), shown(score), *([how] if texts else [])]))
        tables.append("\n".join(lines))
    if not tables:
        return "The checkpoint has not been evaluated."
    if any(" (" in title(score) for result in card.results for score in result.scores):
        tables.append("In brackets: another decoder of `inference.py` than that of `load_run`.")
    if card.page:
        tables.append(f"Every utterance: [report]({card.page}), a page to open from the disk.")
    return "\n\n".join(tables)


def use_section(card: Card) -> str:
    """How the run is loaded, with commands that work."""
    here = "" if "/" in card.name else f" `{card.name}` is the path of this folder."
    trust = f", trusted={list(card.trusted)!r}" if card.trusted else ""
    load = card.kind.code.replace("{run}", f'load_run("{card.name}"{trust})')
    commands = []
    if card.inference and card.kind.options:
        flag = f" trust=[{','.join(card.trusted)}]" if card.trusted else ""
        evaluate = f"python inference.py -cn={card.inference} run={card.name}{flag}"
        commands.append(f"{evaluate} {card.kind.options}")
    if card.kind.train:
        commands.append("python train.py " + card.kind.train.replace("{run}", card.name))
    parts = [
        f"In the root of Triphone, with `pip install -r requirements.txt`.{here}",
        block("bash", setup_commands(card)),
        block("python", ["from src.run import load_run", "", load]),
        block("bash", commands),
        "Loading runs no code of this folder, and compares the model's outputs with stored ones.",
    ]
    if card.trusted:
        parts.append(f"It needs classes of {', '.join(card.trusted)}, whose code is run.")
    return "\n\n".join(filter(None, parts))


def setup_commands(card: Card) -> list[str]:
    """What gets the code, if its address is known."""
    if not card.code:
        return []
    commands = [f"git clone {card.code} triphone", "cd triphone"]
    if card.facts.commit and not card.facts.changed:
        commands.append(f"git checkout {card.facts.commit}")
    return [*commands, "pip install -r requirements.txt"]


def block(language: str, lines: list[str]) -> str:
    """A block of code; none without lines."""
    return "\n".join([f"```{language}", *lines, "```"]) if lines else ""


def data_section(card: Card) -> str:
    """What the model was trained on, and how much of it."""
    amount = card.facts.trained_on
    sentences = [card.data.strip() or "They weren't described."]
    if amount:
        hours, count = amount["hours"], amount["utterances"]
        sentences.append(f"{hours:.2f} hours, {count:,.0f} utterances.")
    else:
        sentences.append("Their duration wasn't recorded.")
    dataset = (card.config.get("datasets") or {}).get("train")
    if dataset and card.trained:
        sentences.append(f"Dataset class: {dataset_text(dataset)}.")
    return " ".join(sentences)


def model_section(card: Card) -> str:
    """A table of facts."""
    values = {
        "architecture": f"`{card.architecture}`",
        "parameters": f"{card.facts.parameters:,}",
        "input": f"mono audio at {card.config['sample_rate']:,} Hz; other audio is converted",
    }
    if card.trained:
        monitor = (card.config.get("trainer") or {}).get("monitor")
        chosen = f" by `{monitor}`" if monitor and card.checkpoint == "best" else ""
        values["experiment"] = f"`{card.config.get('name')}`, see `config.yaml`"
        values["checkpoint"] = f"{card.checkpoint}{chosen}"
    if card.facts.commit:
        changed = ", with changes that aren't published" * card.facts.changed
        values["code"] = f"commit `{card.facts.commit}`{changed}"
    values["licence"] = card.license or "none was chosen: ask the author before using it"
    lines = [row(["", ""]), row(["---", "---"])]
    return "\n".join(lines + [row([name, value]) for name, value in values.items()])


def limits_section(card: Card) -> str:
    """What the model can't do."""
    written = "It writes lower case without punctuation, and numbers as words." * bool(
        card.language
    )
    tested = "" if card.results else "It has not been evaluated."
    return " ".join(filter(None, (card.limits, written, card.kind.limits, tested)))


def dataset_text(node: Any, mark: str = "`") -> str:
    """A dataset by its class and its plain options, without places on disk.

    Args:
        node: of the config, plain.
        mark: around the name of the class.
    """
    if not isinstance(node, dict) or TARGET not in node:
        return "unknown"
    options = {
        key: value
        for key, value in without_places({"dataset": node})["dataset"].items()
        if key != TARGET and isinstance(value, str | int | float) and value != MISSING
    }
    listed = ", ".join(f"{key} {value}" for key, value in options.items())
    name = node[TARGET].rpartition(".")[2]
    return f"{mark}{name}{mark}" + (f" ({listed})" if listed else "")


def row(cells: list[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def title(score: Score) -> str:
    """The name of a metric with its unit, or of an error rate with its decoder."""
    if isinstance(score.metric, ErrorRate):
        name, _, decoder = score.name.partition("_")
        return f"{name} ({decoder})" if decoder else name
    return f"{score.name}, dB" if "SDR" in score.name.upper() else score.name


def kind_of(score: Score) -> str:
    """The hub's name of a metric."""
    name = score.name.lower()
    return name.partition("_")[0] if isinstance(score.metric, ErrorRate) else name


def scaled(score: Score) -> float:
    """A value as it is published: rates in percent."""
    percent = isinstance(score.metric, ErrorRate | MaskedAccuracy)
    return 100 * score.value if percent else score.value


def shown(score: Score) -> str:
    """A value for people."""
    percent = isinstance(score.metric, ErrorRate | MaskedAccuracy)
    return f"{scaled(score):.2f} %" if percent else f"{score.value:.4g}"
