import pytest
import torch

from src.utils.levels import LEVELS, apply_level, limit_peak


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_levels():
    sources = noise(2, 2, 4000)
    audio = sources.sum(1)
    scaled = sources * torch.tensor([[[-30.0], [0.01]], [[2.0], [-1.0]]])
    torch.testing.assert_close(apply_level(scaled, audio, "mixture"), sources, rtol=0.1, atol=0.01)
    assert apply_level(scaled, audio, "model") is scaled
    peaks = apply_level(scaled, audio, "peak").abs().amax(-1)
    torch.testing.assert_close(peaks, torch.full((2, 2), 0.9))


@pytest.mark.parametrize("level", LEVELS)
def test_silence_stays_silent(level):
    silent = apply_level(torch.zeros(1, 2, 100), torch.zeros(1, 100), level)
    assert not silent.any() and silent.isfinite().all()


def test_almost_silent_estimates_stay_almost_silent():
    audio = noise(1, 500)
    scaled = apply_level(torch.stack([audio, 1e-4 * audio], 1), audio, "mixture")
    assert scaled[0, 1].abs().max() < 1e-3 * audio.abs().max()


def test_equal_estimates_have_equal_gains():
    audio = noise(1, 500)
    estimates = torch.stack([audio, audio], 1)
    scaled = apply_level(estimates, audio, "mixture")
    torch.testing.assert_close(scaled, 0.5 * estimates, rtol=1e-3, atol=1e-5)


def test_estimates_with_inverted_sign_do_not_cancel():
    audio = noise(1, 800)
    scaled = apply_level(torch.stack([0.5 * audio, -0.495 * audio], 1), audio, "mixture")
    torch.testing.assert_close(scaled.sum(1), audio, rtol=0.02, atol=0.02)
    assert scaled.abs().max() < audio.abs().max()


def test_peaks_are_limited_by_one_common_factor():
    audio = torch.tensor([[0.5, -2.0], [1.0, 0.0]])
    torch.testing.assert_close(limit_peak(audio), audio / 2)
    assert torch.equal(limit_peak(0.1 * audio), 0.1 * audio)
