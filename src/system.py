"""The only place that runs a batch through transforms, model, loss and task."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src.datasets.loading.collate import collate
from src.stream import Stream, StreamingRecogniser, build_recogniser, choices
from src.tasks.base import Task
from src.transforms.chain import STAGES, Chain
from src.utils.audio import Audio, Recording, given_audio
from src.utils.batch import Batch, check_keys, report_skipped, required_keys, select, to_device
from src.utils.phases import phase
from src.utils.self_test import comparable, compare, test_signal
from src.utils.windows import Windows, frame_counter, frame_stride, outputs_of, recordings_of

Autocast = Callable[[], AbstractContextManager]
Transform = Callable[[Batch], Batch]


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
        self.autocast: Autocast = nullcontext
        self.streaming: dict[Any, StreamingRecogniser] = {}  # by context and decoder

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
        with phase("transforms"), self.full_precision():
            batch = self.train_transforms(**to_device(batch, self.device))
        with phase("forward"):
            batch = batch | MixedPrecisionModel(self.model, self.autocast)(**batch)
        check_keys("loss", self.loss, self.loss.forward, batch)
        with phase("loss"), self.full_precision():
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
            loss and the task's postprocessing add; an empty batch is returned as it is. The loss
            is that of `loss_id`, all but recordings in windows: CTC needs 37 GB for an hour.

        Raises:
            ValueError: the postprocessing would replace a key, which may be one that is scored.
        """
        report_skipped(batch)
        if not batch["id"]:
            return batch
        batch = self.decode(batch, self.autocast)
        short = batch if "windows" not in batch else select(batch, batch["windows"] == 1)
        if loss is not None and short["id"]:
            check_keys("loss", loss, loss.forward, short)
            batch |= loss(**short) | {"loss_id": short["id"]}
        check_keys("task", self.task, self.task.postprocess, batch)
        added = self.task.postprocess(**batch)
        if replaced := batch.keys() & added.keys():
            raise ValueError(f"{type(self.task).__name__}: postprocess replaces {min(replaced)}.")
        return batch | added

    @torch.no_grad()
    def decode(self, batch: Batch, autocast: Autocast) -> Batch:
        """The batch after the inference transforms, with what the task decodes from the model.

        Args:
            batch: from `collate`; not modified.
            autocast: makes the context of a forward pass.
        """
        batch = to_device(batch, self.device)
        times = {} if self.stride is None else {"frame_seconds": self.stride / self.sample_rate}
        transforming = MixedPrecisionModel(self.model, autocast, self.transform)
        if "recording" in batch:  # paths, of which the task reads a window at a time
            return batch | self.task.decode(transforming, batch)
        if (windows := self.windows_for(batch)) is not None:
            windowed = WindowedModel(transforming, windows, self.task.joined)
            return batch | self.task.decode(windowed, batch | times)
        changed, model = self.transform(batch), MixedPrecisionModel(self.model, autocast)
        return changed | self.task.decode(model, changed | times)

    def transform(self, batch: Batch) -> Batch:
        """The batch on the device of the model, after the inference transforms.

        Args:
            batch: from `collate` or `batch_of`; not modified.
        """
        batch = to_device(batch, self.device)
        # A random transform needs a seed; from one of the batch itself NEST would draw a mask.
        seed = torch.zeros(len(batch["id"]), dtype=torch.int64, device=self.device)
        changed = self.inference_transforms(**{"seed": seed, **batch})
        if "seed" not in batch:
            del changed["seed"]
        return changed

    def windows_for(self, batch: Batch) -> Windows | None:
        """The task's windows, if a recording is longer than one.

        None for a model without a constant stride, or whose input the dataset has computed.
        """
        computed = set(required_keys(self.model.forward)) & batch.keys()
        if self.stride is None or computed - {"id", "audio", "audio_length"}:
            return None
        windows = self.task.windows(self.sample_rate, self.stride)
        return windows if windows and max(map(len, batch["audio"])) > windows.size else None

    @cached_property
    def stride(self) -> int | None:
        """Samples between two output frames; None if it isn't constant or isn't known."""
        count = self.frame_counter()
        return None if count is None else frame_stride(count, self.sample_rate)

    def predict(self, audio: Audio | list[Audio], sample_rate: int | None = None) -> Any:
        """The task's output for a recording, or a list of outputs for a list of recordings.

        Args:
            audio: a path; samples [T] or [channels, T], with `sample_rate`; a pair (samples,
                sample_rate); or a list of these.
            sample_rate: of samples given without it, in Hz.

        Returns:
            For recognition the transcript; for pretraining the encoded frames [D, T']; for
            separation the sources [S, T]; for classification the label.

        Raises:
            ValueError: samples without a sample rate, or a file that can't be read.
            FileNotFoundError: there is no such file.
        """
        if isinstance(audio, list):
            return [self.predict(one, sample_rate) for one in audio]
        longest = None if self.stride is None else self.task.window_seconds
        batch = self.evaluation_step(self.batch_of(audio, sample_rate, longest))
        value, length = batch[self.task.output][0], batch.get(f"{self.task.output}_length")
        return value if length is None else value[..., : int(length[0])]

    def batch_of(
        self, audio: Audio, sample_rate: int | None = None, longest: float | None = None
    ) -> Batch:
        """A batch of one recording, for `evaluation_step`.

        Args:
            audio: a path; samples [T] or [channels, T], with `sample_rate`; or a pair (samples,
                sample_rate).
            sample_rate: of samples given without it, in Hz.
            longest: seconds from which on a file is read piece by piece; None: never.

        Raises:
            ValueError: samples without a sample rate, or a file that can't be read.
            FileNotFoundError: there is no such file.
        """
        samples = given_audio(audio, sample_rate, self.sample_rate, longest)
        return collate([{"id": "audio", "path": "", "audio": samples}])

    def stream(
        self,
        context: Sequence[int] | None = None,
        decoder: str | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> Stream:
        """A new stream of a recogniser, to be given samples as they come.

        Args:
            context: left and right context of attention in frames, one that the model was trained
                with; None: that of evaluation.
            decoder: name of one of the task's decoders; None: the first.
            state: of a stream that goes on, from `Stream.state()`; None: a new one.

        Raises:
            ValueError: a part of the system needs the whole utterance, there is no such context or
                decoder, the state is of another stream, or the system is in training mode.
        """
        if self.training:
            raise ValueError("stream: the system is in training mode; call eval() first.")
        chosen = choices(self.model, self.task, context, decoder)
        key = (*chosen, self.device)
        task: Any = self.task
        known = self.streaming.get(key)
        if known is None or known.decoder is not task.decoders[chosen[1]]:
            self.streaming[key] = build_recogniser(
                self.model, self.inference_transforms, self.task, self.sample_rate, *chosen
            )
        return Stream(self.streaming[key], state)

    @torch.no_grad()
    def transform_stages(self, batch: Batch) -> dict[str, list[tuple[str, Tensor]]]:
        """Audio and spectrograms between the training transforms of a batch of one item.

        Returns:
            `audio` (from the batch's `audio_stages` on, if it has any) and `spectrogram`, each a
            list of (name of the transform, [T] or [F, T]).
        """
        before = to_device(batch, self.device)
        given = batch[STAGES][0] if STAGES in batch else [("input", before["audio"][0])]
        stages = {"audio": [(name, one.cpu()) for name, one in given], "spectrogram": []}
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
            "window_seconds": None if train or self.stride is None else self.task.window_seconds,
        }

    def frame_counter(self) -> Callable[[Any], Any] | None:
        """A function from samples to output frames; None if the model has no `output_length`."""
        return frame_counter([*self.inference_transforms.values(), self.model])

    def self_test(self) -> dict[str, Tensor]:
        """One second of synthetic audio, and all floating-point outputs for it.

        It is stored in checkpoints, to verify on loading that code, front end and weights match.

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
        batch = self.decode(given, nullcontext)
        self.train(was_training)
        new = {key: value for key, value in batch.items() if key not in given}
        return {key: value.float().cpu() for key, value in new.items() if comparable(value)}


class MixedPrecisionModel:
    """A model whose forward pass runs under autocast and returns float32.

    Its attributes are those of the model.

    Args:
        model: called with the keys of a batch.
        autocast: makes the context of a forward pass.
        transform: makes a batch what the model is called with; None: it is that already.
    """

    def __init__(self, model: nn.Module, autocast: Autocast, transform: Transform | None = None):
        self.model, self.autocast, self.transform = model, autocast, transform

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **batch: Any) -> Batch:
        """The outputs of the model, as float32, and what `transform` made, if there is one."""
        changed = {} if self.transform is None else self.transform(batch)
        batch = batch | changed
        check_keys("model", self.model, self.model.forward, batch)
        with self.autocast():
            outputs = self.model(**batch)
        half = (torch.float16, torch.bfloat16)
        return changed | {
            key: value.float() if isinstance(value, Tensor) and value.dtype in half else value
            for key, value in outputs.items()
        }


class WindowedModel:
    """A model that is run on overlapping windows of recordings of any length.

    Its other attributes are those of the model.

    Args:
        model: transforms what it is called with.
        windows: how recordings are cut and joined.
        key: of the model's output that is joined, [B, T', V].
    """

    def __init__(self, model: MixedPrecisionModel, windows: Windows, key: str):
        self.model, self.windows, self.key = model, windows, key

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, audio: Any, id: list[str], audio_length: Any = None, **_: Any) -> Batch:
        """The joined output [B, T', V] with its lengths, and the number of `windows` [B].

        The audio is [B, T] with its lengths, or a list of `Recording`.
        """
        rows = recordings_of(audio, audio_length)
        parts = list(map(self.parts, rows, id))
        return self.windows.join_all(self.key, parts, rows)

    def parts(self, audio: Tensor | Recording, name: str) -> list[Tensor]:
        """The output [T', V] for each window of a recording [T]."""
        parts: list[Tensor] = []
        for group in self.windows.groups(audio):
            items = [{"id": name, "audio": span} for span in group]
            parts += outputs_of(self.model(**collate(items)), self.key)
        return parts
