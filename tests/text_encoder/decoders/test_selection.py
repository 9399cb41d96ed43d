import numpy as np
import pytest

from src.text_encoder.decoders.selection import chosen_of, lowest_of, raise_lowest


def select(stays, item, found, size):
    best, lowest = lowest_of(stays, size)
    raise_lowest(lowest, best, item, found)
    return chosen_of(stays, item, found, lowest, size)


def test_best_of_equal_ones():
    stays = np.array([[3.0, 1.0, 2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 5.0, 0.0, 0.0, 0.0]])
    chosen, kept = select(stays, np.array([0, 1]), np.array([1.0, 4.0]), 3)
    assert chosen[:, :4].tolist() == [[True, True, True, False], [False, False, True, False]]
    assert not chosen[:, 4:].any()
    assert kept.tolist() == [False, True]


@pytest.mark.parametrize("spread", [1e-9, 1.0, 300.0])  # of logarithms
def test_equals_sorting(spread):
    draw = np.random.default_rng(0)
    stays = np.exp(-spread * draw.random((5, 2 * 40)))
    stays[draw.random(stays.shape) < 0.3] = 0
    item = np.repeat([0, 1, 3], [10, 200, 70])
    found = np.exp(-spread * draw.random(len(item)))
    chosen, kept = select(stays, item, found, 40)
    for row, own in enumerate(stays):
        values = np.concatenate([own, found[item == row]])
        expected = np.sort(values[values > 0])[-40:]
        selected = np.concatenate([own[chosen[row]], found[kept & (item == row)]])
        assert np.sort(selected).tolist() == expected.tolist()
