"""A run: its folder, and what was trained in it as one callable.

from src.run import load_run
transcribe = load_run("runs/asr_deepspeech2/2026-01-01_12-00-00")
transcribe("a.wav")
"""

import json
import logging
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from src.building import build_system
from src.config import inference_config, resume_config
from src.interop.hub import locate_source, outputs_of
from src.interop.nemo_run import NemoRun
from src.interop.published_run import PublishedRun, check_has_state, is_published
from src.loaded_config import YAML_END, dotted, entries, read_config
from src.system import System
from src.text_encoder.base import TextEncoder, load_text_encoder
from src.utils.checkpoint import (
    best_checkpoint,
    find_checkpoint,
    load_weights,
    read_self_test,
    read_state,
    read_weights,
    remove_leftovers,
    save_checkpoint,
    verify_checkpoint,
)
from src.utils.entry import sentence
from src.utils.files import append_jsonl, cut_jsonl, write_beside
from src.utils.locks import FileLock
from src.utils.options import refuse

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
PATCH_LIMIT = 5_000_000  # bytes
TEXT_ENCODER_FILES = ("text_encoder.json", "subwords.model")
CHECKPOINTS = ("best", "last")


class Run:
    """The folder of a run: config, code version, log, metrics and checkpoints.

    The empty file `.run` marks a folder that was empty before a run was started in it.

    Args:
        path: of the folder.
        trusted: packages besides this one and torch whose classes its config may name.
    """

    def __init__(self, path: Path, trusted: Sequence[str] = ()):
        self.path, self.trusted = path, trusted
        self.inference_path, self.report_path = path / "inference", path / "report"
        self.marker = path / ".run"
        self.lock = FileLock(path / ".lock")  # of the process that trains
        self.config_path = path / "config.yaml"
        self.metrics_path, self.ids_path = path / "metrics.jsonl", path / "ids.jsonl"
        self.text_encoder_path = path / "text_encoder"

    @classmethod
    def create(cls, root: Path, name: str) -> "Run":
        """A new folder `root/name/<time>`, numbered if there is one of the same second."""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ["", *(f"_{i}" for i in range(2, 1000))]:
            run = cls(root / name / (stamp + suffix))
            try:
                run.path.mkdir(parents=True)
            except FileExistsError:
                continue
            run.marker.touch()
            run.lock.acquire()
            return run
        raise ValueError(f"{root / name}: no free name for a run.")

    @classmethod
    def create_at(cls, path: Path) -> "Run":
        """A new run in a folder of the user's choice: an empty one, or that of an earlier start.

        Raises:
            OSError: it holds a checkpoint already or other files, or another process trains in it.
        """
        run = cls(path)
        known = run.marker.exists()
        if known:
            run.lock.acquire()
        if any(run.has(name) for name in CHECKPOINTS):
            how = f"go on with it by trainer.resume_from={path}, or name another run_dir."
            raise FileExistsError(f"{path}: holds a run already; {how}")
        if known:
            run.clear()
        elif path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path}: has other files in it; name another run_dir.")
        path.mkdir(parents=True, exist_ok=True)
        run.marker.touch()  # before all others, so that a start that was killed is known
        run.lock.acquire()
        return run

    def clear(self) -> None:
        """Remove what a start without checkpoint wrote, and no other files."""
        encoder = self.text_encoder_path
        for folder in (self.path, encoder):
            remove_leftovers(folder)
        events = self.path.glob("tensorboard/events.out.tfevents.*")
        encoders = (encoder / name for name in TEXT_ENCODER_FILES)
        for stale in (self.metrics_path, self.ids_path, *events, *encoders, self.config_path):
            stale.unlink(missing_ok=True)
        if encoder.is_dir() and not any(encoder.iterdir()):
            encoder.rmdir()

    @classmethod
    def open(cls, path: Path, trusted: Sequence[str] = ()) -> "Run":
        """The folder of a run that exists.

        Raises:
            FileNotFoundError: it holds no run.
        """
        if not (path / "config.yaml").exists():
            raise FileNotFoundError(f"{path}: no run here (config.yaml is missing).")
        return cls(path, trusted)

    @classmethod
    def newest(cls, root: Path, trusted: Sequence[str] = ()) -> "Run":
        """The run below a folder that was started last, among those with a checkpoint.

        Raises:
            FileNotFoundError: there is none.
        """
        runs = [cls(path.parent, trusted) for path in root.glob("**/config.yaml")]
        runs = [run for run in runs if any(run.has(name) for name in CHECKPOINTS)]
        if not runs:
            raise FileNotFoundError(f"{root}: no run here; train one, or name it by run=FOLDER.")
        return max(runs, key=lambda run: run.config_path.stat().st_mtime)

    def has(self, checkpoint: str) -> bool:
        """Whether there is a checkpoint `best` or `last`."""
        try:
            find_checkpoint(self.path / checkpoint)
        except FileNotFoundError:
            return False
        return True

    def checkpoint(self, name: str) -> Path:
        """The folder of a checkpoint; without a monitored metric the last one is the best.

        Args:
            name: `best` or `last`.

        Raises:
            FileNotFoundError: there is none, or files of it are missing.
            ValueError: another name.
        """
        if name not in CHECKPOINTS:
            raise ValueError(f"checkpoint: '{name}'; {' or '.join(CHECKPOINTS)}.")
        return best_checkpoint(self.path) if name == "best" else find_checkpoint(self.path / name)

    def save(
        self, name: str, weights: dict[str, Tensor], state: dict, self_test: dict[str, Tensor]
    ) -> None:
        """Replace a checkpoint, of which the earlier one stays whole until this one is."""
        save_checkpoint(self.path / name, weights, state, self_test)

    def read_weights(self, checkpoint: str) -> dict[str, Tensor]:
        """The weights of a checkpoint."""
        return read_weights(self.checkpoint(checkpoint))

    def read_self_test(self, checkpoint: str) -> dict[str, Tensor]:
        """The audio of a checkpoint's self-test, and the outputs for it."""
        return read_self_test(self.checkpoint(checkpoint))

    def load_weights(self, model: torch.nn.Module, checkpoint: str) -> None:
        """Put the weights of a checkpoint into a model, all of them or none."""
        load_weights(model, self.read_weights(checkpoint), self.checkpoint(checkpoint))

    def read_state(self) -> dict[str, Any]:
        """The training state of the last checkpoint, all of whose files are verified."""
        folder = find_checkpoint(self.path / "last")
        verify_checkpoint(folder)
        return read_state(folder)

    def read_config(self) -> DictConfig:
        """The resolved config that the run was started with.

        Raises:
            ValueError: it is damaged, or names what a loaded run may not use.
        """
        return read_config(self.config_path, self.trusted)

    def read_text_encoder(self) -> TextEncoder | None:
        """The text encoder that the run was started with; None for a task without text.

        Raises:
            ValueError: it is damaged.
        """
        if not self.text_encoder_path.exists():
            return None
        return load_text_encoder(self.text_encoder_path)

    def save_config(self, config: DictConfig, text_encoder: Any) -> None:
        """Write what rebuilds the system, and the commit and patch of the code.

        Schedulers go on referring to the length of the run, which may be made longer.

        Raises:
            ValueError: a value has a `$`, which no config of a loaded run may have.
        """
        values = OmegaConf.to_container(config, resolve=True)
        for place, value in entries(values):
            if isinstance(value, str) and "$" in value:  # such a run couldn't be loaded
                refuse(f"config, {dotted(place)}", value, "text without '$'")
        resolved = OmegaConf.create(values)
        for key in ("scheduler", *(f"optimizers.{name}.scheduler" for name in config.optimizers)):
            if OmegaConf.select(config, key):
                OmegaConf.update(resolved, key, OmegaConf.select(config, key))
        if text_encoder is not None:
            text_encoder.save(self.text_encoder_path)
        for name, text in (
            ("git_commit.txt", git("rev-parse", "HEAD")),
            ("git_patch.diff", git("diff", "HEAD")[:PATCH_LIMIT]),
            ("config.yaml", f"{OmegaConf.to_yaml(resolved)}{YAML_END}\n"),
        ):
            with write_beside(self.path / name) as path:
                path.write_text(text, encoding="utf-8")

    def save_data(self, amount: dict[str, float] | None) -> None:
        """Write how much training data there is to data.json, unless that is unknown."""
        if amount is not None:
            with write_beside(self.path / "data.json") as path:
                path.write_text(json.dumps(amount) + "\n", encoding="utf-8")

    def log_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to metrics.jsonl."""
        append_jsonl(self.metrics_path, row)

    def sizes(self) -> dict[str, int]:
        """`metrics_size` and `ids_size`, bytes of metrics.jsonl and ids.jsonl, for `clean`."""
        paths = {"metrics_size": self.metrics_path, "ids_size": self.ids_path}
        return {key: path.stat().st_size if path.exists() else 0 for key, path in paths.items()}

    def log_ids(self, row: dict[str, Any]) -> None:
        """Add one row to ids.jsonl."""
        append_jsonl(self.ids_path, row)

    def clean(self, metrics_size: int, ids_size: int = 0) -> None:
        """Remove what a run that was killed wrote after its last checkpoint.

        Args:
            metrics_size: of `sizes()` when that checkpoint was saved.
            ids_size: of the same.
        """
        remove_leftovers(self.path)
        cut_jsonl(self.metrics_path, metrics_size)
        cut_jsonl(self.ids_path, ids_size)


def git(*arguments: str) -> str:
    """What git prints about this repository, or nothing where there is no git or none."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout if done.returncode == 0 else ""


OpenedRun = Run | NemoRun | PublishedRun


def load_run(
    folder: str | Path,
    checkpoint: str = "best",
    device: str | torch.device | None = None,
    changes: DictConfig | None = None,
    trusted: Sequence[str] = (),
) -> System:
    """A finished run, or NVIDIA's recogniser of a .nemo file, to be called with audio.

    Args:
        folder: of the run, the .nemo file, or `user/name` or `user/name@revision` on the hub.
        checkpoint: `best` or `last`; a run without a best one has its last.
        device: None for that of the config: a GPU if there is one, unless it says cpu.
        changes: merged into the run's config, e.g. other decoders.
        trusted: packages besides this one and torch whose classes the run's config may name.
            Importing them runs their code.

    Returns:
        The system in evaluation mode, checked against the self-test of the checkpoint.

    Raises:
        FileNotFoundError: no run, no checkpoint in it, or none that the hub has or can give.
        ValueError: weights of another model, a damaged file, a config that names what isn't
            allowed, or a failed self-test.
    """
    run = open_source(Path(folder), trusted)
    return restore(run, inference_config(run.read_config(), changes), checkpoint, device)


def open_source(path: Path, trusted: Sequence[str] = ()) -> OpenedRun:
    """The folder of a run, a published one, which is downloaded from the hub, or a .nemo file.

    Raises:
        FileNotFoundError: there is none of them.
        ValueError: a published run is damaged.
    """
    folder = locate_source(path)
    if folder.suffix == ".nemo":
        return NemoRun(folder)
    if is_published(folder):
        return PublishedRun(folder, trusted, outputs_of(path, folder))
    return Run.open(folder, trusted)


def restore(
    run: OpenedRun,
    config: DictConfig,
    checkpoint: str,
    device: str | torch.device | None = None,
) -> System:
    """The system of a config with the weights of a run's checkpoint, in evaluation mode.

    Raises:
        ValueError: they don't fit, it needs more memory than there is, or gives other outputs; or
            there is no such device.
    """
    if device is None:
        device = "cpu" if config.device == "cpu" or not torch.cuda.is_available() else "cuda"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device: '{device}' can't be used ({sentence(error)}).") from None
    source = run.checkpoint(checkpoint)
    system = build_system(config, run.read_text_encoder())
    load_weights(system.model, run.read_weights(checkpoint), source)
    expected = run.read_self_test(checkpoint)
    try:
        system = system.to(torch.device(device)).eval()
        if expected is not None:
            system.check_self_test(expected, source)
    except (RuntimeError, MemoryError) as error:  # e.g. sizes that don't fit each other
        raise ValueError(f"{source}: the self-test can't be run: {sentence(error)}") from error
    return system


def own_config(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The config that counts: of a new run as composed, of a resumed run its own.

    Args:
        config: as composed.
        overrides: of the command line, whose single values are set in the config of a resumed run.

    Raises:
        FileNotFoundError: there is no run to be resumed.
        ValueError: it is a published one or of another experiment, its config is damaged, or an
            override that a resumed run can't take.
    """
    source = config.trainer.get("resume_from")
    if not source:
        return config
    check_has_state(Path(source))
    own = Run.open(Path(source), config.trust).read_config()
    resume_config(own, overrides, config.get("name"))
    own.trainer.resume_from = source
    own.trust = config.trust
    return own


def open_run(config: DictConfig, accelerator: Accelerator) -> Run:
    """A new run's folder, made by the main process, or that of the run to be resumed.

    Raises:
        OSError: the folder of a new run holds one already, or another process trains in it.
    """
    if config.trainer.resume_from:
        run = Run.open(Path(config.trainer.resume_from), config.trust)
        if accelerator.is_main_process:
            run.lock.acquire()
        return run
    own, made = config.run_dir, None
    if accelerator.is_main_process:
        made = Run.create_at(Path(own)) if own else Run.create(Path(config.runs), config.name)
    place = [made and str(made.path)]
    broadcast_object_list(place)
    return made or Run(Path(str(place[0])))
