import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    signal_distortion_ratio,
)

from src.metrics.separation import Pesq, SdrImprovement, SiSdr, SiSdrImprovement, Stoi
from src.metrics.tracker import MetricTracker


def batch_of(items, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sources = torch.randn(items, 2, 3000, generator=draw)
    noise = torch.randn(items, 2, 3000, generator=draw)
    return {
        "id": [str(i) for i in range(items)],
        "skipped": 0,
        "estimates": sources + torch.linspace(0.1, 1, items)[:, None, None] * noise,
        "sources": sources,
        "sources_length": torch.full((items,), 3000),
        "audio": sources.sum(1),
    }


def part(batch, rows):
    return {k: v[rows] if isinstance(v, list | torch.Tensor) else v for k, v in batch.items()}


def test_means_of_utterances_whatever_the_batches():
    batch = batch_of(5)
    names = {"a": SiSdr(), "b": SiSdrImprovement(), "c": SdrImprovement()}
    tracker = MetricTracker(names)
    for rows in (slice(0, 1), slice(1, 5)):
        tracker.update(**part(batch, rows))
    found = tracker.compute()
    mixture = batch["audio"].unsqueeze(1).expand(-1, 2, -1)
    given = (batch["estimates"], batch["sources"])
    after = scale_invariant_signal_distortion_ratio(*given, zero_mean=True)
    before = scale_invariant_signal_distortion_ratio(mixture, batch["sources"], zero_mean=True)
    assert found["a"] == pytest.approx(after.mean().item(), abs=1e-4)
    assert found["b"] == pytest.approx((after - before).mean().item(), abs=1e-4)
    plain = signal_distortion_ratio(*given) - signal_distortion_ratio(mixture, batch["sources"])
    assert found["c"] == pytest.approx(plain.mean().item(), abs=1e-3)


def test_padding_and_silent_sources_count_nothing():
    batch = batch_of(2)
    alone = SiSdr()
    alone.update(**{k: v[:1, ..., :2000] if k in KEYS else v for k, v in short(batch).items()})
    batch["sources"][0, :, 2000:] = 0
    batch["sources_length"][0] = 2000
    batch["sources"][1] = 0
    padded = SiSdr()
    padded.update(**batch)
    assert padded.compute()[""] == pytest.approx(alone.compute()[""], abs=1e-4)


KEYS = ("estimates", "sources", "audio")


def short(batch):
    return {**batch, "sources_length": torch.tensor([2000])}


@pytest.mark.parametrize("kind", [Pesq, Stoi])
def test_without_its_package_there_is_no_figure(kind, monkeypatch):
    monkeypatch.setattr("src.metrics.separation.find_spec", lambda name: None)
    metric = kind(16000)
    metric.update(**batch_of(1))
    assert metric.compute() == {} and metric.figures == ()


def test_silence_has_figures_where_some_source_is_heard():
    batch = batch_of(2)
    batch["sources"][0, 1] = 0
    batch["estimates"][1, 0] = 0
    for metric in (SiSdr(), SiSdrImprovement(), SdrImprovement()):
        metric.update(**batch)
        assert np.isfinite(metric.compute()[""])
    batch["sources"][:] = 0
    nothing = SdrImprovement()
    nothing.update(**batch)
    assert nothing.total("utterances") == 0


def test_sdr_by_two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        metric = SdrImprovement()
        metric.update(**batch_of(2))
        assert np.isfinite(metric.compute()[""])
    finally:
        torch.set_num_threads(threads)


def test_a_perfect_estimate_has_the_best_sdr():
    batch = batch_of(2)
    batch["estimates"] = batch["sources"].clone()
    metric = SdrImprovement()
    metric.update(**batch)
    assert metric.compute()[""] > 70


@pytest.mark.parametrize("kind", [SiSdrImprovement, SdrImprovement])
def test_a_mixture_that_is_its_source_cannot_improve(kind):
    batch, metric = batch_of(2), kind()
    metric.update(**batch)
    wanted = metric.compute()[""]
    alone = {**batch, "sources": batch["sources"].clone()}
    alone["sources"][:, 1:] = 0
    alone["audio"] = alone["sources"][:, 0]
    metric.update(**alone)
    assert metric.compute()[""] == wanted


def test_an_utterance_shorter_than_the_filter_has_no_sdr():
    metric, batch = SdrImprovement(), batch_of(2)
    metric.update(**batch)
    wanted = metric.compute()[""]
    metric.update(**{**batch, "sources_length": torch.tensor([16, 100])})
    assert metric.compute()[""] == wanted


@pytest.mark.parametrize(("kind", "best"), [(Stoi, 1.0), (Pesq, 4.5)])
def test_stoi_and_pesq_are_those_of_their_packages(kind, best):
    pytest.importorskip(kind.package)
    torch.manual_seed(0)
    seconds = torch.arange(16000) / 8000
    voice = torch.sin(2 * torch.pi * 200 * seconds) * (1 + torch.sin(2 * torch.pi * 3 * seconds))
    voice = (0.1 * voice + 0.01 * torch.randn(16000))[None, None]
    noisy = voice + 0.05 * torch.randn(1, 1, 16000)
    batch = {"sources": voice, "sources_length": torch.tensor([16000]), "audio": noisy[:, 0]}
    same, worse = kind(8000), kind(8000)
    same.update(estimates=voice, **batch)
    worse.update(estimates=noisy, **batch)
    assert worse.compute()[""] < same.compute()[""] == pytest.approx(best, abs=0.1)


def test_pesq_knows_two_rates():
    assert "not 44100" in Pesq(44100).missing and Pesq(44100).compute() == {}
