import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from src.logger.base import Writer
from src.tasks.separation import SeparationTask, levelled
from src.utils.si_sdr import si_sdr

RATE = 8000


def sources_of(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class StandIn(torch.nn.Module):
    """Knows the sources of a recording, and gives them in another order at every call."""

    def __init__(self, sources):
        super().__init__()
        self.sources, self.at = torch.nn.Parameter(sources, requires_grad=False), 0
        self.draw, self.hop = torch.Generator().manual_seed(0), 12 * RATE

    def forward(self, audio, audio_length, **_):
        size = audio.shape[1]
        found = self.sources[:, self.at : self.at + size]
        assert torch.allclose(found.sum(0), audio[0], atol=1e-3)
        self.at += self.hop
        return {"estimates": found[torch.randperm(len(found), generator=self.draw)][None]}


def write(path, sources, rate=RATE):
    soundfile.write(path, sources.sum(0).numpy(), rate, subtype="FLOAT")
    return path


def test_estimates_come_in_the_order_of_their_targets():
    sources = sources_of(3, 2, 4000)
    estimates = sources.clone()
    estimates[1] = estimates[1].flip(0)
    estimates += 0.01 * sources_of(3, 2, 4000, seed=1)
    length = torch.tensor([4000, 4000, 4000])
    batch = {"estimates": estimates, "sources": sources, "audio": sources.sum(1)}
    found = SeparationTask(RATE).postprocess(id=["a", "b", "c"], audio_length=length, **batch)
    ratio = si_sdr(found["estimates"], sources, length)
    assert ratio.min() > 35
    for row, own in zip(found["rows"], ratio, strict=True):
        assert row["SI-SDR"] == pytest.approx(own.mean().item(), abs=1e-2)
        assert row["SI-SDRi"] == pytest.approx(row["SI-SDR"], abs=1.5)
        assert row["active_1"] == row["active_2"] == 1


def test_levels():
    sources = sources_of(2, 2, 4000)
    audio = sources.sum(1)
    strange = sources * torch.tensor([[[-30.0], [0.01]], [[2.0], [-1.0]]])
    torch.testing.assert_close(levelled(strange, audio, "mixture"), sources, rtol=0.1, atol=0.01)
    assert levelled(strange, audio, "model") is strange
    peaks = levelled(strange, audio, "peak").abs().amax(-1)
    torch.testing.assert_close(peaks, torch.full((2, 2), 0.9))
    for level in ("mixture", "peak", "model"):
        silent = levelled(torch.zeros(1, 2, 100), torch.zeros(1, 100), level)
        assert not silent.any() and silent.isfinite().all()
    with pytest.raises(ValueError, match="output_level 'loud'"):
        SeparationTask(RATE, output_level="loud")


@pytest.mark.parametrize("level", ["mixture", "peak", "model"])
def test_a_voice_is_active_whatever_the_output_level(level):
    audio = sources_of(1, 4000)
    streams = 1e-3 * torch.stack([audio, 1e-6 * sources_of(1, 4000, seed=1)], 1)
    batch = {"estimates": streams, "audio": audio, "audio_length": torch.tensor([4000])}
    (row,) = SeparationTask(RATE, output_level=level).postprocess(id=["a"], **batch)["rows"]
    assert (row["active_1"], row["active_2"]) == (1, 0)


def test_what_is_next_to_nothing_stays_so():
    audio = sources_of(1, 500)
    found = levelled(torch.stack([audio, 1e-4 * audio], 1), audio, "mixture")
    assert found[0, 1].abs().max() < 1e-3 * audio.abs().max()


def test_equal_streams_share_the_mixture():
    audio = sources_of(1, 500)
    streams = torch.stack([audio, audio], 1)
    found = levelled(streams, audio, "mixture")
    torch.testing.assert_close(found, 0.5 * streams, rtol=1e-3, atol=1e-5)


def test_a_silent_source_is_not_scored():
    sources = sources_of(1, 2, 4000)
    sources[0, 1] = 0
    batch = {"estimates": sources, "sources": sources, "audio": sources.sum(1)}
    found = SeparationTask(RATE).postprocess(id=["a"], audio_length=torch.tensor([4000]), **batch)
    assert found["rows"][0]["SI-SDR"] > 60
    assert found["rows"][0]["active_2"] == 0


def test_ten_minutes_of_sixty_mixtures_keep_their_order(tmp_path):
    sources = torch.cat([sources_of(2, 10 * RATE, seed=seed) for seed in range(60)], 1)
    path = write(tmp_path / "long.wav", sources)
    task = SeparationTask(RATE)
    found = task.run(StandIn(sources), recording=[str(path)], id=["long"])
    rows = task.postprocess(id=["long"], **found)["rows"]
    assert rows[0]["active_1"] == rows[0]["active_2"] == 1
    task.save_batch(tmp_path, id=["long"], **found)
    streams = np.stack([soundfile.read(tmp_path / f"s{k}/long.wav")[0] for k in (1, 2)])
    assert streams.shape == sources.shape
    order = [0, 1] if np.abs(streams[0] - sources[0].numpy()).mean() < 0.01 else [1, 0]
    assert np.abs(streams[order] - sources.numpy()).max() < 0.02


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("frames", [100, 50_001])
def test_length_and_rate_are_those_of_the_recording(tmp_path, rate, frames):
    path = write(tmp_path / "x.wav", sources_of(1, frames), rate)

    class Half(torch.nn.Linear):
        def forward(self, audio, **_):
            return {"estimates": torch.stack([audio, audio], 1)}

    task = SeparationTask(RATE, window=2.0, overlap=0.5)
    found = task.run(Half(1, 1), recording=[str(path)], id=["x"])
    task.save_batch(tmp_path, id=["x"], **found)
    info = soundfile.info(tmp_path / "s2/x.wav")
    assert (info.frames, info.samplerate) == (frames, rate)


MEMORY = """
import resource, sys, torch
from src.tasks.separation import SeparationTask

class Half(torch.nn.Linear):
    def forward(self, audio, **_):
        return {"estimates": torch.stack([audio, audio], 1)}

torch.set_num_threads(1)
task = SeparationTask(8000)
found = task.run(Half(1, 1), recording=[sys.argv[1]], id=["x"])
from pathlib import Path
task.save_batch(Path(sys.argv[2]), id=["x"], **found)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_recording(tmp_path):
    peaks = []
    for minutes in (1, 30):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 16000, 1, subtype="PCM_16") as file:
            for seed in range(minutes):
                file.write(0.1 * np.random.default_rng(seed).standard_normal(60 * 16000))
        command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.1 * peaks[0]


class Notes(Writer):
    def __init__(self):
        self.seen = []

    def audio(self, name, audio, sample_rate, step):
        self.seen.append(name)
        assert audio.abs().max() <= 1

    def image(self, name, image, step):
        self.seen.append(name)
        assert image.dtype == np.uint8


def test_what_the_writer_gets():
    sources, task, writer = sources_of(2, 2, 4000), SeparationTask(RATE), Notes()
    batch = {"estimates": sources, "sources": sources, "audio": sources.sum(1)}
    batch |= {"audio_length": torch.tensor([4000, 3000])}
    batch |= {"masks": torch.rand(2, 2, 8, 50), "masks_length": torch.tensor([50, 30])}
    batch |= task.postprocess(id=["a", "b"], **batch)
    task.log_batch(writer, 3, "val", id=["a", "b"], **batch)
    wanted = ["mixture", "estimate_1", "estimate_2", "reference_1", "reference_2", "signals"]
    assert writer.seen == [f"val/{name}" for name in wanted]
    picture = task.picture(batch["rows"])
    assert picture.dtype == np.uint8 and picture.ndim == 3
    assert task.picture([{"id": "a"}]) is None


def test_long_items_are_heard_in_windows_whatever_their_batch():
    task = SeparationTask(RATE, window=1.0, overlap=0.25)
    audio = sources_of(2, 3 * RATE)
    sizes = torch.tensor([3 * RATE, 2 * RATE + 7])
    audio[1, sizes[1] :] = 0

    def model(audio, audio_length, **_):
        whole = audio.square().mean(1, keepdim=True).sqrt()  # depends on all that is heard
        return {"estimates": torch.stack([audio * whole, audio - audio * whole], 1)}

    both = task.run(model, audio=audio, audio_length=sizes, id=["a", "b"])["estimates"]
    for k, size in enumerate(sizes.tolist()):
        own = audio[k : k + 1, :size]
        alone = task.run(model, audio=own, audio_length=sizes[k : k + 1], id=["a"])["estimates"]
        torch.testing.assert_close(both[k : k + 1, :, :size], alone)


def test_streams_that_came_upside_down_do_not_blow_up():
    voice = sources_of(1, 800)
    found = levelled(torch.stack([0.5 * voice, -0.495 * voice], 1), voice, "mixture")
    torch.testing.assert_close(found.sum(1), voice, rtol=0.02, atol=0.02)
    assert found.abs().max() < voice.abs().max()
