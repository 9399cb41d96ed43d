import numpy as np
import pytest

from src.utils.options import check_choice, check_number, check_whole, shown


@pytest.mark.parametrize("value", [None, 0, -1, "abc", 1.5, 2.0, True, float("nan")])
def test_whole_numbers(value):
    with pytest.raises(ValueError) as error:
        check_whole("a.b", value)
    assert str(error.value) == f"a.b: {shown(value)}; a whole number above 0."


def test_ranges_of_whole_numbers():
    check_whole("a", None, optional=True)
    check_whole("a", 10**400)
    check_whole("a", np.int64(3))
    check_whole("a", 0, low=0, high=4)
    with pytest.raises(ValueError, match="^a: 5; a whole number from 0 to 4, or null.$"):
        check_whole("a", 5, low=0, high=4, optional=True)
    with pytest.raises(ValueError, match="^a: -1; a whole number from 0 on.$"):
        check_whole("a", -1, low=0)


@pytest.mark.parametrize("value", [None, 0, -1, "abc", True, float("nan"), float("inf"), 10**400])
def test_numbers(value):
    with pytest.raises(ValueError, match=r"^a: .*; a number above 0\.$") as error:
        check_number("a", value)
    assert len(str(error.value)) < 100


def test_ranges_of_numbers():
    check_number("a", 0, inclusive=True)
    check_number("a", 1e308)
    check_number("a", None, optional=True)
    for options, allowed in (
        ({"inclusive": True}, "from 0 on"),
        ({"inclusive": True, "high": 1}, "from 0 to 1"),
        ({"high": 7}, "above 0, up to 7"),
        ({"low": -5, "inclusive": True}, "from -5 on"),
    ):
        with pytest.raises(ValueError, match=f"^a: -9; a number {allowed}.$"):
            check_number("a", -9, **options)
    with pytest.raises(ValueError, match=r"^a: nan; a number that is finite.$"):
        check_number("a", float("nan"), low=float("-inf"))


def test_choices():
    check_choice("a", False, (True, False))
    with pytest.raises(ValueError, match="^a: 1; true or false.$"):
        check_choice("a", 1, (True, False))
    with pytest.raises(ValueError, match="^a: 'ignore'; raise or skip.$"):
        check_choice("a", "ignore", ("raise", "skip"))


def test_long_values_are_abbreviated():
    assert shown("x") == "'x'"
    assert len(shown("x" * 5000)) < 60
    assert shown("\ud800ё").isascii()
