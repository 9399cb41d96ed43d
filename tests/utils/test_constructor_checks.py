import pytest

from src.utils.options import check_drop_probabilities, check_sizes, shown


def test_good_values():
    check_sizes("Model", a=1, b=10**6)
    check_drop_probabilities("Model", a=0, b=0.99)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "3"])
def test_bad_sizes_are_named(value):
    with pytest.raises(ValueError, match=f"Model.size: {shown(value)}; a whole number above 0.$"):
        check_sizes("Model", good=1, size=value)


@pytest.mark.parametrize("value", [1, -0.1, 1.5, float("nan"), None, "0.1"])
def test_bad_probabilities_are_named(value):
    with pytest.raises(ValueError, match=f"Model.dropout: {shown(value)}; a number from 0 to less"):
        check_drop_probabilities("Model", good=0, dropout=value)
