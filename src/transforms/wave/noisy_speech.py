"""Noise and other speakers mixed into parts of utterances (NEST, arXiv 2408.13106, section 2)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from src.utils.audio import read_recordings
from src.utils.lengths import valid
from src.utils.random import generator, uniform


@dataclass(frozen=True)
class Segment:
    """Where something is mixed into an utterance, and from where it is taken; all in samples."""

    start: int  # in the utterance
    length: int
    source: int  # first sample of the recording in the noises, or in the batch
    source_length: int
    offset: int  # in the recording, which is repeated where it is too short


@dataclass(frozen=True)
class Plan:
    """What is mixed into an item of a batch, and at which energy ratio in dB."""

    item: int
    ratio: float
    of_noise: bool  # or of other items' speech
    segments: list[Segment]


class NoisySpeech(nn.Module):
    """Gives `noisy_audio` beside the clean audio: a noise or other speech is in a part of it.

    With the probability `probability` an utterance is changed: over a drawn part of its length a
    noise is mixed in, or speech of other utterances of the batch, other speakers' where speakers
    are known. The ratio of energies is over the whole utterance, as in NeMo: inside a segment of
    half the length the noise is 3 dB stronger than the ratio says.

    Two faults of NeMo's augmentation are not copied: there an utterance that isn't chosen keeps
    the noise that was loaded for it, at full length and at any level, and is cut to the noise's
    length where that is shorter.

    All are mixed at once on the device. The noises lie there too, 230 MB an hour at 16 kHz.

    Args:
        manifest: of noises, JSON lines with audio_filepath; None: only speech is mixed in.
        probability: of changing an item.
        noise_share: of the changed items that get noise, the others get speech; a batch of one
            gets noise, if there is any.
        noise_low, noise_high: bounds of the energy ratio for noise, in dB.
        speech_low, speech_high: the same for speech.
        share_low, share_high: bounds of the part of the utterance that is mixed.
        segments: most pieces that the part is cut into, 1 to this many.
        speakers: most other utterances that the pieces are taken from.
        sample_rate: of the audio, in Hz.
        salt: another one draws other numbers from the same seeds.

    Raises:
        ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        manifest: str | None = None,
        probability: float = 0.5,
        noise_share: float = 0.5,
        noise_low: float = -5.0,
        noise_high: float = 20.0,
        speech_low: float = -5.0,
        speech_high: float = 5.0,
        share_low: float = 0.5,
        share_high: float = 0.5,
        segments: int = 1,
        speakers: int = 1,
        sample_rate: int = 16000,
        salt: str = "NoisySpeech",
    ):
        super().__init__()
        for name, value in {"probability": probability, "noise_share": noise_share}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"NoisySpeech: {name} {value} is not in [0, 1].")
        for name, low, high in (
            ("noise", noise_low, noise_high),
            ("speech", speech_low, speech_high),
        ):
            if not low <= high:
                raise ValueError(f"NoisySpeech: {name}_low {low} is not below {name}_high {high}.")
        if not 0 < share_low <= share_high <= 1 or segments < 1 or speakers < 1:
            raise ValueError(
                f"NoisySpeech: share {share_low} to {share_high}, {segments} segments of "
                f"{speakers} speakers; a share lies in (0, 1], the others are 1 or more."
            )
        self.manifest = Path(manifest) if manifest else None
        self.probability, self.noise_share = probability, noise_share
        self.noise_ratio, self.speech_ratio = (noise_low, noise_high), (speech_low, speech_high)
        self.share, self.segments, self.speakers = (share_low, share_high), segments, speakers
        self.sample_rate, self.salt = sample_rate, salt
        self.pool: Tensor | None = None
        self.noise_lengths: list[int] = []

    def forward(
        self,
        audio: Tensor,
        audio_length: Tensor,
        seed: Tensor,
        speaker: list[str] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """`noisy_audio` [B, T], as long as the clean.

        Args:
            audio: [B, T].
            audio_length: [B].
            seed: [B].
            speaker: names, where they are known.
        """
        noises = self.noises(audio.device)
        lengths, width = audio_length.tolist(), audio.shape[1]
        found = (self.plan(i, one, lengths, width, speaker) for i, one in enumerate(seed.tolist()))
        plans = [plan for plan in found if plan is not None]
        if not plans:
            return {"noisy_audio": audio, "noisy_audio_length": audio_length}
        index = torch.tensor([plan.item for plan in plans], device=audio.device)
        clean = audio[index] * valid(audio_length[index], width)
        added = torch.zeros_like(clean)
        for pool, of_noise in ((noises, True), (audio.flatten(), False)):
            rows = [k for k, plan in enumerate(plans) if plan.of_noise == of_noise]
            if rows:
                added[rows] = gather(pool, [plans[k].segments for k in rows], width)
        ratios = [plan.ratio for plan in plans]
        mixed = clean + added * scale(clean, added, ratios).unsqueeze(1)
        noisy = audio.index_copy(0, index, mixed)
        return {"noisy_audio": noisy, "noisy_audio_length": audio_length}

    def noises(self, device: torch.device) -> Tensor:
        """All noises one after the other, on the device; read when they are first needed.

        Raises:
            FileNotFoundError: the manifest or a file is missing.
        """
        if self.pool is None:
            noises = read_recordings(self.manifest, self.sample_rate) if self.manifest else []
            self.noise_lengths = [len(noise) for noise in noises]
            self.pool = torch.cat([torch.zeros(0), *noises]).to(device)
        return self.pool

    def plan(
        self, i: int, seed: int, lengths: list[int], width: int, speaker: list[str] | None
    ) -> Plan | None:
        """What to do to item i of a batch of `width` samples, or None."""
        source = generator(seed, self.salt)
        if uniform(source, 0, 1) >= self.probability or lengths[i] < 1:
            return None
        others = [j for j in other_items(i, speaker, len(lengths)) if lengths[j]]
        noise = uniform(source, 0, 1) < self.noise_share or not others
        if noise and not self.noise_lengths:
            noise = False
        if not noise and not others:
            return None
        total = max(1, int(lengths[i] * uniform(source, *self.share)))
        pieces = cut(total, integer(source, 1, self.segments), source)
        starts = place(pieces, lengths[i], source)
        low, high = self.noise_ratio if noise else self.speech_ratio
        voices = [] if noise else pick(others, integer(source, 1, self.speakers), source)
        segments = []
        for number, (start, length) in enumerate(zip(starts, pieces, strict=True)):
            if noise:
                first, size = self.pick_noise(source)
            else:
                voice = voices[number % len(voices)]
                size = lengths[voice]
                first = voice * width
            offset = integer(source, 0, max(0, size - length))
            segments.append(Segment(start, length, first, size, offset))
        return Plan(i, uniform(source, low, high), noise, segments)

    def pick_noise(self, source: torch.Generator) -> tuple[int, int]:
        """The first sample among all noises and the length of a drawn one."""
        number = integer(source, 0, len(self.noise_lengths) - 1)
        return sum(self.noise_lengths[:number]), self.noise_lengths[number]


def other_items(i: int, speaker: list[str] | None, size: int) -> list[int]:
    """Items of other speakers; any other items where speakers aren't known or all alike."""
    others = [j for j in range(size) if j != i]
    if speaker is None:
        return others
    return [j for j in others if speaker[j] != speaker[i]] or others


def integer(source: torch.Generator, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=source))


def pick(values: list[int], count: int, source: torch.Generator) -> list[int]:
    """Distinct values, as many as there are at most."""
    order = torch.randperm(len(values), generator=source).tolist()
    return [values[k] for k in order[:count]]


def cut(total: int, pieces: int, source: torch.Generator) -> list[int]:
    """A length cut at random into pieces of at least one sample."""
    pieces = min(pieces, total)
    marks = sorted(torch.randperm(total - 1, generator=source)[: pieces - 1].tolist())
    edges = [0, *(mark + 1 for mark in marks), total]
    return [b - a for a, b in zip(edges, edges[1:], strict=False)]


def place(pieces: list[int], length: int, source: torch.Generator) -> list[int]:
    """Starts of pieces, left to right and apart, in a length: the gaps between are drawn."""
    free = length - sum(pieces)
    gaps = sorted(integer(source, 0, free) for _ in pieces)
    before = [sum(pieces[:k]) for k in range(len(pieces))]
    return [gap + done for gap, done in zip(gaps, before, strict=True)]


def gather(pool: Tensor, segments: list[list[Segment]], size: int) -> Tensor:
    """What is to be mixed in, [b, size], zero outside of the segments."""
    times = torch.arange(size, device=pool.device)
    added = torch.zeros(len(segments), size, device=pool.device, dtype=pool.dtype)
    for number in range(max(len(own) for own in segments)):
        rows = [k for k, own in enumerate(segments) if number < len(own)]
        columns = [
            (s.start, s.length, s.source, s.source_length, s.offset)
            for s in (segments[k][number] for k in rows)
        ]
        table = torch.tensor(columns, device=pool.device).T.unsqueeze(2)
        start, length, source, source_length, offset = table
        since = times - start  # [rows, size]
        where = source + (since + offset) % source_length
        inside = (since >= 0) & (since < length)
        added[rows] += pool[where.clamp(0, len(pool) - 1)] * inside
    return added


def scale(clean: Tensor, added: Tensor, ratios: list[float]) -> Tensor:
    """Factors [b] that bring what is added to its energy ratio in dB; 0 for silence."""
    ratio = torch.tensor(ratios, device=clean.device)
    wanted = clean.square().sum(1) / 10 ** (ratio / 10)
    energy = added.square().sum(1)
    return torch.where(energy > 0, (wanted / energy.clamp(min=1e-30)).sqrt(), 0.0)
