from importlib.machinery import ModuleSpec

import pytest
import torch
from omegaconf import OmegaConf

from src.config import compose_experiment
from src.metrics.non_intrusive import DnsMos, Leakage, Nisqa, Residual
from src.metrics.tracker import MetricTracker
from src.tasks.separated_recording import SeparatedRecording, products_of
from src.tasks.separation import SeparationTask

RATE = 8000


def voices(size=4 * RATE):
    return 0.1 * torch.randn(2, size, generator=torch.Generator().manual_seed(0))


def scored(metric, mixture, estimates):
    products = products_of(mixture[None], estimates[None])
    active = estimates.square().sum(1) > 1e-4 * mixture.square().sum()
    row = {f"active_{k}": int(own) for k, own in enumerate(active, 1)}
    return metric().update(signal_products=products, rows=[row])[0]


def test_leakage_is_the_energy_of_the_other_voice():
    a, b = voices()
    for decibels in (-10, -30):
        gain = 10 ** (decibels / 20)
        leaking = torch.stack([a, b + gain * a])
        wanted = 10 * torch.log10(torch.tensor(gain**2 / (1 + gain**2))).item()
        assert scored(Leakage, a + b, leaking) == pytest.approx(wanted, abs=1.5)
    assert scored(Leakage, a + b, torch.stack([a, a])) == pytest.approx(0, abs=1e-6)
    assert scored(Leakage, a, torch.stack([a, 1e-4 * b])) is None, "only one isn't silent"


def test_residual_is_what_no_gains_explain():
    a, b = voices()
    noise = 0.1 * voices()[0].flip(0)
    assert scored(Residual, a + b, torch.stack([3 * a, 0.1 * b])) == pytest.approx(-80, abs=1)
    assert scored(Residual, a + b + noise, torch.stack([a, b])) == pytest.approx(-23, abs=0.5)
    assert scored(Residual, a + b, torch.zeros(2, len(a))) == 0
    assert scored(Residual, 0 * a, torch.stack([a, b])) is None


def test_recordings_are_scored_as_batches(tmp_path):
    estimates = voices()
    mixture = estimates.sum(0) + 0.01 * torch.randn(estimates.shape[1])
    recording = SeparatedRecording(RATE)
    read = recording.measure_mixture(mixture.split(3000))
    blocks = iter(estimates.split(700, 1))
    for _ in read:  # estimates come later than the mixture, in other blocks
        for block in blocks:
            recording.write(block)
            if recording.frames + 700 > recording.mixture_frames:
                break
    for block in blocks:
        recording.write(block)
    task = SeparationTask(RATE, window=2.0, overlap=0.5)
    on_disk = task.postprocess(separated=[recording])
    size = torch.tensor([len(mixture)])
    padded = torch.nn.functional.pad(estimates, (0, 100))[None]
    audio = torch.nn.functional.pad(mixture, (0, 100))[None]
    batch = task.postprocess(estimates=padded, audio=audio, audio_length=size)
    assert [row["active_2"] for row in on_disk["rows"] + batch["rows"]] == [1, 1]
    for metric in (Leakage, Residual):
        (expected,) = metric().update(**batch)
        assert metric().update(**on_disk) == [pytest.approx(expected, abs=0.2)]


def installed(name):
    return ModuleSpec(name, None)


@pytest.mark.parametrize("kind", [DnsMos, Nisqa])
def test_without_packages_or_weights_there_is_no_value(kind, monkeypatch, caplog):
    monkeypatch.setattr("src.metrics.non_intrusive.find_spec", lambda name: None)
    metric = kind(RATE)
    assert metric.update(rows=[{}]) is None and metric.compute() == {} and metric.values == ()
    assert f"{kind.__name__}: needs `pip install librosa" in caplog.text
    monkeypatch.setattr("src.metrics.non_intrusive.find_spec", installed)

    def offline(self, signal, sample_rate):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(kind, "rate", offline)
    metric = kind(RATE)
    assert metric.update(rows=[{}]) is None and metric.compute() == {}
    assert f"{kind.__name__}: its weights can't be fetched, or read from ~/." in caplog.text
    assert f"(ConnectionError); {kind.remedy}" in caplog.text


def test_opinion_scores_are_means_over_pieces_that_are_heard(monkeypatch):
    monkeypatch.setattr("src.metrics.non_intrusive.find_spec", installed)
    rated = []

    def rate(self, signal, sample_rate):
        rated.append((len(signal), sample_rate))
        return [float(len(rated))] * 4

    monkeypatch.setattr(DnsMos, "rate", rate)
    tracker = MetricTracker({"DNSMOS": DnsMos(RATE)})
    speech = torch.cat([voices(31 * RATE), torch.zeros(2, RATE)], 1)
    batch = {
        "id": ["a", "b"],
        "rows": [{"active_1": 1, "active_2": 0}, {"active_1": 0, "active_2": 0}],
        "estimates_written": torch.stack([speech, 0 * speech]),
        "estimates_written_length": torch.tensor([32 * RATE, RATE]),
        "skipped": 0,
    }
    rows = tracker.update(**batch)
    assert rated == [(16000, 16000), (30 * RATE, RATE), (2 * RATE, RATE)]
    wanted = pytest.approx((30 * 2 + 2 * 3) / 32)  # by duration; the first rating was of noise
    assert rows == [{"DNSMOS": wanted}, {}]
    assert tracker.compute()["DNSMOS_background"] == wanted


def test_no_opinion_scores_where_nothing_is_heard(monkeypatch):
    monkeypatch.setattr("src.metrics.non_intrusive.find_spec", installed)
    monkeypatch.setattr(DnsMos, "rate", lambda self, signal, sample_rate: [1.0] * 4)
    metric = DnsMos(RATE)
    estimates, length = torch.zeros(1, 2, RATE), torch.tensor([RATE])
    batch = {"estimates_written": estimates, "estimates_written_length": length}
    assert metric.update(rows=[{"active_1": 0, "active_2": 0}], **batch) == [None]
    assert metric.compute() == {}


def test_dnsmos_takes_the_weights_of_an_installed_package(tmp_path, monkeypatch):
    package, folder = tmp_path / "speechmos", tmp_path / "torchmetrics"
    (package / "dnsmos_models").mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("model_v8.onnx", "sig_bak_ovr.onnx"):
        (package / "dnsmos_models" / name).write_text(f"weights {name}")
    (folder / "DNSMOS").mkdir(parents=True)
    (folder / "DNSMOS" / "model_v8.onnx").write_text("weights model_v8.OOPS")  # as long
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DnsMos, "packages", ())
    monkeypatch.setattr(DnsMos, "weights", str(folder))
    read = []

    def rate(self, signal, sample_rate):
        read.append({path.name: path.read_text() for path in (folder / "DNSMOS").iterdir()})
        return [1.0] * 4

    monkeypatch.setattr(DnsMos, "rate", rate)
    DnsMos(RATE).update(rows=[])
    names = ("model_v8.onnx", "sig_bak_ovr.onnx")
    assert read == [{name: f"weights {name}" for name in names}]


def test_dnsmos_does_without_the_files_of_a_package(tmp_path, monkeypatch):
    (tmp_path / "speechmos.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DnsMos, "packages", ())
    monkeypatch.setattr(DnsMos, "weights", str(tmp_path / "torchmetrics"))
    monkeypatch.setattr(DnsMos, "rate", lambda self, signal, sample_rate: [1.0] * 4)
    metric = DnsMos(RATE)
    assert metric.update(rows=[]) == [] and not (tmp_path / "torchmetrics").exists()


def test_opinion_scores_of_conversations():
    config = compose_experiment("inference_conversation", "metrics=[conversation,mos]")
    assert {"cpWER", "DNSMOS"} <= set(config.metrics)
    assert OmegaConf.to_container(config.metrics, resolve=True)["NISQA"]["sample_rate"] == 16000
