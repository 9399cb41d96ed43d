"""Speech separation: a mixture to its speakers."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.loss.pit import best_order, in_order, pairwise_loss
from src.tasks.base import Task
from src.utils.audio import write_audio
from src.utils.plots import magnitudes, scatter_image, signals_image
from src.utils.si_sdr import si_sdr

LEVELS = ("mixture", "peak", "model")
ACTIVE = -40.0  # dB below the mixture, from which on a stream counts as a voice
PEAK = 0.9


class SeparationTask(Task):
    """Puts estimates in the order and at the level that people want, and scores them.

    Args:
        sample_rate: of the signals, in Hz.
        output_level: of what is written: `mixture`, so that the streams add up to the mixture as
            well as they can; `peak`, each to a peak of 0.9; `model`, as it comes.

    Raises:
        ValueError: another level.
    """

    output = "estimates"
    worst_first = "-SI-SDRi"

    def __init__(self, sample_rate: int, output_level: str = "mixture"):
        if output_level not in LEVELS:
            raise ValueError(f"task.output_level '{output_level}' is none of {', '.join(LEVELS)}.")
        self.sample_rate, self.output_level = sample_rate, output_level

    def postprocess(
        self,
        estimates: Tensor,
        audio: Tensor,
        audio_length: Tensor,
        id: list[str],
        sources: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Any]:
        """Estimates in the order of their sources, at the output level, and a row for each.

        Args:
            estimates: [B, S, T].
            audio: mixtures [B, T].
            audio_length: [B].
            id: names.
            sources: [B, S, T], where they are known.
            batch: swallowed.
        """
        found = {}
        if sources is not None:
            order = best_order(pairwise_loss(estimates, sources, audio, audio_length))
            estimates = in_order(estimates, order)
            if "masks" in batch:
                found["masks"] = in_order(batch["masks"], order)
        estimates = levelled(estimates.float(), audio.float(), self.output_level)
        rows = [{"id": name} for name in id]
        if sources is not None:
            add_scores(rows, estimates, sources, audio, audio_length)
        add_activity(rows, estimates, audio, audio_length)
        return found | {"estimates": estimates, "rows": rows}

    def log_batch(self, writer: Any, step: int, name: str, **batch: Any) -> None:
        """The first item: to be heard and seen, mixture, estimates and references."""
        size = int(batch["audio_length"][0])
        signals = {"mixture": batch["audio"][0]}
        for kind, key in (("estimate", "estimates"), ("reference", "sources")):
            for k, signal in enumerate(batch[key][0] if key in batch else []):
                signals[f"{kind}_{k + 1}"] = signal
        signals = {title: signal[:size].float().cpu() for title, signal in signals.items()}
        for title, signal in signals.items():
            peak = signal.abs().max().clamp(min=1.0)
            writer.audio(f"{name}/{title}", signal / peak, self.sample_rate, step)
        pictures = {title: magnitudes(signal) for title, signal in signals.items()}
        frames = int(batch["masks_length"][0])
        for k, mask in enumerate(batch["masks"][0]):
            pictures[f"mask_{k + 1}"] = mask[:, :frames].float().cpu()
        writer.image(f"{name}/signals", signals_image(pictures), step)

    def picture(self, rows: list[dict]) -> np.ndarray | None:
        """SI-SDRi of every utterance over the mixture's SI-SDR, and how it is distributed."""
        scored = [row for row in rows if "SI-SDRi" in row]
        if not scored:
            return None
        before = [row["SI-SDR"] - row["SI-SDRi"] for row in scored]
        return scatter_image(
            before, [row["SI-SDRi"] for row in scored], "SI-SDR of the mixture, dB", "SI-SDRi, dB"
        )

    def save_batch(self, directory: Path, id: list[str], **batch: Any) -> None:
        """`s1/<id>.wav`, `s2/<id>.wav`, ..."""
        for name, streams, size in zip(
            id, batch["estimates"], batch["audio_length"].tolist(), strict=True
        ):
            for k, stream in enumerate(streams):
                folder = directory / f"s{k + 1}"
                folder.mkdir(exist_ok=True)
                write_audio(folder / f"{name}.wav", within(stream[:size].cpu()), self.sample_rate)


def add_scores(
    rows: list[dict], estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor
) -> None:
    """SI-SDR and SI-SDRi of each utterance (means over its speakers that aren't silent)."""
    after = si_sdr(estimates, sources, length)
    gain = after - si_sdr(audio.unsqueeze(1), sources, length)
    heard = sources.abs().amax(-1) > 0
    for row, own, more, there in zip(rows, after, gain, heard, strict=True):
        if there.any():
            row["SI-SDR"] = round(float(own[there].mean()), 3)
            row["SI-SDRi"] = round(float(more[there].mean()), 3)


def add_activity(rows: list[dict], estimates: Tensor, audio: Tensor, length: Tensor) -> None:
    """Level of each stream in dBFS (RMS), and whether it is a voice rather than what is left."""
    whole = (audio.float().square().sum(-1) / length).tolist()
    levels = (estimates.square().sum(-1) / length.unsqueeze(1)).tolist()
    for row, mixture, streams in zip(rows, whole, levels, strict=True):
        for k, energy in enumerate(streams):
            row[f"energy_{k + 1}"] = round(10 * math.log10(energy + 1e-12), 1)
            row[f"active_{k + 1}"] = int(energy > 10 ** (ACTIVE / 10) * mixture)


def levelled(estimates: Tensor, audio: Tensor, level: str) -> Tensor:
    """Estimates [B, S, T] at an output level; silence stays silence.

    At the level of the mixture the gains are those of least squares, held by a trace of ridge to
    one common gain: two streams that are alike would get any gains otherwise.
    """
    if level == "model":
        return estimates
    if level == "peak":
        peak = estimates.abs().amax(-1, keepdim=True)
        return estimates * torch.where(peak > 0, PEAK / peak.clamp(min=1e-30), 0.0)
    products = (estimates @ estimates.transpose(1, 2)).double()  # [B, S, S]
    wanted = (estimates @ audio.unsqueeze(2)).double()  # [B, S, 1]
    total = products.sum((1, 2), keepdim=True)
    common = torch.where(total > 0, wanted.sum(1, keepdim=True) / total.clamp(min=1e-30), 0.0)
    trace = products.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    ridge = (1e-2 * trace + 1e-30) * torch.eye(estimates.shape[1], device=audio.device)
    more = torch.linalg.solve(products + ridge, wanted - products @ common.expand_as(wanted))
    return estimates * (common + more).float()  # also turns those that came upside down


def within(audio: Tensor) -> Tensor:
    """Audio that fits a file: scaled down where its peak lies beyond 1."""
    return audio / audio.abs().max().clamp(min=1.0)
