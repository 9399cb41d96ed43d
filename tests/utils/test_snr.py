import pytest
import torch

from src.utils.snr import estimate_snr

RATE = 16000


def bursts(seconds=10):
    """Half a second of a tone of power 0.02, half a second of silence, and so on."""
    time = torch.arange(seconds * RATE) / RATE
    return 0.2 * torch.sin(2 * torch.pi * 300 * time) * (time % 1 < 0.5)


@pytest.mark.parametrize("snr", [0, 10, 30])
def test_estimate_of_known_noise(snr):
    speech, generator = bursts(), torch.Generator().manual_seed(0)
    noise = torch.randn(len(speech), generator=generator)
    noise *= (speech.square().mean() / noise.square().mean() / 10 ** (snr / 10)).sqrt()
    assert estimate_snr(speech + noise, RATE) == pytest.approx(snr, abs=1.5)


def test_silence_clean_and_short_audio():
    assert estimate_snr(torch.zeros(RATE), RATE) == -10
    assert estimate_snr(bursts(), RATE) == pytest.approx(70, abs=1)  # over the floor
    assert estimate_snr(bursts()[: RATE // 4], RATE) is None
