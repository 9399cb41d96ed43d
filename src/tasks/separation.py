"""Speech separation: a mixture to its speakers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from src.loss.pit import best_order, in_order, pairwise_loss
from src.tasks.base import Task
from src.tasks.chunks import Separate, separate_in_chunks
from src.tasks.separated import PEAK, Separated, activity
from src.utils.audio import audio_info, write_audio
from src.utils.plots import magnitudes, scatter_image, signals_image
from src.utils.resampling import resample
from src.utils.si_sdr import ALIKE, si_sdr
from src.utils.streams import read_blocks, resampled

LEVELS = ("mixture", "peak", "model")


class SeparationTask(Task):
    """Puts estimates in the order and at the level that people want, and scores them.

    What is longer than a window is heard in windows that overlap. Recordings without references
    are read and written bit by bit, at their own rate; those with references are held in memory,
    since they are scored as a whole.

    Args:
        sample_rate: of the signals, in Hz.
        window: seconds that the model hears at once.
        overlap: seconds that two windows have in common.
        output_level: of what is written: `mixture`, so that the streams add up to the mixture as
            well as they can; `peak`, each to a peak of 0.9; `model`, as it comes, but at the level
            of the mixture where windows are joined, which would not fit each other otherwise, and
            in recordings.

    Raises:
        ValueError: another level, or an overlap that is not shorter than the window.
    """

    output = "estimates"
    worst_first = "-SI-SDRi"

    def __init__(
        self,
        sample_rate: int,
        window: float = 16.0,
        overlap: float = 4.0,
        output_level: str = "mixture",
    ):
        if not 0 < overlap < window:
            raise ValueError(f"task: overlap {overlap} of windows of {window} seconds.")
        if output_level not in LEVELS:
            raise ValueError(f"task.output_level '{output_level}' is none of {', '.join(LEVELS)}.")
        self.sample_rate, self.output_level = sample_rate, output_level
        self.window, self.overlap = round(window * sample_rate), round(overlap * sample_rate)

    def run(self, model: Any, **batch: Any) -> dict[str, Any]:
        """Estimates of a batch with `audio` [B, T], or of whole recordings, given by paths."""
        if "recording" in batch:
            paths = map(Path, batch["recording"])
            return {"separated": [self.separate_file(model, path) for path in paths]}
        if batch["audio"].shape[1] <= self.window:
            return model(**batch)
        sizes = batch["audio_length"].tolist()
        found = [
            self.separate_item(model, audio[:size], name)
            for audio, size, name in zip(batch["audio"], sizes, batch["id"], strict=True)
        ]
        return {"estimates": pad_sequence([one.T for one in found], True).transpose(1, 2)}

    def separate_item(self, model: Any, audio: Tensor, name: str) -> Tensor:
        """Estimates [S, T] of one mixture [T], so that its figures don't depend on its batch."""
        if len(audio) <= self.window:
            size = torch.tensor([len(audio)], device=audio.device)
            return model(audio=audio[None], audio_length=size, id=[name])["estimates"][0]
        separate = self.separator(model, name)
        chunks = separate_in_chunks([audio], separate, self.window, self.overlap)
        return torch.cat(list(chunks), 1)

    def separator(self, model: Any, name: str) -> Separate:
        """The model as a function of one mixture [T], at the level of the mixture."""

        def separate(mixture: Tensor) -> Tensor:
            size = torch.tensor([len(mixture)], device=mixture.device)
            found = model(audio=mixture[None], audio_length=size, id=[name])["estimates"]
            return levelled(found.float(), mixture[None], "mixture")[0]

        return separate

    def separate_file(self, model: Any, path: Path) -> Separated:
        """The streams of a recording, at its own rate, in a file that is gone when they are."""
        rate = audio_info(path).rate
        device = next(model.parameters()).device
        found = Separated(rate)
        blocks = resampled(found.note_mixture(read_blocks(path)), rate, self.sample_rate)
        chunks = separate_in_chunks(
            (block.to(device) for block in blocks),
            self.separator(model, path.name),
            self.window,
            self.overlap,
        )
        for streams in resampled((chunk.cpu() for chunk in chunks), self.sample_rate, rate):
            found.write(streams)
        return found

    def postprocess(self, id: list[str], **batch: Any) -> dict[str, Any]:
        """Estimates in the order of their sources, at the output level, and a row for each.

        Args:
            id: names.
            batch: with `separated`, or what `finish` takes.
        """
        if "separated" in batch:
            found = zip(id, batch["separated"], strict=True)
            return {"rows": [{"id": name} | one.activity() for name, one in found]}
        return self.finish(id, **batch)

    def finish(
        self,
        id: list[str],
        estimates: Tensor,
        audio: Tensor,
        audio_length: Tensor,
        sources: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Any]:
        """The same for a batch in memory.

        Args:
            id: names.
            estimates: [B, S, T].
            audio: mixtures [B, T].
            audio_length: [B].
            sources: [B, S, T], where they are known.
            batch: swallowed.
        """
        found = {}
        if sources is not None:
            order = best_order(pairwise_loss(estimates, sources, audio, audio_length))
            estimates = in_order(estimates, order)
            if "masks" in batch:
                found["masks"] = in_order(batch["masks"], order)
        rows = [{"id": name} for name in id]
        if sources is not None:
            add_scores(rows, estimates.float(), sources, audio, audio_length)
        at_mixture = levelled(estimates.float(), audio.float(), "mixture")
        add_activity(rows, at_mixture, audio, audio_length)
        if self.output_level == "mixture":
            estimates = at_mixture
        else:
            estimates = levelled(estimates.float(), audio.float(), self.output_level)
        return found | {"estimates": estimates, "rows": rows}

    def log_batch(self, writer: Any, step: int, name: str, **batch: Any) -> None:
        """The first item: to be heard and seen, mixture, estimates and references."""
        if "separated" in batch:
            return
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
        for k, mask in enumerate(batch["masks"][0] if "masks" in batch else []):
            frames = int(batch["masks_length"][0])
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
        """`s1/<id>.wav`, `s2/<id>.wav`, ...; those of files as they have rate and length."""
        if "separated" in batch:
            for name, one in zip(id, batch["separated"], strict=True):
                one.save(directory, name, self.output_level)
            return
        sizes = batch["audio_length"].tolist()
        rates = batch.get("file_rate", torch.full((len(id),), self.sample_rate)).tolist()
        frames = batch.get("file_frames", batch["audio_length"]).tolist()
        for i, name in enumerate(id):
            streams = batch["estimates"][i, :, : sizes[i]].float().cpu()
            streams = resample(streams, self.sample_rate, rates[i])[:, : frames[i]]
            for k, stream in enumerate(within(streams)):
                folder = directory / f"s{k + 1}"
                folder.mkdir(exist_ok=True)
                write_audio(folder / f"{name}.wav", stream, rates[i])


def add_scores(
    rows: list[dict], estimates: Tensor, sources: Tensor, audio: Tensor, length: Tensor
) -> None:
    """SI-SDR and SI-SDRi of each utterance (means over its speakers that aren't silent)."""
    after = si_sdr(estimates, sources, length)
    before = si_sdr(audio.unsqueeze(1), sources, length)
    heard = sources.abs().amax(-1) > 0
    scores = zip(rows, after, after - before, heard, heard & (before < ALIKE), strict=True)
    for row, own, gain, there, mixed in scores:
        if there.any():
            row["SI-SDR"] = round(float(own[there].mean()), 3)
        if mixed.any():
            row["SI-SDRi"] = round(float(gain[mixed].mean()), 3)


def add_activity(rows: list[dict], estimates: Tensor, audio: Tensor, length: Tensor) -> None:
    """Level of each stream in dBFS (RMS), and whether there is something in it."""
    whole = (audio.float().square().sum(-1) / length).tolist()
    levels = (estimates.square().sum(-1) / length.unsqueeze(1)).tolist()
    for row, mixture, streams in zip(rows, whole, levels, strict=True):
        row |= activity(streams, mixture)


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
    # Streams that came upside down are turned first, or they might cancel each other.
    wanted = estimates @ audio.unsqueeze(2)  # [B, S, 1]
    estimates = torch.where(wanted < 0, -estimates, estimates)
    wanted = wanted.abs().double()
    products = (estimates @ estimates.transpose(1, 2)).double()  # [B, S, S]
    total = products.sum((1, 2), keepdim=True)
    common = torch.where(total > 0, wanted.sum(1, keepdim=True) / total.clamp(min=1e-30), 0.0)
    ridge = torch.diag_embed(1e-2 * products.diagonal(dim1=1, dim2=2) + 1e-30)
    more = torch.linalg.solve(products + ridge, wanted - products @ common.expand_as(wanted))
    return estimates * (common + more).float()


def within(audio: Tensor) -> Tensor:
    """Streams that fit a file: all scaled down by as much where a peak lies beyond 1."""
    return audio / audio.abs().max().clamp(min=1.0)
