"""Lossy compression, as by telephones, calls over the internet and stored recordings."""

import io
from collections.abc import Sequence

import numpy as np
import soundfile
import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.utils.audio_files import encode_audio
from src.utils.options import check_choice, refuse
from src.utils.random import uniform

# Container and subtype of libsndfile, and whether the codec has a level of compression.
CODECS = {
    "vorbis": ("OGG", "VORBIS", True),
    "opus": ("OGG", "OPUS", True),
    "mp3": ("MP3", "MPEG_LAYER_III", True),
    "gsm": ("WAV", "GSM610", False),
    "ulaw": ("WAV", "ULAW", False),
    "alaw": ("WAV", "ALAW", False),
}
RATES = {  # of those that don't have every one, in Hz
    "opus": (8000, 12000, 16000, 24000, 48000),
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}
MOST = 0.98  # level of compression that all of them take


class Codec(RandomTransform):
    """Encodes each utterance by a random codec and decodes it, in memory; nothing is delayed.

    Args:
        codecs: of vorbis, opus, mp3, gsm (GSM 06.10, of mobile phones), ulaw and alaw (G.711, of
            telephones); each is drawn equally often.
        min_compression: lower bound of libsndfile's level of compression of vorbis, opus and mp3;
            0 is the best quality.
        max_compression: upper bound of it, up to 0.98.
        sample_rate: in Hz.
        p: probability of transforming an item.

    Raises:
        ValueError: there is no such codec, a bound is not in [0, 0.98], the bounds are exchanged,
            or Opus or MP3 doesn't have the sample rate.
    """

    key = "audio"

    def __init__(
        self,
        codecs: Sequence[str] = ("vorbis", "opus", "mp3"),
        min_compression: float = 0.3,
        max_compression: float = 0.9,
        sample_rate: int = 16000,
        p: float = 1.0,
    ):
        super().__init__(p)
        bounds = (min_compression, "max_compression", max_compression)
        self.check_bounds("min_compression", *bounds, 0, MOST)
        self.codecs = list(codecs)
        for codec in self.codecs:
            check_choice("Codec, codecs", codec, tuple(CODECS))
        if not self.codecs:
            raise ValueError(f"Codec, codecs: []; some of {', '.join(CODECS)}.")
        for codec in self.codecs:
            if sample_rate not in RATES.get(codec, (sample_rate,)):
                allowed = ", ".join(map(str, RATES[codec]))
                refuse("Codec, sample_rate", sample_rate, f"for {codec} one of {allowed} Hz")
        self.compression = (min_compression, max_compression)
        self.sample_rate = sample_rate

    def draw(self, generator: torch.Generator, length: int) -> tuple[str, float]:
        """Codec and level of compression of one item."""
        codec = self.codecs[int(uniform(generator, 0, len(self.codecs)))]
        return codec, uniform(generator, *self.compression)

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Encode and decode each item; audio [b, T] and unchanged lengths [b]."""
        decoded = torch.zeros_like(value)
        for row, samples, size, (codec, level) in zip(
            decoded, value, length.tolist(), drawn, strict=True
        ):
            result = self.recode(samples[:size].cpu().numpy(), codec, level)
            row[: len(result)] = torch.from_numpy(result)
        return decoded, length

    def recode(self, samples: np.ndarray, codec: str, level: float) -> np.ndarray:
        """Samples [T], encoded and decoded, at most as many."""
        container, subtype, has_level = CODECS[codec]
        own = level if has_level else None
        encoded = encode_audio(samples, self.sample_rate, container, subtype, own)
        return soundfile.read(io.BytesIO(encoded), dtype="float32")[0][: len(samples)]
