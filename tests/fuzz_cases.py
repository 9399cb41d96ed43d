"""What `tests.fuzz` tries: mutations of every kind of input, drawn by a seed."""

import argparse
import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from functools import cache, partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from inference import infer
from scripts.check_manifest import check
from scripts.convert import convert
from scripts.extract_features import extract
from src.config import check_overrides
from src.loaded_config import YAML_END, entries
from src.run import load_run
from tests.demo import composed, sine, tiny_corpus
from tests.fuzz import Case, run_case
from tests.golden import FIXTURES
from train import train

CONFORMER = ("model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2")
DEEPSPEECH = (
    "model.hidden_size=16",
    "model.convolutions.0.out_channels=4",
    "model.convolutions.1.out_channels=4",
    "dataloader.max_seconds=12",
)
# Experiment -> what makes it small.
EXPERIMENTS: dict[str, tuple[str, ...]] = {
    "asr_deepspeech2": DEEPSPEECH,
    "asr_deepspeech2_librispeech": (*DEEPSPEECH, "trainer.test_on=[test]", "precision='no'"),
    "asr_baseline": ("model.hidden_size=16",),
    "asr_conformer": CONFORMER,
    "asr_nest": (),
    "asr_nest_probe": (),
    "ssl_nest": (*CONFORMER, "model.codebook_size=32"),
    "ssl_nest_librispeech": (*CONFORMER, "model.codebook_size=32", "precision='no'"),
    "separation_mossformer2": ("model.d_model=16", "model.num_layers=1", "model.kernel_size=64"),
}
RUNS = {"asr": "asr_deepspeech2", "ssl": "ssl_nest", "separation": "separation_mossformer2"}
OUTPUT = ("writer=nothing", "device=cpu", "debug=smoke", "trainer.steps_per_epoch=1")


class World:
    """What all cases share: a tiny corpus, and a run of each task.

    Args:
        folder: to write them to.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.corpus = tiny_corpus(folder / "corpus", workers=1)
        self.run = cache(self.make_run)
        self.nemo = cache(partial(self.make_file, "ssl", "model.nemo"))
        self.separator = cache(partial(self.make_file, "separation", "model.pt"))

    def overrides(self, experiment: str) -> list[str]:
        """What makes an experiment small and lets it run on the corpus."""
        demo = "demo_mixtures" if experiment.startswith("separation") else "demo"
        own = [f"datasets={demo}", f"datasets.train.folder={self.corpus}", *OUTPUT]
        if experiment in ("asr_nest", "asr_nest_probe"):
            own.append(f"init.encoder.source={self.run('ssl')}")
        return [*own, *EXPERIMENTS[experiment]]

    def config(self, experiment: str) -> DictConfig:
        """A small experiment."""
        return composed(experiment, *self.overrides(experiment))

    def make_run(self, task: str) -> Path:
        """The folder of a finished run of a task."""
        name = RUNS[task]
        folder = self.setup(partial(train_in, name, [*self.overrides(name)]), f"run-{task}")
        return folder / "run"

    def make_file(self, task: str, name: str) -> Path:
        """Another project's file of a run."""
        run = self.run(task)
        return self.setup(partial(convert_to, run, name), name) / name

    def setup(self, command: Callable[[Path], Any], name: str) -> Path:
        """Run what must succeed in a process of its own, since a backward pass starts threads."""
        folder = self.folder / f"setup-{name}"
        folder.mkdir()
        outcome = run_case(Case("setup", name, command, bad=False), folder, 300)
        if outcome.verdict != "ok":
            raise RuntimeError(f"{outcome}\n{(folder / 'stderr').read_text()}")
        return folder


def train_in(experiment: str, overrides: list[str], folder: Path) -> dict[str, float]:
    """Train in `<folder>/run`."""
    overrides = [*overrides, f"run_dir={folder / 'run'}"]
    check_overrides(overrides)
    return train(composed(experiment, *overrides), overrides)


def convert_to(run: Path, name: str, folder: Path) -> None:
    """Convert a run to a file in the folder."""
    convert(argparse.Namespace(run=run, out=folder / name, checkpoint="best"))


# Overrides --------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "null": None,
    "0": 0,
    "-1": -1,
    "-0.5": -0.5,
    "1000000000": 10**9,
    "1e30": 1e30,
    "inf": float("inf"),
    "nan": float("nan"),
    "1.5": 1.5,
    "true": True,
    "foo": "foo",
    "''": "",
    "[]": [],
    "[1]": [1],
    "[foo]": ["foo"],
    "{a: 1}": {"a": 1},
}
# Names of strings that may be anything, and of numbers that may be below 0 or not whole.
FREE = {"name", "next_command", "runs", "run_dir", "project", "workspace", "entity", "output"}
FREE |= {"source", "folder", "noise", "manifest", "part", "dir", "parts", "trust"}
NEGATIVE = {"low", "high", "mask_value", "floor", "threshold", "output_level", "silence_dbfs"}
NEGATIVE |= {"active_db", "max_snr", "max_sdr", "min_snr_db", "max_snr_db"}
REAL = {
    "max_seconds",
    "max_grad_norm",
    "window",
    "overlap",
    "window_seconds",
    "overlap_seconds",
    "silence_dbfs",
    "minutes",
}
# Mappings whose keys are names of the user's choice.
RECOGNISERS = (
    "fastconformer_ctc_bpe",
    "fastconformer_hybrid_bpe",
    "quartznet_char",
    "citrinet_char",
)
NAMED = ("evaluations", "optimizers", "vars", "metrics", "datasets", "init", "trainer.freeze")
NAMED_PARTS = ("train", "inference", "sources", "decoders", "lr_scales", "freeze")
LONG = ("trainer.epochs", "trainer.steps_per_epoch")  # any large number means a long run


def nodes(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, resolved value) of everything in a config."""
    names = range(len(config)) if isinstance(config, ListConfig) else config
    for name in names:
        place = f"{key}.{name}" if key else str(name)
        try:
            value = None if OmegaConf.is_missing(config, name) else config[name]
        except OmegaConfBaseException:  # refers to a key that is elsewhere
            value = None
        yield place, value
        if isinstance(value, DictConfig | ListConfig):
            yield from nodes(value, place)


def known_bad(key: str, default: Any, value: Any) -> bool | None:
    """True if a key can't take a value; None if it isn't known."""
    name = key.rpartition(".")[2]
    if default is None or name == "noise":
        return None
    if isinstance(default, bool):
        return None if value is None or isinstance(value, bool) else True
    if isinstance(default, int | float):
        if not isinstance(value, int | float):
            return None if value is None else True
        odd = isinstance(value, bool) or value != value
        negative = value < 0 and name not in NEGATIVE
        whole = isinstance(default, int) and value in (1.5, -0.5) and name not in REAL
        return odd or negative or whole or None
    if isinstance(default, str):
        if isinstance(value, list | dict):
            return True if key != "scheduler.max_lr" else None
        return None if name in FREE or value is None else True
    if isinstance(default, ListConfig):
        return None if value is None or isinstance(value, list) else True
    if isinstance(default, DictConfig):
        return None if value is None or isinstance(value, dict) else True
    return None


def changes_of(key: str, default: Any) -> Iterator[tuple[list[str], bool | None]]:
    """Overrides of one key, and whether they are known to be bad."""
    parent, _, name = key.rpartition(".")
    in_list = name.isdigit()
    for text, value in VALUES.items():
        large = isinstance(value, int | float) and value > 1000
        if (key in LONG and large) or skipped(key, value):
            continue
        bad = known_bad(key, default, value)
        if isinstance(default, DictConfig) and isinstance(value, dict):
            bad = None if named(key) else True
            yield [f"+{key}.a=1"], bad
        elif not in_list:
            yield [f"{key}={text}"], bad
            if isinstance(default, DictConfig | ListConfig) and value is None:
                yield [f"~{key}"], None
        else:
            yield [f"{key}={text}"], bad
    if not in_list:
        shown = "1" if isinstance(default, DictConfig | ListConfig) else written(default)
        yield [f"{key}x={shown}"], True
        yield [f"+{key}x={shown}"], None if named(parent) else True


def named(parent: str) -> bool:
    """Whether the keys of a mapping are names of the user's choice."""
    return parent in NAMED or parent.rpartition(".")[2] in NAMED_PARTS


def skipped(key: str, value: Any) -> bool:
    """Whether a value is good but takes long: speech would be made, a model compiled."""
    folder = key.endswith(".folder") and isinstance(value, str)
    return folder or (key == "compile" and value is True)


def written(value: Any) -> str:
    """A value as an override has it."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${") + "'"
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


CONFIGS = Path(__file__).parents[1] / "src" / "configs"
GROUPS = {
    folder.name: [path.stem for path in sorted(folder.glob("*.yaml"))]
    for folder in sorted(CONFIGS.iterdir())
    if folder.is_dir() and folder.name not in ("inference", "encoder", "cluster", "hydra")
}
REMOTE = ("librispeech", "wandb", "cometml")  # that would be downloaded or logged in to


def group_changes() -> Iterator[tuple[list[str], bool | None]]:
    """Choices of groups."""
    for group, options in GROUPS.items():
        for option in options:
            if option not in REMOTE:
                yield [f"{group}={option}"], None
        yield [f"{group}={options[0]}x"], True
        yield [f"{group}=null"], None
        yield [f"{group}=[{options[0]}]"], None
        yield [f"+{group}x={options[0]}"], True
        yield [f"~{group}"], None
    yield ["foo"], True
    yield ["=1"], True
    yield ["a=[1"], True
    yield ["+foo=1"], True
    yield ["optimizer.lr=${foo}"], True
    yield ["optimizer.lr=${oc.env:HOME}"], True
    yield ["optimizer.lr=${optimizer.lr}"], True
    yield ["writer=wandb", "writer.mode=onlin"], True
    yield ["writer=cometml", "writer.mode=onlin"], True


def without(overrides: list[str], changed: list[str]) -> list[str]:
    """The overrides that don't set what others change, nor anything below a changed group."""
    keys = [one.lstrip("+~").partition("=")[0] for one in changed]
    return [
        one
        for one in overrides
        if not any(one.partition("=")[0] == k or one.startswith(f"{k}.") for k in keys)
    ]


def override_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """Every key of every experiment with bad values; each (key, change) in one experiment."""
    found: dict[tuple, tuple[str, list[str], bool | None]] = {}
    rng = random.Random(seed)
    experiments = rng.sample(list(EXPERIMENTS), len(EXPERIMENTS))
    for experiment in experiments:
        for key, default in nodes(world.config(experiment)):
            for changed, bad in changes_of(key, default):
                found.setdefault(tuple(changed), (experiment, changed, bad))
    for changed, bad in group_changes():
        found[tuple(changed)] = (rng.choice(experiments), changed, bad)
    for experiment, changed, bad in rng.sample(list(found.values()), min(count, len(found))):
        overrides = [*without(world.overrides(experiment), changed), *changed]
        command = partial(train_in, experiment, overrides)
        name = f"{experiment} {' '.join(changed)}"
        yield Case("overrides", name, command, bad=bad, word=word_of(changed))


def word_of(changed: list[str]) -> str:
    """What a sentence must name: the last part of the key."""
    return changed[-1].lstrip("+~").partition("=")[0].rpartition(".")[2]


# Inference and resuming -------------------------------------------------------------------

INFERENCE = {"asr": "inference_asr", "ssl": "inference_ssl", "separation": "inference_separation"}


def infer_in(experiment: str, overrides: list[str], folder: Path) -> dict[str, float]:
    """Evaluate a copy of a run in `<folder>/input`."""
    check_overrides(overrides)
    return infer(composed(experiment, f"run={folder / 'input'}", "device=cpu", *overrides))


def copy_run(run: Path, change: Callable[[Path], Any], folder: Path) -> None:
    """Make a changed copy of a run in `<folder>/input`."""
    shutil.copytree(run, folder / "input")
    change(folder / "input")


def unchanged(path: Path) -> None:
    """Change nothing."""


def inference_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """Every key of the inference configs, and keys of the run, with bad values."""
    rng = random.Random(seed)
    found: dict[tuple, tuple[str, list[str], bool | None]] = {}
    for task, experiment in rng.sample(list(INFERENCE.items()), 3):
        own = composed(experiment)
        for key, default in nodes(own):
            if key != "run":
                for changed, bad in changes_of(key, default):
                    found.setdefault(tuple(changed), (task, changed, bad))
        saved = OmegaConf.load(world.run(task) / "config.yaml")
        for key, default in nodes(saved):
            if OmegaConf.select(own, key) is None:
                for changed, _ in changes_of(key, default):
                    plus = ["++" + one.lstrip("+~") for one in changed]
                    found.setdefault(tuple(plus), (task, plus, None))
    for task, changed, bad in rng.sample(list(found.values()), min(count, len(found))):
        command = partial(infer_in, INFERENCE[task], changed)
        prepare = partial(copy_run, world.run(task), unchanged)
        name = f"{INFERENCE[task]} {' '.join(changed)}"
        yield Case("inference", name, command, prepare, bad, word_of(changed))


def resume_in(overrides: list[str], folder: Path) -> dict[str, float]:
    """Resume the copy of a run in `<folder>/input`."""
    overrides = [*overrides, f"trainer.resume_from={folder / 'input'}"]
    check_overrides(overrides)
    return train(composed("asr_deepspeech2", *overrides), overrides)


def resume_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """A run resumed with changed values of its config."""
    rng = random.Random(seed)
    config = world.config("asr_deepspeech2")
    every = [
        one
        for key, default in nodes(config)
        for one in changes_of(key, default)
        if key != "trainer.resume_from"
    ]
    for changed, bad in rng.sample(every, min(count, len(every))):
        command, name = partial(resume_in, changed), " ".join(changed)
        prepare = partial(copy_run, world.run("asr"), unchanged)
        yield Case("resume", name, command, prepare, bad, word_of(changed), may_change=True)


# Manifests --------------------------------------------------------------------------------

ROW_VALUES = [
    *(None, True, 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf"), "", "x", "\0", "\ud800"),
    *([], [1], {}, {"a": {"b": []}}, "y" * 5000, "../..", "/dev/zero", ".", "0.wav/b", "fifo"),
]


def mutated_line(row: dict, rng: random.Random) -> bytes:
    """A line of a manifest with some changes."""
    row = dict(row)
    for _ in range(rng.randint(0, 2)):
        row[rng.choice([*row, "extra", "lang"])] = rng.choice(ROW_VALUES)
    if rng.random() < 0.1:
        row.pop(rng.choice(list(row)))
    line = json.dumps(row).encode("ascii")
    return mutated_bytes(line, rng, rng.choice([0, 0, 1, 3]))


def mutated_bytes(data: bytes, rng: random.Random, changes: int) -> bytes:
    """Bytes, some of which are set, cut out or repeated."""
    changed = bytearray(data)
    for _ in range(changes):
        place = rng.randrange(len(changed) or 1)
        how = rng.choice(["set", "flip", "cut", "repeat"])
        if how == "set":
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif how == "flip" and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif how == "cut":
            del changed[place : place + rng.randint(1, 9)]
        elif how == "repeat":
            changed[place:place] = changed[place : place + 4] * rng.choice([1, 9, 2000])
    return bytes(changed)


def whole_files() -> dict[str, Callable[[Path], Any]]:
    """Ways in which a file as a whole may be bad, by name."""

    def replace_by(make: Callable[[Path], Any], path: Path) -> None:
        path.unlink()
        make(path)

    return {
        "missing": Path.unlink,
        "empty": lambda path: path.write_bytes(b""),
        "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "a folder": partial(replace_by, Path.mkdir),
        "a FIFO": partial(replace_by, os.mkfifo),
        "a loop": partial(replace_by, lambda path: path.symlink_to(path.name)),
        "a device": partial(replace_by, lambda path: path.symlink_to("/dev/zero")),
        "unreadable text": lambda path: path.write_bytes(b"\xff\xfe" + b"a\0b\0" * 99),
        "nested JSON": lambda path: path.write_bytes(b"[" * 100_000),
        "nested objects": lambda path: path.write_bytes(b'{"a":' * 100_000),
        "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "twice": lambda path: path.write_bytes(path.read_bytes() * 2),
    }


BAD_MANIFEST = {"missing", "zeros", "a folder", "a FIFO", "a loop", "a device", "nested JSON"}
BAD_MANIFEST |= {"unreadable text", "nested objects", "empty"}


def manifest_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """Manifests with one bad row, or bad as a whole, for training, validation or test."""
    rng = random.Random(seed)
    ways = whole_files()
    for number in range(count):
        split = rng.choice(["train", "val", "test"])
        skip = rng.random() < 0.2
        task = rng.choice(["asr_baseline", "asr_baseline", "ssl_nest", "separation_mossformer2"])
        program = rng.choice(["train", "train", "check"])
        if number % 5 == 0:
            way = rng.choice(list(ways))
            name, change, bad = way, ways[way], way in BAD_MANIFEST or None
        else:
            own = rng.randrange(2**32)
            name, change, bad = f"row {own}", partial(change_row, own), None
        command = partial(on_manifests, task, split, program, skip)
        prepare = partial(bad_manifest, split, change)
        told = f"{program} {task} {split}{' skip' if skip else ''}: {name}"
        yield Case("manifests", told, command, prepare, bad, "" if skip else "input")


def change_row(own: int, path: Path) -> None:
    """Mutate one row of a manifest."""
    rng = random.Random(own)
    lines = path.read_bytes().splitlines(keepends=True)
    number = rng.randrange(len(lines))
    lines[number] = mutated_line(json.loads(lines[number]), rng) + b"\n"
    path.write_bytes(b"".join(lines))


def make_manifests(folder: Path) -> None:
    """Three manifests of six files each, with text and speakers."""
    for split in ("train", "val", "test"):
        rows = []
        for i in range(6):
            path = sine(folder / f"{split}{i}.wav", 8000, 1.0 + 0.1 * i)
            text = "hello there"[: 5 + i]
            row = {"audio_filepath": path.name, "duration": 1.0 + 0.1 * i, "offset": 0}
            rows.append(row | {"text": text, "speaker": f"s{i % 3}"})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def bad_manifest(split: str, change: Callable[[Path], Any], folder: Path) -> None:
    """Make manifests, one of which is changed."""
    place = folder / "input"
    place.mkdir()
    make_manifests(place)
    os.mkfifo(place / "fifo")
    change(place / f"{split}.jsonl")


def on_manifests(experiment: str, split: str, program: str, skip: bool, folder: Path) -> Any:
    """Train on the manifests in `<folder>/input`, or check one."""
    place = folder / "input"
    if program == "check":
        options = {"alphabet": "en", "frames_per_second": 25.0}
        bad = check(argparse.Namespace(file=place / f"{split}.jsonl", **options))
        if bad:
            raise ValueError(f"{place}: {bad} bad rows")
        return None
    kind = "dynamic_mixtures" if experiment.startswith("separation") else "manifest"
    own = [f"datasets={kind}", "writer=nothing", "device=cpu", "dataloader.num_workers=0"]
    own += [f"datasets.{name}.manifest={place / name}.jsonl" for name in ("train", "val", "test")]
    own += [f"+datasets.{split}.on_error=skip"] if skip else []
    own += ["trainer.epochs=1", "trainer.steps_per_epoch=1", "trainer.log_every_steps=1"]
    if kind == "dynamic_mixtures":
        own += ["datasets.train.segment=0.5"]
    return train_in(experiment, [*own, *EXPERIMENTS[experiment]], folder)


# Audio ------------------------------------------------------------------------------------

SUBTYPES = {"wav": "FLOAT", "flac": "PCM_16", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}


def audio_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """One bad audio file in training, or in a folder that is evaluated."""
    rng = random.Random(seed)
    ways = whole_files()
    recognised = ["missing", "zeros", "empty", "a folder", "a FIFO", "a loop", "a device"]
    for number in range(count):
        kind = rng.choice(list(SUBTYPES))
        own = rng.randrange(2**32)
        skip = rng.random() < 0.2
        bad: bool | None = None
        if number % 5 == 0:
            way = rng.choice([*recognised, "half", "twice"])
            name, change, bad = way, ways[way], True if way in recognised and not skip else None
        elif number % 5 == 1:
            name, change = f"samples {own}", partial(change_samples, own)
        else:
            name, change = f"bytes {own}", partial(change_file, own)
        program = rng.choice(["train", "val", "test", "infer", "infer", "extract", "call"])
        if program in ("infer", "extract") and name in ("missing", "a folder"):
            bad = None  # only files of the folder are recordings
        run = world.run("ssl" if program == "extract" else "asr")
        command = partial(on_audio, run, program, kind, skip)
        prepare = partial(bad_audio, program, kind, change)
        told = f"{program}{' skip' if skip else ''} {kind}: {name}"
        yield Case("audio", told, command, prepare, bad, "" if skip else "bad" if bad else "")


def change_file(own: int, path: Path) -> None:
    """Mutate some bytes of a file, mostly at its beginning, or cut it."""
    rng = random.Random(own)
    data = path.read_bytes()
    head = rng.choice([16, 64, 256, len(data)])
    changes = rng.choice([1, 2, 5, 50])
    data = mutated_bytes(data[:head], rng, changes) + data[head:]
    path.write_bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.2 else data)


def change_samples(own: int, path: Path) -> None:
    """Write a file of unusual samples, sample rates or channels."""
    rng = random.Random(own)
    rate = rng.choice([1, 99, 100, 8000, 16000, 48000, 192000, 10**6, 10**6 + 1, 2**31 - 1])
    channels = rng.choice([1, 2, 6, 64])
    samples = np.random.default_rng(own).standard_normal((rng.choice([0, 1, 9, 8000]), channels))
    samples = samples.astype("float32") * rng.choice([0.0, 1e-30, 0.1, 1e10, 1e38])
    if len(samples) and path.suffix in (".wav", ".flac"):
        samples[rng.randrange(len(samples))] = rng.choice([np.nan, np.inf, -np.inf, 0.0, 0.0])
    path.unlink()
    path.touch()
    try:
        if path.suffix == ".ogg":  # the encoder of Vorbis itself may crash
            raise ValueError
        soundfile.write(path, samples, rate, subtype=SUBTYPES[path.suffix[1:]])
    except (soundfile.SoundFileError, ValueError):  # not what this format can hold
        soundfile.write(path.with_suffix(".tmp.wav"), samples, rate, subtype="FLOAT")
        path.with_suffix(".tmp.wav").replace(path)


def bad_audio(program: str, kind: str, change: Callable[[Path], Any], folder: Path) -> None:
    """Make manifests or a folder of recordings, and change one of these."""
    place = folder / "input"
    (place / "audio").mkdir(parents=True)
    if program in ("train", "val", "test"):
        make_manifests(place)
        path = place / f"bad.{kind}"
        add_row(place / f"{program}.jsonl", path)
    else:
        path = place / "audio" / f"bad.{kind}"
        sine(place / "audio" / "good.wav", 8000)
    time = np.arange(8000) / 8000
    soundfile.write(path, 0.3 * np.sin(2765 * time), 8000, subtype=SUBTYPES[kind])
    change(path)


def on_audio(run: Path, program: str, kind: str, skip: bool, folder: Path) -> Any:
    """Use the audio in `<folder>/input`."""
    place = folder / "input"
    if program in ("train", "val", "test"):
        return on_manifests("asr_baseline", program, "train", skip, folder)
    if program == "call":
        load_run(run)(place / "audio" / f"bad.{kind}")
        return None
    if program == "extract":
        out = folder / "out"
        extract(argparse.Namespace(run=run, audio=place / "audio", out=out, layer=None))
        return None
    options = ["datasets=custom_dir", f"datasets.test.dir={place}", f"output={folder / 'out'}"]
    options += ["+datasets.test.on_error=skip"] if skip else []
    return infer(composed("inference_asr", f"run={run}", "device=cpu", *options))


def add_row(manifest: Path, path: Path) -> None:
    """Put a file at the beginning of a manifest."""
    row = {"audio_filepath": path.name, "duration": 1.0, "text": "hello", "speaker": "s0"}
    manifest.write_text(json.dumps(row) + "\n" + manifest.read_text())


# Checkpoints ------------------------------------------------------------------------------

READ = {
    "infer": {"config.yaml", "model.safetensors", "self_test.safetensors", "checksums.json"},
    "resume": {"config.yaml", "model.safetensors", "state.pt", "checksums.json"},
}
TASK_OF = {"asr": "inference_asr", "ssl": "inference_ssl", "separation": "inference_separation"}


def run_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """Runs with one file changed: evaluated, loaded, resumed, started from or converted."""
    rng = random.Random(seed)
    ways = whole_files()
    for number in range(count):
        task = rng.choice(list(RUNS))
        run = world.run(task)
        files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file())
        name = rng.choice([file for file in files if not file.startswith("git")])
        if rng.random() < 0.3:
            name = "config.yaml"
        program = rng.choice(["infer", "load", "resume", "init", "convert"])
        own = rng.randrange(2**32)
        if name == "config.yaml" and number % 2:
            how, change = f"value {own}", partial(change_config, own)
        elif number % 3 == 0:
            how = rng.choice(list(ways))
            change = ways[how]
        else:
            how, change = f"bytes {own}", partial(change_file, own)
        command = partial(use_run, world, task, program)
        prepare = partial(copy_run, run, partial(in_run, name, change))
        bad = is_guarded(name, program, task, how)
        word = "input" if bad else ""
        told = f"{program} {task} {name}: {how}"
        changes = program == "resume"
        yield Case("runs", told, command, prepare, bad, word, may_change=changes)


def is_guarded(name: str, program: str, task: str, how: str) -> bool | None:
    """True where a program reads a file whose changes must be noticed."""
    folder, _, file = name.rpartition("/")
    used = "last" if program == "resume" else "best"
    if folder != used or (program == "convert" and task == "asr"):
        return None
    if file in ("model.safetensors", "checksums.json") and how != "missing":
        return True
    return True if program == "resume" and file == "state.pt" else None


def in_run(name: str, change: Callable[[Path], Any], run: Path) -> None:
    """Change one file of a run."""
    change(run / name)


def change_config(own: int, path: Path) -> None:
    """Set, delete or add one value of a run's config."""
    rng = random.Random(own)
    values = yaml.safe_load(path.read_text())
    (*parents, name), _ = rng.choice(list(entries(values)))
    node: Any = reduce(getitem, parents, values)
    how = rng.choice(["set", "set", "delete", "add"])
    if isinstance(node, list) or how == "set":
        node[name] = rng.choice([*VALUES.values(), "${foo}", "${a", "???", "${model}"])
    elif how == "delete":
        del node[name]
    else:
        node[f"{name}x"] = 1
    path.write_text(f"{yaml.safe_dump(values, sort_keys=False)}{YAML_END}\n")


def use_run(world: World, task: str, program: str, folder: Path) -> Any:
    """Use the run in `<folder>/input`."""
    run = folder / "input"
    if program == "infer":
        return infer_in(TASK_OF[task], [], folder)
    if program == "load":
        load_run(run)(torch.zeros(8000), 8000)
        return None
    if program == "resume":
        overrides = [f"trainer.resume_from={run}", "trainer.epochs=2"]
        return train(composed(RUNS[task], *overrides), overrides)
    if program == "convert":
        name = {"ssl": "a.nemo", "separation": "a.pt", "asr": "a.pt"}[task]
        return convert_to(run, name, folder)
    return start_from(RUNS[task], run, str(world.corpus), folder)


def start_from(experiment: str, source: Path, corpus: str, folder: Path) -> Any:
    """Train from the weights of a run or a file."""
    demo = "demo_mixtures" if experiment.startswith("separation") else "demo"
    own = [f"datasets={demo}", f"datasets.train.folder={corpus}", *OUTPUT]
    if experiment == "asr_nest":
        own += [f"init.encoder.source={source}", "dataloader.max_items=2"]
    else:
        own += ["init=model", f"init.model.source={source}", *EXPERIMENTS[experiment]]
    return train_in(experiment, own, folder)


# Other projects' files --------------------------------------------------------------------


def nemo_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """.nemo files and ClearerVoice's .pt files with changed bytes, options or weights."""
    rng = random.Random(seed)
    ways = whole_files()
    for number in range(count):
        own = rng.randrange(2**32)
        nemo = rng.random() < 0.8
        source = world.nemo() if nemo else world.separator()
        bad: bool | None = None
        if number % 5 == 0:
            how = rng.choice(list(ways))
            change, bad = ways[how], None if how == "twice" else True
        elif nemo and number % 5 < 4:
            how, change = f"content {own}", partial(change_nemo, own)
        elif not nemo and number % 5 < 3:
            how, change = f"weights {own}", partial(change_pt, own)
        else:
            how, change = f"bytes {own}", partial(change_file, own)
        program = rng.choice(["init", "init", "extract"]) if nemo else "init"
        command = partial(use_file, world, source.name, program)
        prepare = partial(bad_file, source, change)
        told = f"{program} {source.suffix}: {how}"
        yield Case("nemo", told, command, prepare, bad, "input" if bad else "")


def recogniser_cases(world: World, count: int, seed: int) -> Iterator[Case]:
    """.nemo files of NeMo's recognisers with changed bytes, options, weights or tokenizers."""
    rng = random.Random(seed)
    ways = whole_files()
    for number in range(count):
        own = rng.randrange(2**32)
        name = rng.choice(RECOGNISERS)
        bad: bool | None = None
        if number % 5 == 0:
            how = rng.choice(list(ways))
            change, bad = ways[how], None if how == "twice" else True
        elif number % 5 < 4:
            how, change = f"content {own}", partial(change_nemo, own)
        else:
            how, change = f"bytes {own}", partial(change_file, own)
        program = rng.choice(["load", "load", "finetune"])
        command = partial(use_recogniser, world, f"asr_{name}.nemo", program)
        prepare = partial(bad_file, FIXTURES / f"asr_{name}.nemo", change)
        yield Case("recognisers", f"{program} {name}: {how}", command, prepare, bad)


def use_recogniser(world: World, name: str, program: str, folder: Path) -> Any:
    """Transcribe with the file in `<folder>/input`, or fine-tune it."""
    path = folder / "input" / name
    if program == "load":
        load_run(path)(folder / "input" / "audio" / "good.wav")
        return None
    own = ["datasets=demo", f"datasets.train.folder={world.corpus}", *OUTPUT]
    own += [f"init.model.source={path}", "dataloader.max_items=2"]
    return train_in("asr_finetune", own, folder)


def change_nemo(own: int, path: Path) -> None:
    """Change an option of the config, or the weights, of a .nemo file."""
    rng = random.Random(own)
    with tarfile.open(path) as archive:
        files = [member for member in archive if member.isfile()]
        members = {m.name: archive.extractfile(m).read() for m in files}  # type: ignore[union-attr]
    name = next(name for name in members if name.endswith("yaml"))
    if rng.random() < 0.7:
        config = yaml.safe_load(members[name])
        (*parents, last), _ = rng.choice(list(entries(config)))
        node: Any = reduce(getitem, parents, config)
        if rng.random() < 0.3 and not isinstance(node, list):
            del node[last]
        else:
            node[last] = rng.choice(list(VALUES.values()))
        members[name] = yaml.safe_dump(config, sort_keys=False).encode()
    elif (tokenizers := [n for n in members if n.endswith("tokenizer.model")]) and own % 2:
        members[tokenizers[0]] = mutated_bytes(members[tokenizers[0]], rng, rng.choice([1, 50]))
    else:
        name = next(name for name in members if name.endswith("ckpt"))
        weights = torch.load(io.BytesIO(members[name]), weights_only=True)
        buffer = io.BytesIO()
        torch.save(mutated_weights(weights, rng), buffer)
        members[name] = buffer.getvalue()
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def change_pt(own: int, path: Path) -> None:
    """Change the weights of a .pt file."""
    weights = torch.load(path, weights_only=True)
    inner = next((k for k, v in weights.items() if isinstance(v, dict)), None)
    rng = random.Random(own)
    if inner is None:
        weights = mutated_weights(weights, rng)
    else:
        weights[inner] = mutated_weights(weights[inner], rng)
    torch.save(weights, path)


def mutated_weights(weights: dict, rng: random.Random) -> Any:
    """A state dict with one change."""
    name = rng.choice(list(weights))
    weight = weights.pop(name)
    how = rng.choice(
        ["missing", "renamed", "shape", "type", "nan", "other", "empty", "list", "extra"]
    )
    if how == "renamed":
        weights[name + "x"] = weight
    elif how == "shape":
        weights[name] = torch.zeros(*weight.shape, 2)
    elif how == "type":
        weights[name] = weight.to(torch.int8)
    elif how == "nan":
        weights[name] = (
            torch.full_like(weight, float("nan")) if weight.is_floating_point() else weight
        )
    elif how == "other":
        weights[name] = rng.choice(["x", 1, None, [1], {"a": 1}])
    elif how == "extra":
        weights[name], weights["extra"] = weight, torch.zeros(2)
    elif how in ("empty", "list"):
        return {} if how == "empty" else list(weights.values())
    return weights


def bad_file(source: Path, change: Callable[[Path], Any], folder: Path) -> None:
    """Make a changed copy of a file, beside a recording."""
    sine(folder / "input" / "audio" / "good.wav", 8000)
    change(Path(shutil.copy(source, folder / "input")))


def use_file(world: World, name: str, program: str, folder: Path) -> Any:
    """Use the file in `<folder>/input`."""
    place = folder / "input"
    path = place / name
    if program == "extract":
        out = folder / "out"
        extract(argparse.Namespace(run=path, audio=place / "audio", out=out, layer=None))
        return None
    experiment = "asr_nest" if path.suffix == ".nemo" else "separation_mossformer2"
    return start_from(experiment, path, str(world.corpus), folder)


KINDS: dict[str, Callable[[World, int, int], Iterator[Case]]] = {
    "overrides": override_cases,
    "inference": inference_cases,
    "resume": resume_cases,
    "manifests": manifest_cases,
    "audio": audio_cases,
    "runs": run_cases,
    "nemo": nemo_cases,
    "recognisers": recogniser_cases,
}
