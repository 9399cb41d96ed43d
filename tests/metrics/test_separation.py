from functools import partial

import fast_bss_eval
import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import (
    scale_invariant_signal_distortion_ratio,
    signal_distortion_ratio,
)

from src.metrics.separation import Pesq, SdrImprovement, SiSdr, SiSdrImprovement, Stoi
from src.metrics.tracker import MetricTracker
from src.utils.si_sdr import si_sdr

KINDS = (SiSdr, SiSdrImprovement, SdrImprovement)


def batch_of(items, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sources = torch.randn(items, 2, 3000, generator=draw)
    noise = torch.randn(items, 2, 3000, generator=draw)
    return {
        "id": [str(i) for i in range(items)],
        "estimates": sources + torch.linspace(0.1, 1, items)[:, None, None] * noise,
        "sources": sources,
        "sources_length": torch.full((items,), 3000),
        "audio": sources.sum(1),
    }


def part(batch, rows):
    return {key: value[rows] for key, value in batch.items()}


def test_scores_and_means_for_any_batch_size():
    batch = batch_of(5)
    tracker = MetricTracker({"a": SiSdr(), "b": SiSdrImprovement(), "c": SdrImprovement()})
    rows = tracker.update(**part(batch, slice(0, 1))) + tracker.update(**part(batch, slice(1, 5)))
    values = tracker.compute()
    mixture = batch["audio"].unsqueeze(1).expand(-1, 2, -1)
    signals = (batch["estimates"], batch["sources"])
    after = scale_invariant_signal_distortion_ratio(*signals, zero_mean=True)
    before = scale_invariant_signal_distortion_ratio(mixture, batch["sources"], zero_mean=True)
    sdr = signal_distortion_ratio(*signals) - signal_distortion_ratio(mixture, batch["sources"])
    for name, expected in (("a", after), ("b", after - before), ("c", sdr)):
        assert values[name] == pytest.approx(expected.mean().item(), abs=1e-3)
        scores = [row[name] for row in rows]
        assert scores == pytest.approx(expected.mean(1).tolist(), abs=1e-3)
        assert np.mean(scores) == pytest.approx(values[name], rel=1e-12)


def test_scores_equal_those_of_fast_bss_eval():
    batch = batch_of(4)
    batch["sources"] += 0.1  # SI-SDR is that of signals without their means
    mixtures = batch["audio"].unsqueeze(1).expand(-1, 2, -1)
    # One channel each, so that it has no permutation to find.
    sources, estimates, mixtures = (
        signals.reshape(8, 1, -1).double().numpy()
        for signals in (batch["sources"], batch["estimates"], mixtures)
    )
    for kind, measure in (
        (SiSdrImprovement, partial(fast_bss_eval.si_sdr, zero_mean=True)),
        (SdrImprovement, fast_bss_eval.sdr),
    ):
        expected = measure(sources, estimates) - measure(sources, mixtures)
        assert kind().update(**batch) == pytest.approx(expected.reshape(4, 2).mean(1), abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_utterance_score_equals_metric_of_single_utterance(kind):
    batch = batch_of(3)
    batch["sources"][1, :, 2000:] = 0
    batch["sources_length"][1] = 2000
    scores = kind().update(**batch)
    for i, size in enumerate(batch["sources_length"].tolist()):
        alone, own = kind(), part(batch, slice(i, i + 1))
        for key in ("estimates", "sources", "audio"):
            own[key] = own[key][..., :size]
        alone.update(**own)
        assert alone.compute()[""] == pytest.approx(scores[i], abs=1e-4)


def test_estimates_that_are_not_finite_are_not_perfect():
    batch = batch_of(2)
    batch["estimates"][1, 0, 7] = float("nan")
    for kind in KINDS:
        first, second = kind().update(**batch)
        assert np.isfinite(first) and np.isnan(second)


@pytest.mark.parametrize("kind", KINDS)
def test_silent_sources_are_ignored(kind):
    batch = batch_of(3)
    batch["sources"][0, 1] = 0
    batch["sources"][1] = 0
    metric = kind()
    scores = metric.update(**batch)
    assert scores[1] is None and np.isfinite([scores[0], scores[2]]).all()
    assert metric.compute()[""] == pytest.approx((scores[0] + scores[2]) / 2)
    one_source = {**part(batch, slice(0, 1))}
    for key in ("estimates", "sources"):
        one_source[key] = one_source[key][:, :1]
    assert kind().update(**one_source) == pytest.approx(scores[:1], abs=1e-5)
    batch["sources"][:] = 0
    nothing = kind()
    assert nothing.update(**batch) == [None] * 3 and nothing.compute() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_means_for_each_number_of_speakers(kind):
    batch = batch_of(5)
    batch["sources"][:2, 1] = 0
    batch["sources"][4] = 0
    metric, parts = kind(by_number=True), [kind(by_number=True) for _ in range(2)]
    scores = metric.update(**batch)
    one, two = np.mean(scores[:2]), np.mean(scores[2:4])
    expected = {"": np.mean(scores[:4]), "1": one, "2": two}
    assert metric.compute() == {name: pytest.approx(mean) for name, mean in expected.items()}
    for process, rows in zip(parts, (slice(0, 3), slice(3, 5)), strict=True):
        process.update(**part(batch, rows))
    parts[0].merge(parts[1].terms)
    assert parts[0].compute() == pytest.approx(metric.compute(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_silent_estimates_have_a_finite_score(kind):
    batch = batch_of(2)
    batch["estimates"][1, 0] = 0
    assert np.isfinite(kind().update(**batch)).all()


@pytest.mark.parametrize("kind", [Pesq, Stoi])
def test_missing_package_gives_no_value(kind, monkeypatch):
    monkeypatch.setattr("src.metrics.separation.find_spec", lambda name: None)
    metric = kind(16000)
    assert metric.update(**batch_of(1)) is None
    assert metric.compute() == {} and metric.values == ()
    assert f"pip install {kind.package}" in metric.unavailable


def test_sdr_with_two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert np.isfinite(SdrImprovement().update(**batch_of(2))).all()
    finally:
        torch.set_num_threads(threads)


def test_perfect_estimate_has_the_highest_sdr():
    batch = batch_of(2)
    batch["estimates"] = batch["sources"].clone()
    assert min(SdrImprovement().update(**batch)) > 70


@pytest.mark.parametrize("kind", [SiSdrImprovement, SdrImprovement])
def test_mixture_identical_with_its_source_has_no_improvement(kind):
    batch, metric = batch_of(2), kind()
    metric.update(**batch)
    expected = metric.compute()[""]
    alone = {**batch, "sources": batch["sources"].clone()}
    alone["sources"][:, 1:] = 0
    alone["audio"] = alone["sources"][:, 0]
    assert metric.update(**alone) == [None, None]
    assert metric.compute()[""] == expected


def test_utterance_shorter_than_the_filter_has_no_sdr():
    metric, batch = SdrImprovement(), batch_of(2)
    scores = metric.update(**{**batch, "sources_length": torch.tensor([511, 512])})
    assert scores[0] is None and np.isfinite(scores[1])
    assert metric.compute()[""] == scores[1]


@pytest.mark.filterwarnings("ignore:Not enough STFT frames")
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_utterance_shorter_than_a_frame_has_no_stoi(sample_rate):
    pytest.importorskip("pystoi")
    metric, batch = Stoi(sample_rate), batch_of(2)
    sizes = torch.tensor([10, metric.min_length])
    scores = metric.update(**batch | {"sources_length": sizes})
    assert scores[0] is None and np.isfinite(scores[1])


@pytest.mark.parametrize(("kind", "best"), [(Stoi, 1.0), (Pesq, 4.5)])
def test_stoi_and_pesq_are_those_of_their_packages(kind, best):
    pytest.importorskip(kind.package)
    torch.manual_seed(0)
    seconds = torch.arange(16000) / 8000
    voice = torch.sin(2 * torch.pi * 200 * seconds) * (1 + torch.sin(2 * torch.pi * 3 * seconds))
    voice = (0.1 * voice + 0.01 * torch.randn(16000))[None, None]
    noisy = voice + 0.05 * torch.randn(1, 1, 16000)
    batch = {"sources": voice, "sources_length": torch.tensor([16000]), "audio": noisy[:, 0]}
    (same,), (worse,) = (kind(8000).update(estimates=e, **batch) for e in (voice, noisy))
    assert worse < same == pytest.approx(best, abs=0.1)


def test_pesq_supports_two_sample_rates():
    metric = Pesq(44100)
    assert metric.unavailable == "Pesq: sample_rate 44100 Hz, not 8000 or 16000 Hz."
    assert metric.compute() == {}


def test_higher_is_better():
    assert all(kind.higher_is_better for kind in (*KINDS, Pesq, Stoi))


def test_si_sdr_given_by_the_task_is_not_computed_again(monkeypatch):
    batch = batch_of(3)
    expected = [kind().update(**batch) for kind in KINDS]
    for key, signals in (("estimates", batch["estimates"]), ("mixture", batch["audio"][:, None])):
        batch[f"{key}_si_sdr"] = si_sdr(signals, batch["sources"], batch["sources_length"])
    monkeypatch.setattr("src.metrics.separation.si_sdr", None)
    assert [kind().update(**batch) for kind in KINDS] == expected


def test_each_si_sdr_of_a_metric_is_computed_once(monkeypatch):
    calls = []

    def counted(*signals):
        calls.append(signals)
        return si_sdr(*signals)

    monkeypatch.setattr("src.metrics.separation.si_sdr", counted)
    for kind, count in ((SiSdr, 1), (SiSdrImprovement, 2), (SdrImprovement, 1)):
        calls.clear()
        kind().update(**batch_of(2))
        assert len(calls) == count
