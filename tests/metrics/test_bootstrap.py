import tracemalloc

import jiwer
import numpy as np
import pytest

from src.metrics.bootstrap import paired_bootstrap, sums_of_clusters
from src.metrics.wer import WER


def texts(rng, size):
    """References, and hypotheses of two systems with 20 % and 15 % of the words wrong."""
    references = [[f"w{word}" for word in rng.integers(0, 99, rng.integers(3, 15))] for _ in size]
    return references, *(
        [[word if rng.random() > p else "x" for word in words] for words in references]
        for p in (0.2, 0.15)
    )


def counts(references, *systems):
    """Errors and reference lengths, [R, N] each."""
    rows = [
        [
            WER().fraction(0.0, {"target": " ".join(a), "prediction": " ".join(b)})
            for a, b in zip(references, hypotheses, strict=True)
        ]
        for hypotheses in systems
    ]
    return np.array(rows).transpose(2, 0, 1)


def test_intervals_are_those_of_kaldialign():
    kaldialign = pytest.importorskip("kaldialign")
    references, first, second = texts(np.random.default_rng(0), range(400))
    theirs = kaldialign.bootstrap_wer_ci(references, first, second)
    ours = paired_bootstrap(*counts(references, first, second))
    for i, key in enumerate(("system1", "system2")):
        interval, width = ours.interval(i), 2 * theirs[key]["ci95"]
        joined = [[" ".join(one) for one in side] for side in (references, (first, second)[i])]
        assert interval.value == pytest.approx(jiwer.wer(*joined), abs=1e-12)
        # 10,000 draws know a limit to about 2 % of the width of the interval.
        assert interval.low == pytest.approx(theirs[key]["ci95min"], abs=0.04 * width)
        assert interval.high == pytest.approx(theirs[key]["ci95max"], abs=0.04 * width)
    improved = (ours.drawn[:, 1] < ours.drawn[:, 0]).mean()
    assert improved == pytest.approx(theirs["p_s2_improv_over_s1"], abs=0.01)


def simulated(rng, speakers, effect):
    """Errors of two systems, reference lengths, and speakers, who differ in difficulty.

    Each speaker suits one of the systems better by chance; `effect` is the true difference.
    """
    members = np.repeat(np.arange(speakers), 15)
    difficulty = np.repeat(rng.uniform(0.1, 0.3, speakers), 15)
    suits = np.repeat(rng.normal(effect, 0.03, speakers), 15)
    length = rng.integers(3, 15, len(members))
    errors = [rng.binomial(length, difficulty), rng.binomial(length, difficulty + suits)]
    return np.stack(errors), np.stack([length, length]), members


def found(speakers, effect, grouped=True):
    """In how many of 100 repeats a difference is found, by p-values and by intervals."""
    by_p = by_interval = 0
    for repeat in range(100):
        errors, length, members = simulated(np.random.default_rng(repeat), speakers, effect)
        chosen = members if grouped else None
        difference = paired_bootstrap(errors, length, chosen, 1000, repeat).difference(0, 1)
        by_p += difference.p < 0.05
        by_interval += not difference.low <= 0 <= difference.high
    return by_p, by_interval


@pytest.mark.parametrize("speakers", [7, 40])
def test_no_difference_is_found_where_there_is_none(speakers):
    assert max(found(speakers, 0.0)) <= 10  # 5 are expected, with a standard deviation of 2.2


def test_a_planted_difference_is_found():
    assert min(found(40, 0.04)) >= 95


def test_drawing_utterances_of_speakers_finds_what_is_not_there():
    assert min(found(7, 0.0, grouped=False)) > 10


def test_systems_that_are_equal():
    errors, length = np.tile([[1, 0, 2, 5]], (2, 1)), np.full((2, 4), 9)
    difference = paired_bootstrap(errors, length).difference(0, 1)
    assert (difference.value, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_same_seed_same_draws_in_any_number_of_parts(monkeypatch):
    errors, length, members = simulated(np.random.default_rng(0), 9, 0.0)
    drawn = paired_bootstrap(errors, length, members, 500, seed=3).drawn
    assert np.array_equal(drawn, paired_bootstrap(errors, length, members, 500, seed=3).drawn)
    assert not np.array_equal(drawn, paired_bootstrap(errors, length, members, 500, 4).drawn)
    monkeypatch.setattr("src.metrics.bootstrap.AT_ONCE", 9 * 100)
    parts = paired_bootstrap(errors, length, members, 500, seed=3).drawn
    assert parts.shape == (500, 2) and np.allclose(parts.std(0), drawn.std(0), rtol=0.2)


def test_a_single_speaker_is_no_sample():
    errors, length = np.array([[1, 0, 2], [1, 1, 1]]), np.full((2, 3), 9)
    assert paired_bootstrap(errors, length, ["a", "a", "a"]).clusters == 3
    assert paired_bootstrap(errors, length, ["a", "b", "a"]).clusters == 2


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    scores = np.random.default_rng(1).normal(5, 2, (1, 1000))
    interval = paired_bootstrap(scores, np.ones_like(scores)).interval(0)
    half = 1.96 * scores.std() / np.sqrt(1000)
    assert interval.value == pytest.approx(scores.mean())
    assert interval.low == pytest.approx(scores.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(scores.mean() + half, abs=0.05 * half)


@pytest.mark.parametrize(
    ("numerators", "denominators", "draws", "message"),
    [
        ([[1.0]], [[2.0]], 1000, "1 utterances; at least 2"),
        ([[1.0, 2.0]], [[0.0, 0.0]], 1000, "all references are empty"),
        ([[1.0, 2.0]], [[1.0, 1.0]], 10, "draws: 10; a whole number from 100 on"),
    ],
)
def test_bad_input(numerators, denominators, draws, message):
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.array(numerators), np.array(denominators), draws=draws)


def test_sums_of_many_clusters_take_little_memory():
    numbers = np.random.default_rng(0).integers(0, 9, (2, 3, 8000)).astype(float)
    speakers = [i % 4000 for i in range(8000)]
    tracemalloc.start()
    sums = sums_of_clusters(numbers, speakers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(sums, numbers[..., :4000] + numbers[..., 4000:])
    assert peak < 20e6  # a matrix of utterances and speakers would take 256 MB
