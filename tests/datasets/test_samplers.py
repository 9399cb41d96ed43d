from itertools import islice

import numpy as np
import pytest

from src.datasets.samplers import BatchStream, DurationBatchSampler, EvaluationBatches

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


def test_little_padding_and_another_order_each_epoch():
    found = sampler()
    assert found.padding_share(1) < 0.1
    assert found.batches(1) != found.batches(2)
    assert found.batches(1) == sampler().batches(1)
    assert found.batches(1) != sampler(seed=1).batches(1)


def test_padding_share_by_hand():
    found = DurationBatchSampler(np.array([1.0, 3.0]), 10, shuffle=False)
    assert found.padding_share() == pytest.approx(1 / 3)


def test_sorted_first_epoch():
    first = [i for batch in sampler(sorted_first_epoch=True).batches(0) for i in batch]
    assert (np.diff(DURATIONS[first]) >= 0).all()


def test_utterance_over_the_budget():
    with pytest.raises(ValueError, match=r"9.0 s does not fit a batch of 5 s"):
        DurationBatchSampler(np.array([9.0]), 5)
    assert DurationBatchSampler(np.array([1.0, 9.0]), 5, shuffle=False).batches(0) == [[1], [0]]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_resume_from_any_position(world, accumulate):
    streams = [BatchStream(sampler(), rank, world, accumulate) for rank in range(world)]
    whole = [list(islice(iter(stream), 120)) for stream in streams]
    per_epoch = streams[0].batches_in(0)
    for taken in (0, 1, per_epoch - 1, per_epoch, 77):
        epoch, batch, left = 0, 0, taken
        while left:
            epoch, batch = (
                (epoch, batch + 1) if batch + 1 < streams[0].batches_in(epoch) else (epoch + 1, 0)
            )
            left -= 1
        for stream, all_batches in zip(streams, whole, strict=True):
            resumed = list(islice(iter(stream.starting_at(epoch, batch)), 10))
            assert resumed == all_batches[taken : taken + 10]


def test_processes_share_an_epoch():
    streams = [BatchStream(sampler(), rank, 2) for rank in range(2)]
    steps = streams[0].steps(0)
    seen = [key for stream in streams for batch in islice(iter(stream), steps) for key in batch]
    assert {index for _, index in seen} == set(range(203))
    assert {epoch for epoch, _ in seen} == {0}


def test_evaluation_covers_everything_once():
    shares = [list(EvaluationBatches(sampler(shuffle=False), rank, 3)) for rank in range(3)]
    keys = [key for share in shares for batch in share for key in batch]
    assert sorted(keys) == [(0, i) for i in range(203)]
