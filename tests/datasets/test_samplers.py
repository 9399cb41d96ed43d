import numpy as np
import pytest

from src.datasets.samplers import DurationBatchSampler

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
    assert batch_sampler.batches(1) != batch_sampler.batches(2)
    assert batch_sampler.batches(1) == sampler().batches(1)
    assert batch_sampler.batches(1) != sampler(seed=1).batches(1)


def test_padding_fraction_by_hand():
    batch_sampler = DurationBatchSampler(np.array([1.0, 3.0]), 10, shuffle=False)
    assert batch_sampler.padding_fraction() == pytest.approx(1 / 3)


def test_sorted_first_epoch():
    first = [i for batch in sampler(sorted_first_epoch=True).batches(0) for i in batch]
    assert (np.diff(DURATIONS[first]) >= 0).all()


def test_utterance_over_the_budget():
    with pytest.raises(ValueError, match=r"9.0 s does not fit a batch of 5 s"):
        DurationBatchSampler(np.array([9.0]), 5)
    assert DurationBatchSampler(np.array([1.0, 9.0]), 5, shuffle=False).batches(0) == [[1], [0]]
