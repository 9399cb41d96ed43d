"""The only place that runs a batch through transforms, model, loss and task."""

import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.config import build, require
from src.datasets.collate import collate
from src.tasks.base import Task
from src.transforms.chain import Chain
from src.utils.audio import read_audio, to_mono_at
from src.utils.nodes import check_node, plain
from src.utils.self_test import comparable, compare, test_signal

logger = logging.getLogger(__name__)

Batch = dict[str, Any]
Audio = str | Path | Tensor | np.ndarray | tuple


class System(nn.Module):
    """A model with its transforms, loss, task and text encoder.

    Used by training, evaluation, loaded runs and the self-test of checkpoints. It has no optimizer
    and no hooks, and is not meant to be subclassed: its parts are chosen by the config.

    Args:
        model: called with the keys of a batch, returns a dict of outputs; checkpoints contain only
            its weights.
        task: decodes and postprocesses.
        sample_rate: of all audio, in Hz.
        train_transforms, inference_transforms: applied to batches, on the device.
        loss: called with the keys of a batch, returns named parts and their weighted sum `loss`;
            None if it isn't needed.
        text_encoder: None for a task without text.
        config: the resolved config that the system was built from, for information.

    Attributes:
        autocast: makes the context in which the forward pass of the model runs; set for training
            and evaluation in mixed precision. Everything else runs in float32.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        *,
        sample_rate: int,
        train_transforms: Chain | None = None,
        inference_transforms: Chain | None = None,
        loss: nn.Module | None = None,
        text_encoder: Any = None,
        config: DictConfig | None = None,
    ):
        super().__init__()
        self.model, self.task, self.loss = model, task, loss
        self.train_transforms = train_transforms if train_transforms is not None else Chain({})
        self.inference_transforms = (
            inference_transforms if inference_transforms is not None else Chain({})
        )
        self.text_encoder, self.sample_rate, self.config = text_encoder, sample_rate, config
        self.autocast: Callable[[], AbstractContextManager] = nullcontext

    @property
    def device(self) -> torch.device:
        """Device of the parameters of the model."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def forward(self, given: Any, sample_rate: int | None = None, loss: str = "loss") -> Any:
        """`training_step` of a batch, or `predict` of audio.

        Wrappers for several processes (DistributedDataParallel) only see calls of `forward`.
        """
        if isinstance(given, dict):
            return self.training_step(given, loss)
        return self.predict(given, sample_rate)

    def training_step(self, batch: Batch, loss: str = "loss") -> dict[str, Tensor]:
        """The loss of a training batch.

        Args:
            batch: from `collate`; not modified.
            loss: the part of the loss that will be minimised.

        Returns:
            The named parts of the loss and their weighted sum `loss`, of which only the part to be
            minimised has gradients. For a batch of which every file was skipped only that part: 0.

        Raises:
            ValueError: there is no loss, or it has no such part.
        """
        report_skipped(batch)
        if not batch["id"]:
            trained = [p.sum() for p in self.model.parameters() if p.requires_grad]
            return {loss: 0.0 * torch.stack(trained).sum()}
        if self.loss is None:
            raise ValueError("config, loss: null; training needs a loss.")
        batch = to_device(batch, self.device)
        with self.full_precision():
            batch = self.train_transforms(**batch)
        batch = batch | self.mixed_precision_model()(**batch)
        check_keys("loss", self.loss, self.loss.forward, batch)
        with self.full_precision():
            parts = self.loss(**batch)
        if loss not in parts:
            raise ValueError(f"loss: no part '{loss}', only {', '.join(parts)}.")
        return {key: value if key == loss else value.detach() for key, value in parts.items()}

    @torch.no_grad()
    def evaluation_step(self, batch: Batch, loss: nn.Module | None = None) -> Batch:
        """Transform, decode, score and postprocess a batch of an evaluation.

        Args:
            batch: from `collate`; not modified.
            loss: computed where there are targets; None: not computed.

        Returns:
            The batch after the inference transforms, with the keys that the task's decoding, the
            loss and the task's postprocessing add; an empty batch is returned as it is.

        Raises:
            ValueError: the postprocessing would replace a key, which may be one that is scored.
        """
        report_skipped(batch)
        if not batch["id"]:
            return batch
        batch = self.decode(batch, self.mixed_precision_model())
        if loss is not None:
            check_keys("loss", loss, loss.forward, batch)
            batch |= loss(**batch)
        check_keys("task", self.task, self.task.postprocess, batch)
        added = self.task.postprocess(**batch)
        if replaced := batch.keys() & added.keys():
            raise ValueError(f"{type(self.task).__name__}: postprocess replaces {min(replaced)}.")
        return batch | added

    @torch.no_grad()
    def decode(self, batch: Batch, model: Any) -> Batch:
        """The batch after the inference transforms, with what the task decodes from the model.

        Args:
            batch: from `collate`; not modified.
            model: in the precision that is wanted.
        """
        batch = to_device(batch, self.device)
        # A random transform needs a seed; from one of the batch itself NEST would draw a mask.
        seed = torch.zeros(len(batch["id"]), dtype=torch.int64, device=self.device)
        changed = self.inference_transforms(**{"seed": seed, **batch})
        if "seed" not in batch:
            del changed["seed"]
        return changed | self.task.decode(model, changed)

    def mixed_precision_model(self) -> "MixedPrecisionModel":
        """The model with a forward pass in the precision of training."""
        return MixedPrecisionModel(self.model, self.autocast)

    def predict(self, audio: Audio | list[Audio], sample_rate: int | None = None) -> Any:
        """The task's output for a recording, or a list of outputs for a list of recordings.

        Args:
            audio: a path; samples [T] or [channels, T], with `sample_rate`; a pair (samples,
                sample_rate); or a list of these.
            sample_rate: of samples given without it, in Hz.

        Returns:
            For recognition the transcript; for pretraining the encoded frames [D, T']; for
            separation the sources [S, T].

        Raises:
            ValueError: samples without a sample rate, or a file that can't be read.
            FileNotFoundError: there is no such file.
        """
        if isinstance(audio, list):
            return [self.predict(one, sample_rate) for one in audio]
        batch = collate([{"id": "audio", "path": "", "audio": self.read(audio, sample_rate)}])
        batch = self.evaluation_step(batch)
        value, length = batch[self.task.output][0], batch.get(f"{self.task.output}_length")
        return value if length is None else value[..., : int(length[0])]

    def read(self, audio: Audio, sample_rate: int | None) -> Tensor:
        """Any form of audio as mono samples [T] at the system's sample rate."""
        if isinstance(audio, str | Path):
            return read_audio(Path(audio), self.sample_rate)
        if isinstance(audio, tuple):
            audio, sample_rate = audio
        if sample_rate is None:
            raise ValueError("Samples need a sample rate: call with (samples, sample_rate).")
        samples = torch.as_tensor(audio, dtype=torch.float32)
        return to_mono_at(samples, sample_rate, self.sample_rate)

    @torch.no_grad()
    def transform_stages(self, batch: Batch) -> dict[str, list[tuple[str, Tensor]]]:
        """Audio and spectrograms between the training transforms, to be shown to a person.

        Args:
            batch: of one item.

        Returns:
            `audio` and `spectrogram`, each a list of (name of the transform, [T] or [F, T]).
        """
        before = to_device(batch, self.device)
        stages = {"audio": [("input", before["audio"][0].cpu())], "spectrogram": []}
        for name, after in self.train_transforms.stages(before):
            for key, seen in stages.items():
                if key in after and after[key] is not before.get(key):
                    seen.append((name, after[key][0].detach().float().cpu()))
            before = after
        return stages

    def full_precision(self) -> AbstractContextManager:
        """Context without autocast, for transforms and losses, which need float32."""
        return torch.autocast(self.device.type, enabled=False)

    def dataset_arguments(self, train: bool) -> dict[str, Any]:
        """What a dataset may need of the system, by the names of the arguments.

        Args:
            train: for training, of which an utterance may be left out for its number of frames.
        """
        return {
            "sample_rate": self.sample_rate,
            "text_encoder": self.text_encoder,
            "count_frames": self.frame_counter() if train else None,
        }

    def frame_counter(self) -> Callable[[Any], Any] | None:
        """A function from the number of samples to that of the output frames of the model.

        Both are ints or integer arrays. None if the model has no `output_length`.
        """
        stages = [*self.inference_transforms.values(), self.model]
        stages = [stage for stage in stages if hasattr(stage, "output_length")]
        if self.model not in stages:
            return None

        def count(samples: Any) -> Any:
            for stage in stages:
                samples = stage.output_length(samples)  # type: ignore[operator]
            return samples

        return count

    def self_test(self) -> dict[str, Tensor]:
        """One second of synthetic audio, and all floating-point outputs for it.

        It is stored in checkpoints, to verify when one is loaded that code, front end and weights
        still match.

        Returns:
            `audio` [T] and the outputs of `decode`, all float32.
        """
        audio = test_signal(self.sample_rate)
        return {"audio": audio, **self.outputs_for(audio)}

    def check_self_test(self, stored: Mapping[str, Tensor], source: Path) -> None:
        """Check that this system still gives the outputs that were stored with its weights.

        Raises:
            ValueError: it doesn't; names the source, the output and the difference.
        """
        expected = dict(stored)
        compare(self.outputs_for(expected.pop("audio")), expected, source)

    def outputs_for(self, audio: Tensor) -> dict[str, Tensor]:
        """The floating-point outputs of `decode` for audio [T], in evaluation mode."""
        was_training = self.training
        self.eval()
        given = collate([{"id": "self_test", "path": "self_test", "seed": 0, "audio": audio}])
        batch = self.decode(given, MixedPrecisionModel(self.model, nullcontext))
        self.train(was_training)
        new = {key: value for key, value in batch.items() if key not in given}
        return {key: value.float().cpu() for key, value in new.items() if comparable(value)}


class MixedPrecisionModel:
    """A model whose forward pass runs under autocast and returns float32.

    Its attributes are those of the model.

    Args:
        model: called with the keys of a batch.
        autocast: makes the context of a forward pass.
    """

    def __init__(self, model: nn.Module, autocast: Callable[[], AbstractContextManager]):
        self.model, self.autocast = model, autocast

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **batch: Any) -> Batch:
        """The outputs of the model, with half-precision tensors as float32."""
        check_keys("model", self.model, self.model.forward, batch)
        with self.autocast():
            outputs = self.model(**batch)
        half = (torch.float16, torch.bfloat16)
        return {
            key: value.float() if isinstance(value, Tensor) and value.dtype in half else value
            for key, value in outputs.items()
        }


def build_system(config: DictConfig, text_encoder: Any = None) -> System:
    """The system that a config describes, on the CPU.

    Args:
        config: of an experiment.
        text_encoder: of a run that was saved; None builds that of the config, if it has one.

    Raises:
        ValueError: a part can't be built; names the config key.
    """
    require(config, "model", "task", "transforms")
    if config.get("features") is not None:
        check_node("features", plain(config.features))
    if text_encoder is None:
        text_encoder = build(config, "text_encoder")
    with_text = {} if text_encoder is None else {"text_encoder": text_encoder}
    return System(
        build_model(config, text_encoder),
        build(config, "task", **with_text),
        sample_rate=config.sample_rate,
        train_transforms=build_chain(config, "batch", "train"),
        inference_transforms=build_chain(config, "batch", "inference"),
        loss=build(config, "loss"),
        text_encoder=text_encoder,
        config=config,
    )


def build_model(config: DictConfig, text_encoder: Any) -> nn.Module:
    """The model; with a text encoder, its argument `vocab_size` is the size of the vocabulary."""
    sizes = {} if text_encoder is None else {"vocab_size": len(text_encoder)}
    return build(config, "model", **sizes)


def build_chain(config: DictConfig, kind: str, use: str) -> Chain:
    """The transforms of `config.transforms.<kind>.<use>`, in the order of the config.

    Args:
        config: of an experiment.
        kind: `batch` or `instance`.
        use: `train` or `inference`.
    """
    require(config, f"transforms.{kind}")
    return Chain(build(config.transforms[kind], use) or {})


def check_keys(key: str, part: Any, method: Callable, batch: Batch) -> None:
    """Check that a batch has what a part of the system can't do without.

    Args:
        key: of the part in the config.
        part: of the system.
        method: of the part, names the keys that it needs.
        batch: what the method will be called with.

    Raises:
        ValueError: a key is missing.
    """
    needed = inspect.signature(method).parameters.values()
    named = [p.name for p in needed if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    missing = [name for name in named if name not in batch]
    if missing:
        raise ValueError(
            f"config, {key}: {type(part).__name__} needs {', '.join(missing)}; the batch has "
            f"{', '.join(batch)}, after the transforms."
        )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def report_skipped(batch: Batch) -> None:
    """Log the files that the dataset skipped."""
    for error in batch["errors"]:
        logger.warning("skipped: %s", error)
