"""Denoising augmentation of NEST: noise or other speech in a part of each utterance.

Section 2 of "NEST: Self-supervised Fast Conformer as All-purpose Seasoning to Speech Processing
Tasks" (arXiv 2408.13106).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.transforms.wave.recordings import recordings_path
from src.utils.audio import read_recordings
from src.utils.lengths import padding_mask
from src.utils.options import check_number, check_whole
from src.utils.random import generator, uniform


@dataclass(frozen=True)
class Segment:
    """A span of an utterance and the recording mixed into it; all values in samples."""

    start: int  # within the utterance
    length: int
    source: int  # first sample of the recording within the concatenated sources
    source_length: int  # of the recording, which is repeated where it is too short
    offset: int  # within the recording


@dataclass(frozen=True)
class Mixing:
    """What is mixed into one item of a batch, and at which energy ratio."""

    item: int
    snr_db: float
    is_noise: bool  # True: noise recordings, False: speech of other items
    segments: list[Segment]


class NoisySpeech(nn.Module):
    """Adds `noisy_audio` to the batch: the audio with noise or other speech mixed into a part.

    With probability `p` an utterance gets either noise, or speech of other utterances of the
    batch (of other speakers, if speakers are known), in segments that cover a random fraction
    of it. As in NeMo, the energy ratio refers to the whole utterance: in segments that cover
    half of it, the noise is 3 dB stronger relative to the speech than the ratio.

    This follows NeMo's MultiSpeakerNoiseAugmentation except for two defects: there, utterances
    that are not selected keep the noise loaded for them, at full length and arbitrary level, and
    are truncated to the length of that noise.

    The whole batch is mixed at once on its device. All noise recordings are kept there: 230 MB
    per hour at 16 kHz.

    Args:
        manifest: noise recordings as JSON lines with `audio_filepath`, and perhaps `offset` and
            `duration` of a part, or a folder of them, all of which are read on first use and kept
            in memory; None: only speech is mixed in.
        p: probability of transforming an item.
        noise_fraction: fraction of the transformed items that get noise instead of speech. An
            utterance without others in its batch always gets noise, if there is any.
        min_noise_snr_db: lower bound of the energy ratio of utterance to noise in dB.
        max_noise_snr_db: upper bound of the energy ratio of utterance to noise in dB.
        min_speech_snr_db: lower bound of the energy ratio of utterance to other speech in dB.
        max_speech_snr_db: upper bound of the energy ratio of utterance to other speech in dB.
        min_mix_fraction: lower bound of the fraction of the utterance that is mixed.
        max_mix_fraction: upper bound of the fraction of the utterance that is mixed.
        max_segments: maximum number of segments; the number is uniform from 1.
        max_speakers: maximum number of other utterances; the number is uniform from 1.
        sample_rate: in Hz.
        salt: string mixed into the seeds; another salt gives independent draws.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        manifest: str | None = None,
        p: float = 0.5,
        noise_fraction: float = 0.5,
        min_noise_snr_db: float = -5.0,
        max_noise_snr_db: float = 20.0,
        min_speech_snr_db: float = -5.0,
        max_speech_snr_db: float = 5.0,
        min_mix_fraction: float = 0.5,
        max_mix_fraction: float = 0.5,
        max_segments: int = 1,
        max_speakers: int = 1,
        sample_rate: int = 16000,
        salt: str = "NoisySpeech",
    ):
        super().__init__()
        check_number("NoisySpeech, p", p, 0, 1, inclusive=True)
        check_number("NoisySpeech, noise_fraction", noise_fraction, 0, 1, inclusive=True)
        check_whole("NoisySpeech, max_segments", max_segments)
        check_whole("NoisySpeech, max_speakers", max_speakers)
        self.p, self.noise_fraction = p, noise_fraction
        self.noise_snr_db = bounds("noise_snr_db", min_noise_snr_db, max_noise_snr_db)
        self.speech_snr_db = bounds("speech_snr_db", min_speech_snr_db, max_speech_snr_db)
        self.mix_fraction = bounds("mix_fraction", min_mix_fraction, max_mix_fraction, 0, 1)
        self.max_segments, self.max_speakers = max_segments, max_speakers
        self.manifest = recordings_path("NoisySpeech", manifest)
        self.sample_rate, self.salt = sample_rate, salt
        self.noise_pool: Tensor | None = None
        self.noise_lengths: list[int] = []

    def forward(
        self,
        audio: Tensor,
        audio_length: Tensor,
        seed: Tensor,
        speaker: list[str] | None = None,
        **_,
    ) -> dict[str, Tensor]:
        """Mix noise or speech into a random subset of the items.

        Args:
            audio: [B, T]; not modified.
            audio_length: [B], in samples.
            seed: [B], int64, one seed per item.
            speaker: speaker of each item, if known.

        Returns:
            `noisy_audio` [B, T] and `noisy_audio_length` [B], which equals `audio_length`.

        Raises:
            FileNotFoundError: the manifest or a recording does not exist.
            ValueError: the manifest lists no recordings, or one is not readable.
        """
        noise_pool = self.load_noise(audio.device)
        lengths, padded_length = audio_length.tolist(), audio.shape[1]
        drawn = (
            self.draw(i, own, lengths, padded_length, speaker)
            for i, own in enumerate(seed.tolist())
        )
        mixings = [mixing for mixing in drawn if mixing is not None]
        if not mixings:
            return {"noisy_audio": audio, "noisy_audio_length": audio_length}
        index = torch.tensor([mixing.item for mixing in mixings], device=audio.device)
        clean = audio[index] * ~padding_mask(audio_length[index], padded_length)
        added = torch.zeros_like(clean)
        for pool, is_noise in ((noise_pool, True), (audio.flatten(), False)):
            rows = [k for k, mixing in enumerate(mixings) if mixing.is_noise == is_noise]
            if rows:
                segments = [mixings[k].segments for k in rows]
                added[rows] = gather_segments(pool, segments, padded_length)
        snr_db = [mixing.snr_db for mixing in mixings]
        mixed = clean + added * snr_scale(clean, added, snr_db).unsqueeze(1)
        noisy = audio.index_copy(0, index, mixed)
        return {"noisy_audio": noisy, "noisy_audio_length": audio_length}

    def load_noise(self, device: torch.device) -> Tensor:
        """All noise recordings concatenated [N], on a device; they are read on the first call.

        Raises:
            FileNotFoundError: the manifest or a recording does not exist.
            ValueError: the manifest lists no recordings, or one is not readable.
        """
        if self.noise_pool is None:
            path = self.manifest
            recordings = read_recordings(path, self.sample_rate) if path else []
            self.noise_lengths = [len(recording) for recording in recordings]
            self.noise_pool = torch.cat([torch.zeros(0), *recordings]).to(device)
        return self.noise_pool

    def draw(
        self, i: int, seed: int, lengths: list[int], padded_length: int, speaker: list[str] | None
    ) -> Mixing | None:
        """Draw what is mixed into one item, or None for an item that stays clean.

        Args:
            i: index of the item.
            seed: of the item.
            lengths: of all items, in samples.
            padded_length: of the batch, in samples.
            speaker: speaker of each item, if known.
        """
        source = generator(seed, self.salt)
        if uniform(source, 0, 1) >= self.p or lengths[i] < 1:
            return None
        others = [j for j in other_items(i, speaker, len(lengths)) if lengths[j]]
        is_noise = uniform(source, 0, 1) < self.noise_fraction or not others
        is_noise = is_noise and bool(self.noise_lengths)
        if not is_noise and not others:
            return None
        total = max(1, int(lengths[i] * uniform(source, *self.mix_fraction)))
        pieces = split_length(total, integer(source, 1, self.max_segments), source)
        starts = place_pieces(pieces, lengths[i], source)
        low, high = self.noise_snr_db if is_noise else self.speech_snr_db
        chosen = [] if is_noise else sample(others, integer(source, 1, self.max_speakers), source)
        segments = []
        for number, (start, length) in enumerate(zip(starts, pieces, strict=True)):
            if is_noise:
                first, size = self.draw_noise(source)
            else:
                other = chosen[number % len(chosen)]
                first, size = other * padded_length, lengths[other]
            offset = integer(source, 0, max(0, size - length))
            segments.append(Segment(start, length, first, size, offset))
        return Mixing(i, uniform(source, low, high), is_noise, segments)

    def draw_noise(self, source: torch.Generator) -> tuple[int, int]:
        """First sample within the noise pool and length of a random recording."""
        number = integer(source, 0, len(self.noise_lengths) - 1)
        return sum(self.noise_lengths[:number]), self.noise_lengths[number]


def bounds(
    name: str, low: float, high: float, lowest: float = -100, highest: float = 100
) -> tuple[float, float]:
    """The bounds of a uniform distribution, checked.

    Args:
        name: of the quantity; the arguments are min_<name> and max_<name>.
        low: lower bound.
        high: upper bound; may equal `low`.
        lowest: smallest value allowed; excluded if it is 0.
        highest: largest value allowed.

    Raises:
        ValueError: a bound is not in the range, or the bounds are exchanged.
    """
    for which, value in (("min", low), ("max", high)):
        check_number(f"NoisySpeech, {which}_{name}", value, lowest, highest, inclusive=lowest != 0)
    if low > high:
        raise ValueError(f"NoisySpeech, min_{name}: {low}; at most max_{name}, which is {high}.")
    return low, high


def other_items(i: int, speaker: list[str] | None, size: int) -> list[int]:
    """Indices of the items of other speakers; of all other items if there are none such."""
    others = [j for j in range(size) if j != i]
    if speaker is None:
        return others
    return [j for j in others if speaker[j] != speaker[i]] or others


def integer(source: torch.Generator, low: int, high: int) -> int:
    """A uniform random integer from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=source))


def sample(values: list[int], count: int, source: torch.Generator) -> list[int]:
    """`count` random values without replacement; all of them if there are fewer."""
    permutation = torch.randperm(len(values), generator=source).tolist()
    return [values[k] for k in permutation[:count]]


def split_length(total: int, pieces: int, source: torch.Generator) -> list[int]:
    """`total` samples split at random into at most `pieces` pieces of at least one sample."""
    pieces = min(pieces, total)
    cuts = sorted(torch.randperm(total - 1, generator=source)[: pieces - 1].tolist())
    edges = [0, *(cut + 1 for cut in cuts), total]
    return [b - a for a, b in zip(edges, edges[1:], strict=False)]


def place_pieces(pieces: list[int], length: int, source: torch.Generator) -> list[int]:
    """Random start positions of pieces in a length, in their order and without overlap."""
    free = length - sum(pieces)
    gaps = sorted(integer(source, 0, free) for _ in pieces)
    before = [sum(pieces[:k]) for k in range(len(pieces))]
    return [gap + used for gap, used in zip(gaps, before, strict=True)]


def gather_segments(pool: Tensor, segments: list[list[Segment]], size: int) -> Tensor:
    """The signals to be mixed in.

    Args:
        pool: [N], the concatenated sources.
        segments: of each of b items.
        size: padded length of the items in samples.

    Returns:
        [b, size], zero outside the segments.
    """
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
        elapsed = times - start  # [rows, size]
        position = source + (elapsed + offset) % source_length
        inside = (elapsed >= 0) & (elapsed < length)
        added[rows] += pool[position.clamp(0, len(pool) - 1)] * inside
    return added


def snr_scale(clean: Tensor, added: Tensor, snr_db: list[float]) -> Tensor:
    """Gains [b] that bring `added` [b, T] to its energy ratio to `clean` [b, T]; 0 for silence."""
    ratio = torch.tensor(snr_db, device=clean.device)
    target = clean.square().sum(1) / 10 ** (ratio / 10)
    energy = added.square().sum(1)
    return torch.where(energy > 0, (target / energy.clamp(min=1e-30)).sqrt(), 0.0)
