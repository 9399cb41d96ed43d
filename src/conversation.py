"""A separator and a recogniser as one system: who said what in a recording."""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from src.config import build, inference_config, target_class
from src.datasets.loading.collate import collate
from src.interop.initialization import RECOGNISER, SYSTEMS, is_joint, report_rates
from src.run import OpenedRun, open_source, restore
from src.system import System
from src.tasks.conversation import ConversationTask, Voices, by_speaker, segments_of
from src.tasks.recognition import RecognitionTask
from src.text_encoder.alignment import Word
from src.utils.annotations import TARGET
from src.utils.audio import Recording, knows_length, read_audio, write_audio
from src.utils.audio_files import audio_info
from src.utils.batch import Batch, report_skipped, select
from src.utils.modules import dotted_name
from src.utils.options import refuse
from src.utils.segments import Segment
from src.utils.streams import block_powers, crossfaded

BLOCK = 0.01  # seconds over which levels are measured
INFERENCE, OWN = "inference", "conversation"  # in the name of a run's output folder


class Conversation(nn.Module):
    """Separates a recording of any length and transcribes each voice; evaluated like a `System`.

    Both systems run in their own windows, so that memory doesn't grow with the separated audio,
    which is on disk. A recording is separated at its own sample rate, and each voice is resampled
    for the recogniser. Where a voice is alone, the recogniser hears the recording itself.

    Args:
        separator: estimates the voices.
        recogniser: whose output is a list of `Word`.
        task: makes segments of words.
    """

    loss = None

    def __init__(self, separator: System, recogniser: System, task: ConversationTask):
        super().__init__()
        self.separator, self.recogniser, self.task = separator, recogniser, task
        self.sample_rate = recogniser.sample_rate
        report_rates(separator.sample_rate, recogniser.sample_rate)

    @property
    def model(self) -> nn.Module:
        """Both models."""
        return nn.ModuleList([self.separator.model, self.recogniser.model])

    @property
    def autocast(self) -> Callable[[], AbstractContextManager]:
        """Makes the context in which the models run."""
        return self.separator.autocast

    @autocast.setter
    def autocast(self, context: Callable[[], AbstractContextManager]) -> None:
        self.separator.autocast = self.recogniser.autocast = context

    def dataset_arguments(self, train: bool) -> dict[str, Any]:
        """What a dataset may need of the system, by the names of the arguments.

        Args:
            train: nothing is trained.
        """
        return {"sample_rate": self.sample_rate}

    @torch.no_grad()
    def evaluation_step(self, batch: Batch, loss: nn.Module | None = None) -> Batch:
        """Separate and transcribe a batch of recordings, one by one.

        Args:
            batch: from `collate`: `recording`, paths of files, or the mixtures `audio` [B, T] with
                their lengths; where they are known `segments`, of which metrics are computed, and
                the sources [B, S, T] or `source_files`; not modified.
            loss: not used.

        Returns:
            The batch with `separated` (`SeparatedRecording`), `signal_products`, `voices` (stream
            -> its words), `separated_segments` and `rows`; with `segments` also
            `reference_segments`, normalised for the recogniser, `mixture_segments` and
            `sources_segments`, of which an entry is None where no sources are known.
        """
        report_skipped(batch)
        added: dict[str, list] = defaultdict(list)
        for item, name in enumerate(batch["id"]):
            chosen = torch.arange(len(batch["id"])) == item
            for key, value in self.transcribe(name, select(batch, chosen)).items():
                added[key].append(value)
        return batch | added

    def transcribe(self, name: str, batch: Batch) -> dict[str, Any]:
        """What `evaluation_step` adds for a recording.

        Args:
            name: of the recording.
            batch: with this recording only.
        """
        with tempfile.TemporaryDirectory() as folder:
            if "recording" in batch:
                path = Path(batch["recording"][0])
            else:
                path = Path(folder) / "mixture.wav"
                size = int(batch["audio_length"][0])
                write_audio(path, batch["audio"][0, :size], self.sample_rate)
            item = {"id": name, "path": str(path), "seed": 0, "recording": str(path)}
            separated = self.separator.evaluation_step(collate([item]))
            recording, row = separated["separated"][0], separated["rows"][0]
            active = [k for k in range(1, len(row)) if row.get(f"active_{k}")]
            recording.save(Path(folder), "voice", "mixture", active)
            files = {k: Path(folder) / f"s{k}" / "voice.wav" for k in active}
            voices = self.listen(files, path)
            found = self.references(batch, path) if "segments" in batch else {}
        segments = listed(voices)
        found |= {
            "separated": recording,
            "signal_products": separated["signal_products"][0],
            "voices": voices,
            "separated_segments": segments,
            "rows": row | {"voices": len(voices), "transcript": by_speaker(segments)},
        }
        if "reference_segments" in found:
            found["rows"]["reference"] = by_speaker(found["reference_segments"])
        return found

    def references(self, batch: Batch, mixture: Path) -> dict[str, Any]:
        """The reference of a recording, and transcripts of the mixture and of the clean sources.

        Args:
            batch: with this recording only.
            mixture: the file.
        """
        normalize = self.recogniser.text_encoder.normalize
        reference = [
            Segment(own.speaker, round(own.start, 3), round(own.end, 3), normalize(own.text))
            for own in batch["segments"][0]
        ]
        return {
            "reference_segments": reference,
            "mixture_segments": listed(self.listen({1: mixture})),
            "sources_segments": self.sources(batch),
        }

    def sources(self, batch: Batch) -> list[Segment] | None:
        """Transcripts of the clean sources of a recording; None if there are none.

        Args:
            batch: with this recording only.
        """
        paths = [Path(path) for path in batch.get("source_files", [[]])[0]]
        with tempfile.TemporaryDirectory() as folder:
            if "sources" in batch:
                size = int(batch["sources_length"][0])
                for k, source in enumerate(batch["sources"][0, :, :size]):
                    paths.append(Path(folder) / f"{k}.wav")
                    write_audio(paths[-1], source, self.sample_rate)
            # One by one, since nothing leaks from one to another.
            heard = [self.listen({k: path}) for k, path in enumerate(paths, start=1)]
        return listed({k: own for voice in heard for k, own in voice.items()}) if heard else None

    def listen(self, paths: dict[int, Path], mixture: Path | None = None) -> Voices:
        """Transcribe the parts of voices in which they speak.

        Args:
            paths: number of a voice -> its file; all of the same length and sample rate.
            mixture: file in which they were heard, and which replaces a voice where it's alone.
        """
        if not paths:
            return {}
        measured = [block_powers(path, BLOCK) for path in paths.values()]
        powers, seconds = np.stack([own for own, _ in measured]), measured[0][1]
        parts = self.task.spoken(powers, seconds)
        with tempfile.TemporaryDirectory() as folder:
            if mixture is not None:
                alone, heard = self.task.alone(powers, seconds), block_powers(mixture, BLOCK)[0]
                paths = {
                    k: with_mixture(path, mixture, own, heard, own_alone, Path(folder) / f"{k}.wav")
                    for (k, path), own, own_alone in zip(paths.items(), powers, alone, strict=True)
                }
            return {
                k: [part for span in own for part in self.task.utterances(self.words(path, *span))]
                for (k, path), own in zip(paths.items(), parts, strict=True)
            }

    def words(self, path: Path, start: float, end: float) -> list[Word]:
        """What the recogniser hears in a part of a file, with times in the file.

        Args:
            path: of the file.
            start, end: of the part, in seconds.
        """
        # A part may be the whole hour.
        read = Recording if knows_length(path) else read_audio
        part = read(path, self.sample_rate, start, end - start)
        return [
            replace(word, start=word.start + start, end=word.end + start)
            for word in self.recogniser(part, self.sample_rate)
        ]


def with_mixture(
    voice: Path,
    mixture: Path,
    powers: np.ndarray,
    heard: np.ndarray,
    alone: np.ndarray,
    output: Path,
) -> Path:
    """Write a voice that is replaced by the mixture where it's alone, at the level of the voice.

    Args:
        voice: its file.
        mixture: file of the same length and sample rate.
        powers: mean square of the voice in blocks of `BLOCK`, [N].
        heard: that of the mixture, [N].
        alone: whether it's alone in them, [N].
        output: file to write.

    Returns:
        The output; the voice itself if it never is alone.
    """
    if not heard[alone].sum():
        return voice
    gain = float(np.sqrt(powers[alone].sum() / heard[alone].sum()))
    rate = audio_info(voice).sample_rate
    with soundfile.SoundFile(output, "w", rate, 1, subtype="FLOAT") as file:
        for block in crossfaded(mixture, voice, alone.astype(float), BLOCK, gain):
            file.write(block.numpy())
    return output


def listed(voices: Voices) -> list[Segment]:
    """The segments of all voices by their start."""
    return [segment for segment, _ in segments_of(voices)]


class RecogniserRun:
    """The recogniser of a run that has a separator, too, opened like a run of its own.

    Args:
        run: of `separation_recognition`.
    """

    def __init__(self, run: OpenedRun):
        self.run, self.path, self.inference_path = run, run.path, run.inference_path
        self.checkpoint, self.read_text_encoder = run.checkpoint, run.read_text_encoder

    def read_config(self) -> DictConfig:
        """The config of a recogniser with its front end; without loss, metrics and datasets."""
        config = self.run.read_config()
        model, decoder = config.model, config.task.decoder
        features = OmegaConf.masked_copy(model, ["features"])
        config.update(features, sample_rate=model.recogniser_rate, model=model.recogniser)
        config.transforms.batch.inference = features
        config.task = {TARGET: dotted_name(RecognitionTask), "decoders": {"main": decoder}}
        config.loss, config.metrics, config.datasets = None, {}, {}
        return config

    def read_weights(self, checkpoint: str) -> dict[str, Tensor]:
        """The weights of the recogniser."""
        prefix, weights = f"{RECOGNISER}.", self.run.read_weights(checkpoint)
        return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}

    def read_self_test(self, checkpoint: str) -> None:
        """None: the outputs of the run's self-test are those of both."""


class ConversationRuns:
    """A run of separation and one of recognition, or one that has both, opened like one run.

    Args:
        config: of the inference: `separator` and `recogniser`.

    Attributes:
        path: of the separator's run.
        inference_path: `conversation` in its folder.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: a run isn't given, or is of another task.
    """

    def __init__(self, config: DictConfig):
        if config.run is not None:
            refuse("config, run", config.run, "null; give separator=RUN and recogniser=RUN")
        self.runs: dict[str, tuple[OpenedRun, DictConfig]] = {}
        for key, task in SYSTEMS.items():
            if config[key] is None:
                refuse(f"config, {key}", None, f"{key}=RUN, the folder of a run of {task}")
            run: Any = open_source(Path(config[key]), list(config.trust))
            if key == RECOGNISER and is_joint(run.read_config().model):
                run = RecogniserRun(run)
            merged = inference_config(run.read_config(), config.changes[key])
            name = target_class(merged, "task").name
            if name != task:
                raise ValueError(f"config, {key}: {run.path} is a run of {name}, not of {task}.")
            self.runs[key] = (run, merged)
        separator = self.runs["separator"][0]
        own = separator.inference_path
        self.path, self.inference_path = (
            separator.path,
            own.with_name(own.name.replace(INFERENCE, OWN)),
        )

    def restore(
        self, config: DictConfig, checkpoint: str, device: str | torch.device | None = None
    ) -> Conversation:
        """Both systems with the weights of their checkpoints.

        Args:
            config: of the inference, whose `task` makes segments of words.
            checkpoint: `best` or `last`, of both.
            device: None for that of the config.
        """
        separator, recogniser = (
            restore(run, merged, checkpoint, device) for run, merged in self.runs.values()
        )
        task = build(config, "task", sample_rate=recogniser.sample_rate)
        return Conversation(separator, recogniser, task)
