"""Source separation: from a mixture to its speakers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from src.loss.pit import (
    apply_permutation,
    best_permutation,
    diagonal,
    negative_si_sdr,
    pairwise_si_sdr,
)
from src.tasks.base import Task
from src.tasks.separated_recording import SeparatedRecording, activity, products_of
from src.tasks.separation_analysis import mixture_scores, reference_details, separation_sections
from src.tasks.windows import Separate, separate_in_windows
from src.utils.audio import Recording, write_audio
from src.utils.audio_files import audio_info
from src.utils.lengths import without_padding
from src.utils.levels import LEVELS, apply_level, limit_peak, mixture_gains
from src.utils.options import check_number
from src.utils.plots import power_spectrogram, scatter_image, signals_image
from src.utils.resampling import resample, resampled
from src.utils.sections import Section
from src.utils.si_sdr import si_sdr
from src.utils.streams import read_blocks

LISTENED = 60  # seconds of a recording without references that a report plays


class SeparationTask(Task):
    """Separates mixtures of any length and writes the speakers at a chosen level.

    Mixtures longer than a window are separated in overlapping windows. Recordings without
    references are processed block by block at their own sample rate, in constant memory; mixtures
    with references are held in memory.

    Args:
        sample_rate: of the model, in Hz.
        window: duration of a window in seconds.
        overlap: of neighbouring windows, in seconds.
        output_level: of the written estimates. `mixture`: they add up to the mixture as well as
            possible; `peak`: each has a peak of 0.9; `model`: as the model returns them, for
            models whose loss fixes the level. Windows are joined and the activity is measured at
            the level of the mixture, or of the model where it is chosen.
        active_db: level relative to the mixture above which an estimate counts as active.

    Raises:
        ValueError: another output level, an overlap that is not between 0 and the window, or
            a threshold that isn't a finite number.
    """

    name = "separation"
    inference = "inference_separation"
    output = "estimates_written"
    sort_by = "SI-SDRi"

    def __init__(
        self,
        sample_rate: int,
        window: float = 16.0,
        overlap: float = 4.0,
        output_level: str = "mixture",
        active_db: float = -40.0,
    ):
        if not 0 < overlap < window:
            raise ValueError(
                f"task.overlap: {overlap} seconds; it must be above 0 and below task.window, "
                f"{window} seconds."
            )
        if output_level not in LEVELS:
            raise ValueError(f"task.output_level: '{output_level}' is none of {', '.join(LEVELS)}.")
        check_number("task.active_db", active_db, low=-math.inf)
        self.sample_rate, self.output_level = sample_rate, output_level
        self.own_level = "model" if output_level == "model" else "mixture"
        self.active_db = active_db
        self.window, self.overlap = round(window * sample_rate), round(overlap * sample_rate)

    def decode(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Estimates of each mixture, in the order of the sources where these are known.

        Args:
            model: in evaluation mode.
            batch: `audio` [B, T] and `audio_length`, with `sources` [B, S, T] where they are
                known; or `recording`, the paths of recordings.

        Returns:
            `estimates` [B, S, T] with `estimates_length`, and `masks` where the model returns them
            for whole mixtures. With sources also `permutation` [B, S], the index of the model's
            estimate that belongs to each source, and in dB `estimates_si_sdr` and
            `mixture_si_sdr`, both [B, S], which loss and metrics share; and the `sources`, with
            silent ones where there are fewer than estimates. For recordings, `separated` instead,
            a list of `SeparatedRecording`.
        """
        if "recording" in batch:
            paths = map(Path, batch["recording"])
            return {"separated": [self.separate_file(model, path) for path in paths]}
        if batch["audio"].shape[1] <= self.window:
            outputs = model(**batch)
        else:
            outputs = self.separate_long(model, batch)
        return permuted(outputs, batch) if "sources" in batch else outputs

    def separate_long(self, model: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Estimates of a batch with mixtures longer than a window.

        The mixtures are separated one by one, so that they don't depend on the length of the batch.
        """
        sizes = batch["audio_length"].tolist()
        estimates = [
            self.separate_item(model, audio[:size], name).T
            for audio, size, name in zip(batch["audio"], sizes, batch["id"], strict=True)
        ]
        padded = pad_sequence(estimates, batch_first=True).transpose(1, 2)
        return {"estimates": padded, "estimates_length": batch["audio_length"]}

    def separate_item(self, model: Any, audio: Tensor, name: str) -> Tensor:
        """Estimates [S, T] of one mixture [T], in windows if it is longer than one."""
        if len(audio) <= self.window:
            return separate_alone(model, audio, name)["estimates"][0]
        separate = self.window_separator(model, name)
        parts = separate_in_windows([audio], separate, self.window, self.overlap)
        return torch.cat(list(parts), 1)

    def window_separator(self, model: Any, name: str) -> Separate:
        """A function from a window [T] to its estimates [S, T], whose level suits all windows.

        A model that transforms what it is called with returns that, too. Cleaning may scale each
        window by another gain, so the level is always that of the recording.
        """

        def separate(audio: Tensor) -> Tensor:
            outputs = separate_alone(model, audio, name)
            estimates, mixture = outputs["estimates"].float(), audio[None]
            if self.own_level == "model" and "audio" in outputs:
                heard = outputs["audio"].unsqueeze(1)
                estimates = estimates * mixture_gains(heard, mixture)
            return apply_level(estimates, mixture, self.own_level)[0]

        return separate

    def separate_file(self, model: Any, path: Path) -> SeparatedRecording:
        """Estimates of a recording at its own sample rate, in a temporary file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it isn't readable as audio.
        """
        sample_rate = audio_info(path).sample_rate
        device = next(model.parameters()).device
        recording = SeparatedRecording(sample_rate)
        mixture = recording.measure_mixture(read_blocks(path))
        blocks = resampled(mixture, sample_rate, self.sample_rate)
        parts = separate_in_windows(
            (block.to(device) for block in blocks),
            self.window_separator(model, path.name),
            self.window,
            self.overlap,
        )
        parts_on_cpu = (part.cpu() for part in parts)
        for estimates in resampled(parts_on_cpu, self.sample_rate, sample_rate):
            recording.write(estimates)
        return recording

    def postprocess(self, **batch: Any) -> dict[str, Any]:
        """The estimates at the output level, and the activity of each of them.

        Args:
            batch: `estimates` [B, S, T], the mixtures `audio` [B, T] and `audio_length`, with
                `sources` [B, S, T] where they are known; or `separated`, a list of
                `SeparatedRecording`.

        Returns:
            `rows` with the columns `energy_1` (RMS level in dBFS), `active_1` (0 or 1),
            `energy_2`, ..., `num_active`, and with sources `num_speakers`, how many of them
            aren't silent; `signal_products` [B, 1 + S, 1 + S], the scalar products of mixture and
            estimates; and unless the batch holds recordings, `estimates_written` [B, S, T] with
            `estimates_written_length`.
        """
        if "separated" in batch:
            return {
                "rows": [recording.activity(self.active_db) for recording in batch["separated"]],
                "signal_products": [recording.products for recording in batch["separated"]],
            }
        audio = batch["audio"].float()
        estimates = without_padding(batch["estimates"], batch["audio_length"])
        heard = apply_level(estimates, audio, self.own_level)
        written = heard
        if self.output_level != self.own_level:
            written = apply_level(estimates, audio, self.output_level)
        rows = activity_rows(heard, audio, batch["audio_length"], self.active_db)
        if "sources" in batch:
            counts = batch["sources"].abs().amax(-1).count_nonzero(1).tolist()
            rows = [row | {"num_speakers": count} for row, count in zip(rows, counts, strict=True)]
        return {
            "estimates_written": written,
            "estimates_written_length": batch["audio_length"],
            "rows": rows,
            "signal_products": products_of(audio, heard),
        }

    def show(self, writer: Any, step: int, name: str, **batch: Any) -> None:
        """Log the first item: audio and spectrograms of mixture, estimates and references.

        The estimates are those that would be written; recordings on disk are not logged.

        Args:
            writer: experiment tracker.
            step: optimisation step.
            name: of the evaluation.
            batch: after `postprocess`.
        """
        if "separated" in batch:
            return
        signals = signals_of(batch, 0)
        for title, signal in signals.items():
            writer.audio(f"{name}/{title}", limit_peak(signal), self.sample_rate, step)
        images = {title: power_spectrogram(signal) for title, signal in signals.items()}
        for k, mask in enumerate(batch["masks"][0] if "masks" in batch else [], 1):
            frames = int(batch["masks_length"][0])
            images[f"mask_{k}"] = mask[:, :frames].float().cpu()
        writer.image(f"{name}/signals", signals_image(images), step)

    def picture(self, rows: list[dict]) -> np.ndarray | None:
        """Scatter plot of SI-SDRi over the mixture's SI-SDR, with the distribution of SI-SDRi.

        Args:
            rows: the table of utterances; those without both scores are ignored.

        Returns:
            uint8 [height, width, 3]; None if no utterance has both scores.
        """
        points = mixture_scores(rows)
        if not points:
            return None
        mixture, improvement = zip(*points, strict=True)
        return scatter_image(mixture, improvement, "SI-SDR of the mixture, dB", "SI-SDRi, dB")

    def save(self, directory: Path, id: list[str], **batch: Any) -> None:
        """Write `s1/<id>.wav`, `s2/<id>.wav`, ... with 16 bits.

        Args:
            directory: an existing folder.
            id: names of the mixtures.
            batch: after `postprocess`; with `file_rate` (Hz) and `file_frames`, both [B], the
                files get the sample rate and length of the mixtures' own files.
        """
        if "separated" in batch:
            for name, recording in zip(id, batch["separated"], strict=True):
                recording.save(directory, name, self.output_level)
            return
        sizes = batch["audio_length"].tolist()
        own_rate = torch.full((len(id),), self.sample_rate)
        sample_rates = batch.get("file_rate", own_rate).tolist()
        frames = batch.get("file_frames", batch["audio_length"]).tolist()
        for i, name in enumerate(id):
            estimates = batch["estimates_written"][i, :, : sizes[i]].float().cpu()
            estimates = resample(estimates, self.sample_rate, sample_rates[i])[:, : frames[i]]
            for k, signal in enumerate(limit_peak(estimates), 1):
                folder = directory / f"s{k}"
                folder.mkdir(exist_ok=True)
                write_audio(folder / f"{name}.wav", signal, sample_rates[i])

    def signals(self, item: int, **batch: Any) -> dict[str, Any]:
        """Mixture, estimates and references of an item; of a recording the first minute.

        Args:
            item: index in the batch.
            batch: after `postprocess`.
        """
        if "separated" not in batch:
            return signals_of(batch, item)
        recording, rate = batch["separated"][item], self.sample_rate
        mixture = Recording(Path(batch["recording"][item]), rate)[: LISTENED * rate]
        estimates = resample(recording.beginning(LISTENED), recording.sample_rate, rate)
        named = {f"estimate_{k}": estimate for k, estimate in enumerate(estimates, 1)}
        return {"mixture": mixture} | named

    def details(self, id: list[str], **batch: Any) -> list[dict]:
        """Permutation and silent references, where these are known; of recordings the duration.

        Args:
            id: names of the mixtures.
            batch: after `postprocess`.
        """
        if "separated" in batch:
            return [{"seconds": round(one.seconds(), 3)} for one in batch["separated"]]
        return reference_details(batch) if "permutation" in batch else [{} for _ in id]

    def sections(self, rows: list[dict]) -> list[Section]:
        """SI-SDRi over the mixture's SI-SDR, permutations and silence.

        Args:
            rows: the table of utterances with their details.
        """
        return separation_sections(rows)


def permuted(outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
    """Outputs of a model with `estimates` and `masks` in the order of the sources.

    Args:
        outputs: `estimates` [B, S, T], and `masks` [B, S, F, T'] if the model returns them.
        batch: `sources` [B, S, T], the mixtures `audio` [B, T] and `audio_length`.

    Returns:
        The outputs with `permutation`, `estimates_si_sdr` and `mixture_si_sdr`, all [B, S], and the
        `sources`, with silent ones where there are fewer than estimates.
    """
    estimates, sources = outputs["estimates"], batch["sources"]
    missing = max(0, estimates.shape[1] - sources.shape[1])
    sources = pad(sources, (0, 0, 0, missing))
    audio, length = batch["audio"], batch["audio_length"]
    pairs = pairwise_si_sdr(estimates, sources, length)
    permutation = best_permutation(negative_si_sdr(pairs, estimates, sources, audio, length))
    known = {
        "sources": sources,
        "permutation": permutation,
        "estimates_si_sdr": diagonal(apply_permutation(pairs, permutation)),
        "mixture_si_sdr": si_sdr(audio.unsqueeze(1), sources, length),
    }
    in_source_order = {
        key: apply_permutation(outputs[key], permutation)
        for key in ("estimates", "masks")
        if key in outputs
    }
    return outputs | in_source_order | known


def separate_alone(model: Any, audio: Tensor, name: str) -> dict[str, Any]:
    """Outputs of a model for one mixture [T], with its name for error messages."""
    length = torch.tensor([len(audio)], device=audio.device)
    return model(audio=audio[None], audio_length=length, id=[name])


def activity_rows(estimates: Tensor, audio: Tensor, length: Tensor, active_db: float) -> list[dict]:
    """Level and activity of the estimates [B, S, T] of each mixture [B, T], with lengths [B]."""
    mixture_power = (audio.square().sum(-1) / length).tolist()
    powers = (estimates.square().sum(-1) / length.unsqueeze(1)).tolist()
    pairs = zip(powers, mixture_power, strict=True)
    return [activity(own, mixture, active_db) for own, mixture in pairs]


def signals_of(batch: dict[str, Any], item: int) -> dict[str, Tensor]:
    """An item's mixture, estimates and references without padding: title -> [T]."""
    signals = {"mixture": batch["audio"][item]}
    for kind, key in (("estimate", "estimates_written"), ("reference", "sources")):
        for k, signal in enumerate(batch[key][item] if key in batch else [], 1):
            signals[f"{kind}_{k}"] = signal
    size = int(batch["audio_length"][item])
    return {title: signal[:size].float().cpu() for title, signal in signals.items()}
