import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from src.datasets.loading.collate import collate
from src.logger.base import Writer
from src.loss.pit import PermutationInvariantSiSdr
from src.metrics.separation import SdrImprovement, SiSdr, SiSdrImprovement
from src.metrics.tracker import MetricTracker
from src.system import System
from src.tasks.separation import SeparationTask
from src.transforms.chain import Chain
from src.transforms.wave.cleaning import Loudness, measure_loudness
from src.utils.si_sdr import si_sdr

RATE = 8000


def sources_of(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class PerfectModel(torch.nn.Module):
    """Knows the sources of a recording, and returns them in a new permutation at every call."""

    def __init__(self, sources):
        super().__init__()
        self.sources, self.start = torch.nn.Parameter(sources, requires_grad=False), 0
        self.draw, self.hop = torch.Generator().manual_seed(0), 12 * RATE

    def forward(self, audio, audio_length, **_):
        size = audio.shape[1]
        sources = self.sources[:, self.start : self.start + size]
        assert torch.allclose(sources.sum(0), audio[0], atol=1e-3)
        self.start += self.hop
        return {"estimates": sources[torch.randperm(len(sources), generator=self.draw)][None]}


class Halves(torch.nn.Linear):
    """Returns the mixture twice; has a parameter, whose device is that of the model."""

    def forward(self, audio, **_):
        return {"estimates": torch.stack([audio, audio], 1)}


def write(path, sources, rate=RATE):
    soundfile.write(path, sources.sum(0).numpy(), rate, subtype="FLOAT")
    return path


def batch_of(sources, *sizes):
    length = torch.tensor(sizes or [sources.shape[2]] * len(sources))
    names = [f"item {i}" for i in range(len(sources))]
    batch = {"id": names, "audio": sources.sum(1), "audio_length": length}
    return batch | {"sources": sources, "sources_length": length}


def test_estimates_are_in_the_order_of_the_sources():
    batch = batch_of(sources_of(3, 2, 4000))
    noisy = batch["sources"] + 0.01 * sources_of(3, 2, 4000, seed=1)
    noisy[1] = noisy[1].flip(0)
    masks = torch.rand(3, 2, 8, 50)

    def model(**_):
        return {"estimates": noisy, "masks": masks, "masks_length": torch.tensor([50] * 3)}

    outputs = SeparationTask(RATE).decode(model, batch)
    assert outputs["permutation"].tolist() == [[0, 1], [1, 0], [0, 1]]
    assert torch.equal(outputs["estimates"][1], noisy[1].flip(0))
    assert torch.equal(outputs["masks"][1], masks[1].flip(0))
    assert torch.equal(outputs["masks"][::2], masks[::2])
    own = si_sdr(outputs["estimates"], batch["sources"], batch["audio_length"])
    assert own.min() > 35
    torch.testing.assert_close(outputs["estimates_si_sdr"], own, rtol=0, atol=1e-5)
    mixture = si_sdr(batch["audio"].unsqueeze(1), batch["sources"], batch["audio_length"])
    assert torch.equal(outputs["mixture_si_sdr"], mixture)


def test_si_sdr_is_computed_once_for_permutation_loss_and_metrics(monkeypatch):
    calls = []

    def counted(*signals):
        calls.append(signals)
        return si_sdr(*signals)

    for module in ("src.loss.pit", "src.tasks.separation", "src.metrics.separation"):
        monkeypatch.setattr(f"{module}.si_sdr", counted)
    kinds = {"SI-SDR": SiSdr, "SI-SDRi": SiSdrImprovement, "SDRi": SdrImprovement}
    tracker = MetricTracker({name: kind() for name, kind in kinds.items()})
    system = System(Halves(1, 1), SeparationTask(RATE), sample_rate=RATE)
    batch = batch_of(sources_of(2, 2, 4000)) | {"errors": [], "skipped": 0}
    batch = system.evaluation_step(batch, PermutationInvariantSiSdr())
    rows = tracker.update(**batch)
    assert np.mean([row["SI-SDR"] for row in rows]) == pytest.approx(-float(batch["loss"]))
    assert len(calls) == 2  # of all estimates for all sources, and of the mixtures


def test_without_sources_there_is_no_permutation():
    batch = {"audio": torch.ones(1, 5), "audio_length": torch.tensor([5]), "id": ["a"]}
    assert list(SeparationTask(RATE).decode(Halves(1, 1), batch)) == ["estimates"]


@pytest.mark.parametrize("level", ["mixture", "peak", "model"])
def test_postprocessing_replaces_no_keys(level):
    batch = batch_of(sources_of(2, 2, 4000), 4000, 3000)
    batch["estimates"] = 3 * batch["sources"]
    for key in ("audio", "sources"):
        batch[key][1, ..., 3000:] = 0
    outputs = SeparationTask(RATE, output_level=level).postprocess(**batch)
    assert not outputs.keys() & batch.keys()
    gain = {"mixture": 1.0, "peak": 0.9 / batch["sources"].abs().amax(2, keepdim=True), "model": 3}
    torch.testing.assert_close(
        outputs["estimates_written"], gain[level] * batch["sources"], rtol=1e-2, atol=1e-3
    )
    assert [row["num_speakers"] for row in outputs["rows"]] == [2, 2]


@pytest.mark.parametrize("level", ["mixture", "peak", "model"])
def test_activity_for_any_output_level(level):
    audio = sources_of(1, 4000)
    gain = 0.1 if level == "model" else 1e-3  # other levels are those of the mixture
    estimates = gain * torch.stack([audio, 1e-6 * sources_of(1, 4000, seed=1)], 1)
    batch = {"estimates": estimates, "audio": audio, "audio_length": torch.tensor([4000])}
    (row,) = SeparationTask(RATE, output_level=level).postprocess(**batch)["rows"]
    assert list(row) == ["energy_1", "active_1", "energy_2", "active_2", "num_active"]
    assert (row["active_1"], row["active_2"], row["num_active"]) == (1, 0, 1)
    level_dbfs = 10 * audio.square().mean().log10().item() - (20 if level == "model" else 0)
    assert row["energy_1"] == pytest.approx(level_dbfs, abs=0.1)
    task = SeparationTask(RATE, output_level=level, active_db=-15.0)
    assert task.postprocess(**batch)["rows"][0]["active_1"] == (level != "model")


def test_options_are_checked():
    with pytest.raises(ValueError, match="task.output_level: 'loud' is none of mixture, peak"):
        SeparationTask(RATE, output_level="loud")
    with pytest.raises(ValueError, match="task.active_db: 'foo'; a number that is finite."):
        SeparationTask(RATE, active_db="foo")
    with pytest.raises(ValueError, match="task.overlap: 4.0 seconds; .* below task.window, 3.0"):
        SeparationTask(RATE, window=3.0)


@pytest.mark.parametrize(("level", "gain"), [("mixture", 1.0), ("model", 0.5)])
def test_windows_have_the_level_of_the_mixture_or_of_the_model(tmp_path, level, gain):
    class Quieter(Halves):
        def forward(self, audio, **_):
            return {"estimates": torch.stack([0.5 * audio, 1e-3 * audio], 1)}

    path = write(tmp_path / "x.wav", sources_of(1, 3 * RATE))
    task = SeparationTask(RATE, 1.0, 0.25, output_level=level, active_db=-30.0)
    recording = task.decode(Quieter(1, 1), {"recording": [str(path)], "id": ["x"]})["separated"][0]
    (row,) = task.postprocess(separated=[recording])["rows"]
    assert row["num_active"] == 1
    written = recording.beginning(3)[0]
    torch.testing.assert_close(written, gain * sources_of(1, 3 * RATE)[0], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("level", ["mixture", "model"])
def test_windows_are_cleaned_and_keep_the_level_of_the_recording(tmp_path, level):
    class Listening(Halves):
        heard = ()

        def forward(self, audio, **_):
            self.heard = (*self.heard, measure_loudness(audio[0], RATE))
            return {"estimates": torch.stack([audio, 1e-3 * audio], 1)}

    audio = sources_of(1, 6 * RATE) * torch.linspace(-2, 0, 6 * RATE).pow(2)  # fades out
    path = write(tmp_path / "x.wav", audio)
    model, task = Listening(1, 1), SeparationTask(RATE, 1.0, 0.25, output_level=level)
    cleaning = Chain({"loudness": Loudness(-23.0, RATE)})
    system = System(model, task, sample_rate=RATE, inference_transforms=cleaning)
    batch = collate([{"id": "x", "path": str(path), "seed": 0, "recording": str(path)}])
    (recording,) = system.evaluation_step(batch)["separated"]
    assert len(model.heard) == 8 and model.heard[:6] == pytest.approx([-23.0] * 6, abs=0.1)
    torch.testing.assert_close(recording.beginning(6)[0], audio[0], rtol=0.02, atol=1e-3)


def test_permutation_is_constant_over_ten_minutes(tmp_path):
    sources = torch.cat([sources_of(2, 10 * RATE, seed=seed) for seed in range(60)], 1)
    path = write(tmp_path / "long.wav", sources)
    task, batch = SeparationTask(RATE), {"recording": [str(path)], "id": ["long"]}
    batch |= task.decode(PerfectModel(sources), batch)
    rows = task.postprocess(**batch)["rows"]
    assert rows[0]["active_1"] == rows[0]["active_2"] == 1
    task.save(tmp_path, **batch)
    written = np.stack([soundfile.read(tmp_path / f"s{k}/long.wav")[0] for k in (1, 2)])
    assert written.shape == sources.shape
    same = np.abs(written[0] - sources[0].numpy()).mean() < 0.01
    permutation = [0, 1] if same else [1, 0]
    assert np.abs(written[permutation] - sources.numpy()).max() < 0.02


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("frames", [100, 50_001])
def test_estimates_of_a_recording_have_its_length_and_sample_rate(tmp_path, rate, frames):
    path = write(tmp_path / "x.wav", sources_of(1, frames), rate)
    task, batch = SeparationTask(RATE, window=2.0, overlap=0.5), {"id": ["x"]}
    batch["recording"] = [str(path)]
    task.save(tmp_path, **batch, **task.decode(Halves(1, 1), batch))
    info = soundfile.info(tmp_path / "s2/x.wav")
    assert (info.frames, info.samplerate) == (frames, rate)


def test_estimates_with_references_have_the_length_and_sample_rate_of_the_file(tmp_path):
    batch = batch_of(sources_of(1, 2, 4000)) | {"file_rate": torch.tensor([16000])}
    batch |= {"file_frames": torch.tensor([7999]), "estimates": batch["sources"]}
    task = SeparationTask(RATE)
    task.save(tmp_path, **batch, **task.postprocess(**batch))
    info = soundfile.info(tmp_path / "s2/item 0.wav")
    assert (info.frames, info.samplerate) == (7999, 16000)


MEMORY = """
import resource, sys, torch
from pathlib import Path
from src.tasks.separation import SeparationTask

class Halves(torch.nn.Linear):
    def forward(self, audio, **_):
        return {"estimates": torch.stack([audio, audio], 1)}

torch.set_num_threads(1)
task, batch = SeparationTask(8000), {"recording": [sys.argv[1]], "id": ["x"]}
task.save(Path(sys.argv[2]), **batch, **task.decode(Halves(1, 1), batch))
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


class Recorder(Writer):
    def __init__(self):
        self.logged = []

    def audio(self, name, audio, sample_rate, step):
        self.logged.append(name)
        assert audio.abs().max() <= 1

    def image(self, name, image, step):
        self.logged.append(name)
        assert image.dtype == np.uint8


def test_media_for_the_writer():
    task, writer, batch = SeparationTask(RATE), Recorder(), batch_of(sources_of(2, 2, 4000))
    batch["estimates"] = 100 * batch["sources"]
    batch |= {"masks": torch.rand(2, 2, 8, 50), "masks_length": torch.tensor([50, 30])}
    task.show(writer, 3, "val", **batch, **task.postprocess(**batch))
    names = ["mixture", "estimate_1", "estimate_2", "reference_1", "reference_2", "signals"]
    assert writer.logged == [f"val/{name}" for name in names]


def test_picture_of_all_utterances():
    task = SeparationTask(RATE)
    picture = task.picture([{"SI-SDR": 12.0, "SI-SDRi": 11.0}, {"SI-SDR": 10.0}, {"id": "a"}])
    assert picture.dtype == np.uint8 and picture.ndim == 3
    assert task.picture([{"id": "a"}]) is None


def test_long_items_do_not_depend_on_their_batch():
    task = SeparationTask(RATE, window=1.0, overlap=0.25)
    audio = sources_of(2, 3 * RATE)
    sizes = torch.tensor([3 * RATE, 2 * RATE + 7])
    audio[1, sizes[1] :] = 0

    def model(audio, audio_length, **_):
        level = audio.square().mean(1, keepdim=True).sqrt()  # depends on the whole input
        return {"estimates": torch.stack([audio * level, audio - audio * level], 1)}

    both = task.decode(model, {"audio": audio, "audio_length": sizes, "id": ["a", "b"]})
    assert torch.equal(both["estimates_length"], sizes)
    for k, size in enumerate(sizes.tolist()):
        batch = {"audio": audio[k : k + 1, :size], "audio_length": sizes[k : k + 1], "id": ["a"]}
        alone = task.decode(model, batch)["estimates"]
        torch.testing.assert_close(both["estimates"][k : k + 1, :, :size], alone)
