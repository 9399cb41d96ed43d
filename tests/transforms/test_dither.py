import pytest
import torch

from src.transforms.wave.dither import Dither


def dithered(seeds, lengths, amplitude=0.1):
    audio = torch.zeros(len(lengths), max(lengths))
    batch = {"audio": audio, "audio_length": torch.tensor(lengths), "seed": torch.tensor(seeds)}
    return Dither(amplitude)(**batch)["audio"]


def test_noise_is_normal():
    noise = dithered([3], [200_000])[0] / 0.1
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    assert (noise**4).mean().item() == pytest.approx(3, abs=0.1)
    assert (noise[1:] * noise[:-1]).mean().item() == pytest.approx(0, abs=0.01)


def test_independent_of_batch():
    together = dithered([1, 2, 1], [1001, 400, 1000])
    assert torch.equal(together[1][:400], dithered([2], [400])[0])
    assert not together[1][400:].any()
    assert torch.equal(together[0][:1000], together[2][:1000])
    assert not torch.equal(together[0][:400], together[1][:400])
