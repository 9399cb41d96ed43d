import numpy as np
import pytest
import torch

from src.datasets.loading.samplers import DurationBatchSampler
from src.utils.random import generator

DURATIONS = np.random.default_rng(0).uniform(1, 9, 203)


def sampler(**options):
    return DurationBatchSampler(DURATIONS, max_seconds=30, **options)


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_item_once_under_the_budget(shuffle):
    batches = sampler(shuffle=shuffle, max_items=9).batches(2)
    assert sorted(i for batch in batches for i in batch) == list(range(203))
    for batch in batches:
        assert len(batch) * DURATIONS[batch].max() <= 30
        assert len(batch) <= 9


def test_little_padding_and_new_order_each_epoch():
    batch_sampler = sampler()
    assert batch_sampler.padding_fraction(1) < 0.1
    batches = [list(batch_sampler.batches(epoch)) for epoch in (1, 2)]
    assert batches[0] != batches[1]
    assert batches[0] == list(sampler().batches(1))
    assert batches[0] != list(sampler(seed=1).batches(1))


def test_padding_fraction_by_hand():
    batch_sampler = DurationBatchSampler(np.array([1.0, 3.0]), 10, shuffle=False)
    assert batch_sampler.padding_fraction() == pytest.approx(1 / 3)


def test_sorted_first_epoch():
    first = [i for batch in sampler(sorted_first_epoch=True).batches(0) for i in batch]
    assert (np.diff(DURATIONS[first]) >= 0).all()


@pytest.mark.parametrize("sorted_first_epoch", [True, False])
@pytest.mark.parametrize(
    ("size", "max_items", "sizes"),
    [
        (7, None, [3, 3]),
        (6, None, [3, 3]),
        (7, 2, [2, 2, 2]),
        (6, 2, [2, 2, 2]),
        (2, None, [2]),
    ],
)
def test_last_batch_is_dropped_unless_it_is_full(sorted_first_epoch, size, max_items, sizes):
    options = {"max_items": max_items, "sorted_first_epoch": sorted_first_epoch}
    kept = DurationBatchSampler(np.full(size, 2.0), 6.5, **options)
    batches = DurationBatchSampler(np.full(size, 2.0), 6.5, drop_last=True, **options)
    assert [len(batch) for batch in batches.batches(0)] == sizes
    assert batches.count(2) == [len(sizes)] * 2
    missing = [b for b in kept.batches(0) if b not in list(batches.batches(0))]
    assert [len(b) for b in missing] == ([1] if size == 7 else [])


@pytest.mark.parametrize("repeated", [True, False])
def test_of_a_dropped_batch_nothing_is_counted(repeated):
    draw = {"draw": lambda epoch: np.arange(len(durations))} if repeated else {}
    durations = np.array([1.0, 1, 1, 1, 1, 1, 2, 2])
    options = {"sorted_first_epoch": True, "drop_last": True, **draw}
    batch_sampler = DurationBatchSampler(durations, 6, **options)
    assert list(batch_sampler.batches(0)) == [[0, 1, 2, 3, 4, 5]]
    assert batch_sampler.padding_fraction() == 0
    durations = np.linspace(1, 2, 50)  # the longest ones are in batches of two
    batches = DurationBatchSampler(durations, 4, drop_last=True, **draw).batches(1)
    kept = sorted(i % 50 for batch in batches for i in batch)
    assert kept == sorted(batches.indices % 50) and all(len(batch) >= 2 for batch in batches)


def test_utterance_over_the_budget():
    with pytest.raises(ValueError, match=r"9.0 s does not fit a batch of 5 s"):
        DurationBatchSampler(np.array([9.0]), 5)
    batches = DurationBatchSampler(np.array([1.0, 9.0]), 5, shuffle=False).batches(0)
    assert list(batches) == [[1], [0]]


def plain_batches(durations, max_seconds, max_items, order):
    """The batches, one list each."""
    batches, batch, longest = [], [], 0.0
    for index in order.tolist():
        seconds = durations[index % len(durations)].item()
        longest = max(longest, seconds)
        full = longest * (len(batch) + 1) > max_seconds or len(batch) == max_items
        if batch and full:
            batches.append(batch)
            batch, longest = [], seconds
        batch.append(index)
    return [*batches, batch]


@pytest.mark.parametrize("max_items", [None, 1, 4])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("repeated", [True, False])
def test_batches_equal_plain_ones(monkeypatch, max_items, shuffle, repeated):
    """As lists, sorted and shuffled as they were before they became parts of one array."""
    monkeypatch.setattr("src.datasets.loading.samplers.BLOCK", 37)
    draw = np.random.default_rng(1)
    for size in (1, 2, 500):
        durations = draw.uniform(0.1, 9, size).round(1)
        drawn = draw.integers(0, 3 * size, 2 * size)
        options = {"draw": lambda epoch, drawn=drawn: drawn} if repeated else {}
        batch_sampler = DurationBatchSampler(durations, 9.0, max_items, shuffle, 3, **options)
        if shuffle:
            indices = drawn if repeated else np.arange(size)
            source = generator(3, "batches/4")
            noise = torch.rand(len(indices), generator=source, dtype=torch.float64).numpy()
            keys = durations[indices % size] * (1 + 0.1 * noise)
            order = indices[np.argsort(keys, kind="stable")]
        else:
            order = np.argsort(-durations, kind="stable")
        wanted = plain_batches(durations, 9.0, max_items, order)
        if shuffle:
            wanted = [wanted[i] for i in torch.randperm(len(wanted), generator=source).tolist()]
        assert list(batch_sampler.batches(4)) == wanted
        padded = sum(len(batch) * durations[np.array(batch) % size].max() for batch in wanted)
        seconds = sum(durations[np.array(batch) % size].sum() for batch in wanted)
        assert batch_sampler.padding_fraction(4) == pytest.approx(1 - seconds / padded)


def test_batches_of_later_epochs_are_estimated(monkeypatch):
    exact = [len(sampler().batches(epoch)) for epoch in range(6)]
    assert sampler().count(6) == exact
    monkeypatch.setattr("src.datasets.loading.samplers.COUNTED", 2 * 203)
    assert sampler().count(6) == [*exact[:2], *[round(sum(exact[:2]) / 2)] * 4]
    monkeypatch.setattr("src.datasets.loading.samplers.COUNTED", 1)
    assert sampler().count(3) == [exact[0]] * 3
