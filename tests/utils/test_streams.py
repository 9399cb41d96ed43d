import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from src.utils.resampling import resampled
from src.utils.streams import crossfaded, read_blocks


@pytest.mark.parametrize(
    ("own", "rate"), [(44100, 8000), (8000, 44100), (16000, 8000), (48000, 16000), (11025, 16000)]
)
@pytest.mark.parametrize("size", [1, 30, 5000, 44123])
def test_resampling_blocks_equals_resampling_all(own, rate, size):
    audio = torch.randn(2, size, generator=torch.Generator().manual_seed(0))
    blocks = audio.split(3001, dim=1)
    output = torch.cat(list(resampled(blocks, own, rate)), 1)
    wanted = resample(audio, own, rate)
    assert output.shape == wanted.shape
    torch.testing.assert_close(output, wanted, rtol=1e-5, atol=1e-5)


def test_blocks_of_a_file(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2500, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 1000, subtype="FLOAT")
    blocks = list(read_blocks(tmp_path / "x.wav", seconds=1.0))
    assert [len(block) for block in blocks] == [1000, 1000, 500]
    torch.testing.assert_close(torch.cat(blocks), torch.from_numpy(samples).mean(1))


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no.wav: no such audio file"):
        list(read_blocks(tmp_path / "no.wav"))
    soundfile.write(tmp_path / "nan.wav", np.full(10, np.nan), 1000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"nan.wav: has samples that are not finite"):
        list(read_blocks(tmp_path / "nan.wav"))


def test_crossfading_files(tmp_path):
    first, second = np.full(25_003, 0.25), np.full(25_003, 0.5)
    for name, samples in (("a", first), ("b", second)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 1000, subtype="FLOAT")
    weights = np.zeros(2500)
    weights[1000:1500] = 1
    paths = tmp_path / "a.wav", tmp_path / "b.wav"
    blocks = list(crossfaded(*paths, weights, seconds=0.01, gain=2.0))
    assert len(blocks) == 3
    torch.testing.assert_close(torch.cat(blocks), torch.full((25_003,), 0.5))
    mixed = torch.cat(list(crossfaded(*paths, weights, seconds=0.01)))
    assert (mixed[:9995] == 0.5).all() and (mixed[10_005:14_995] == 0.25).all()
    assert (mixed[15_005:] == 0.5).all()
    assert mixed.diff().abs().max() <= 0.026
