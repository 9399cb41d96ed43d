import pytest
import torch
import torchaudio

from src.utils import resampling
from src.utils.resampling import resample


@pytest.mark.parametrize("rates", [(441, 80), (80, 441), (3, 2), (160, 147)], ids=str)
@pytest.mark.parametrize("size", [1, 50, 3001])
def test_direct_method_equals_torchaudio(monkeypatch, rates, size):
    # In float32 the weights of torchaudio themselves are 1e-5 off.
    audio = torch.randn(2, size, dtype=torch.float64, generator=torch.manual_seed(0))
    wanted = torchaudio.functional.resample(audio, *rates)
    monkeypatch.setattr(resampling, "TABLE", 0)
    monkeypatch.setattr(resampling, "PIECE", 100)
    torch.testing.assert_close(resample(audio, *rates), wanted, rtol=0, atol=1e-12)


def test_rates_without_a_common_divisor():
    times = torch.arange(22257) / 22257
    output = resample(torch.sin(2 * torch.pi * 440 * times), 22257, 8000)
    assert output.shape == (8000,)
    wanted = torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 8000)
    torch.testing.assert_close(output[100:-100], wanted[100:-100], rtol=0, atol=2e-3)


def test_empty_audio():
    assert resample(torch.zeros(0), 22257, 8000).shape == (0,)
