"""Room reverberation."""

import torch
from torch import Tensor

from src.transforms.base import RandomTransform
from src.transforms.wave.recordings import Recordings, recordings_path
from src.utils.lengths import padding_mask
from src.utils.random import uniform


class RoomResponse(RandomTransform):
    """Convolves each utterance with a room impulse response.

    Delay, length and RMS level are preserved. Without recorded responses, one is simulated: the
    direct sound followed by exponentially decaying noise (Polack's model of late
    reverberation).

    Args:
        manifest: recorded responses as JSON lines with `audio_filepath`, or a folder of them;
            None: simulated ones.
        min_rt60: lower bound of the simulated reverberation time RT60 in seconds.
        max_rt60: upper bound of the simulated reverberation time RT60 in seconds.
        sample_rate: in Hz.
        p: probability of transforming an item.

    Raises:
        FileNotFoundError: the manifest or a recording does not exist.
        ValueError: a bound is not in [0.001, 20] seconds, the bounds are exchanged, or the
            manifest lists no recordings.
    """

    key = "audio"

    def __init__(
        self,
        manifest: str | None = None,
        min_rt60: float = 0.1,
        max_rt60: float = 0.6,
        sample_rate: int = 16000,
        p: float = 1.0,
    ):
        super().__init__(p)
        self.check_bounds("min_rt60", min_rt60, "max_rt60", max_rt60, 1e-3, 20)
        self.min_rt60, self.max_rt60, self.sample_rate = min_rt60, max_rt60, sample_rate
        path = recordings_path(type(self).__name__, manifest)
        self.responses = Recordings(path, sample_rate) if path else None
        if self.responses is not None:
            self.responses.check()

    def draw(self, generator: torch.Generator, length: int) -> Tensor:
        """Impulse response [R] of one item; its first sample is the direct sound.

        Raises:
            ValueError: a recorded one is silent.
        """
        if self.responses is not None:
            index = int(uniform(generator, 0, len(self.responses)))
            response = trim_to_direct_sound(self.responses.whole(index))
            if not response[0]:
                raise ValueError(f"{self.responses.paths[index]}: a room response of silence.")
            return response
        rt60 = uniform(generator, self.min_rt60, self.max_rt60)
        size = int(rt60 * self.sample_rate)
        noise = torch.randn(size, generator=generator)
        decay = 10 ** (-3 * torch.arange(size) / size)  # -60 dB at the end
        response = 0.1 * uniform(generator, 0.2, 1.0) * noise * decay
        response[0] = 1.0
        return response

    def change(self, value: Tensor, length: Tensor, drawn: list) -> tuple[Tensor, Tensor]:
        """Convolve each item and restore its energy; audio [b, T] and unchanged lengths [b]."""
        samples = value.shape[1]
        longest = max(len(response) for response in drawn)
        responses = torch.zeros(len(drawn), longest, device=value.device)
        for row, response in zip(responses, drawn, strict=True):
            row[: len(response)] = response
        mask = ~padding_mask(length, samples)
        size = 1 << (samples + longest - 1).bit_length()
        product = torch.fft.rfft(value * mask, size) * torch.fft.rfft(responses, size)
        wet = torch.fft.irfft(product, size)[:, :samples] * mask
        before, after = energy(value * mask), energy(wet)
        return wet * torch.where(after > 0, (before / after).sqrt(), 0.0).unsqueeze(1), length


def energy(audio: Tensor) -> Tensor:
    """Energy [b] of signals [b, T]."""
    return audio.square().sum(1)


def trim_to_direct_sound(response: Tensor) -> Tensor:
    """An impulse response [R] from its largest absolute sample, the direct sound, onwards."""
    return response[int(response.abs().argmax()) :]
