"""A finished run as one callable, whatever its task.

from src.run import load_run
recognise = load_run("runs/asr_deepspeech2/2026-01-01_12-00-00")
recognise("a.wav")
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from src import build
from src.datasets.collate import collate
from src.tasks.base import Task
from src.text_encoder.base import load_text_encoder
from src.trainer.checkpoint import SELF_TEST, WEIGHTS, existing, load_weights, read_tensors
from src.trainer.evaluation import to_device
from src.trainer.run_folder import RunFolder
from src.trainer.self_test import check_self_test
from src.transforms.chain import Chain
from src.utils.audio import read_audio, to_mono_at

Audio = str | Path | Tensor | np.ndarray | tuple


class Run:
    """A trained model with everything around it, to be called with audio.

    Attributes:
        config: the run's own, resolved, with what was laid over it.
        text_encoder: None for a task without text.
        model: in evaluation mode.
        transforms: the batch transforms of inference.
        task: turns the model's outputs into what a user wants.
    """

    def __init__(
        self,
        config: DictConfig,
        text_encoder: Any,
        model: nn.Module,
        transforms: Chain,
        task: Task,
        device: torch.device,
    ):
        self.config, self.text_encoder, self.model = config, text_encoder, model
        self.transforms, self.task, self.device = transforms, task, device

    def __call__(self, audio: Audio | list[Audio], sample_rate: int | None = None) -> Any:
        """The task's output for a recording, or a list of outputs for a list of recordings.

        Args:
            audio: a path; samples [T] or [channels, T], with `sample_rate`; a pair (samples,
                rate); or a list of these.
            sample_rate: of samples given without their rate, in Hz.

        Returns:
            For recognition, the transcript; for pretraining, the encoded frames [D, T']; for
            separation, the speakers [S, T].

        Raises:
            ValueError: samples without a rate, or a file that can't be read.
            FileNotFoundError: there is no such file.
        """
        if isinstance(audio, list):
            return [self(one, sample_rate) for one in audio]
        batch = self.outputs(self.read(audio, sample_rate))
        value = batch[self.task.output]
        length = batch.get(f"{self.task.output}_length")
        return value[0] if length is None else value[0][..., : int(length[0])]

    def read(self, audio: Audio, sample_rate: int | None) -> Tensor:
        """Any form of audio as mono samples [T] at the run's rate."""
        if isinstance(audio, str | Path):
            return read_audio(Path(audio), self.config.sample_rate)
        if isinstance(audio, tuple):
            audio, sample_rate = audio
        if sample_rate is None:
            raise ValueError("Samples need their rate: call with (samples, sample_rate).")
        samples = torch.as_tensor(audio, dtype=torch.float32)
        return to_mono_at(samples, sample_rate, self.config.sample_rate)

    @torch.inference_mode()
    def outputs(self, audio: Tensor) -> dict[str, Any]:
        """The whole batch of one that comes out for audio [T] at the run's rate."""
        batch = collate([{"id": "audio", "path": "", "seed": 0, "audio": audio}])
        batch = self.transforms(**to_device(batch, self.device))
        del batch["seed"]  # from which a model in pretraining would draw what to hide
        batch |= self.task.run(self.model, **batch)
        return batch | self.task.postprocess(**batch)


def load_run(
    folder: str | Path,
    checkpoint: str = "best",
    device: str | torch.device | None = None,
    changes: DictConfig | None = None,
) -> Run:
    """Rebuild a finished run and see that it still gives what it gave when it was saved.

    Args:
        folder: of the run.
        checkpoint: `best`, or `last`; a run without a best one has its last.
        device: None for that of the config: a GPU if there is one, unless it says cpu.
        changes: laid over the run's config, e.g. other decoders.

    Raises:
        FileNotFoundError: no run, or no checkpoint in it.
        ValueError: weights of another model, a truncated file, or a failed self-test.
    """
    run = RunFolder.open(Path(folder))
    config = build.overlaid(run.read_config(), changes)
    if device is None:
        cpu = config.device == "cpu" or not torch.cuda.is_available()
        device = "cpu" if cpu else "cuda"
    device = torch.device(device)
    text_encoder = load_text_encoder(run.text_encoder) if run.text_encoder.exists() else None
    model = build.build_model(config, text_encoder)
    source = checkpoint_folder(run, checkpoint)
    load_weights(model, read_tensors(source / WEIGHTS), source)
    model = model.to(device).eval()
    transforms = build.build_transforms(config, device)["inference"]
    check_self_test(read_tensors(source / SELF_TEST), model, transforms, device, source)
    task = build.build_task(config, text_encoder)
    return Run(config, text_encoder, model, transforms, task, device)


def checkpoint_folder(run: RunFolder, name: str) -> Path:
    """The folder of a checkpoint; without a monitor the last is the best."""
    try:
        return existing(run.path / name)
    except FileNotFoundError:
        if name != "best":
            raise
        return existing(run.last)
