import json
import random

import pytest

from src.datasets import json_lines
from src.datasets.json_lines import parse, parse_all, parse_together

ROWS = [b'{"a": 1, "b": [2, {"c": null}]}', b'"x"', b" 3 ", b"true\r", '"ё\\u00e9"'.encode()]
BAD = [
    b"",
    b" ",
    b"nonsense",
    b'{"a": 1',
    b"1, 2",
    b"\xff",
    b'"open',
    b"[" * 100_000,
]


def outcomes(lines, values):
    """The values, and after them the message of an error."""
    found = []
    try:
        for value in values(lines):
            found.append(value)
    except ValueError as error:
        found.append(str(error))
    return found


def one_by_one(lines):
    return map(parse, lines)


@pytest.mark.parametrize("count", [0, 5, 20_000])
def test_good_lines_are_parsed_together(count, monkeypatch):
    lines = (ROWS * (count // len(ROWS) + 1))[:count]
    expected = list(map(parse, lines))
    monkeypatch.setattr(json_lines, "parse", None)  # so that none is parsed alone
    assert list(parse_all(lines)) == expected


def test_long_lines_are_not_parsed_together(monkeypatch):
    long = json.dumps(["word"] * json_lines.BYTES).encode()
    monkeypatch.setattr(json_lines, "parse_together", None)
    assert list(parse_all([b"1", long])) == [1, ["word"] * json_lines.BYTES]


@pytest.mark.parametrize("bad", BAD, ids=lambda line: str(line[:9]))
@pytest.mark.parametrize("place", [0, 7, 1500])
def test_a_bad_line_is_reached_after_the_good_ones_before_it(bad, place):
    lines = ROWS * 400
    lines[place] = bad
    found = outcomes(lines, parse_all)
    assert found == outcomes(lines, one_by_one)
    assert len(found) == place + 1
    assert found[-1].startswith("not JSON")


@pytest.mark.parametrize(
    "lines",
    [
        [b'{"a": [{}', b'{"b": 1}]}', b"{}, {}"],  # the second goes on with the first
        [b"[1", b"2]", b"3, 4"],
        [b'"x', b'y"', b"1, 2"],
        [b'{"a": 1', b'"b": 2}', b"1, 2"],
        [b"1, 2, 3", b""],
    ],
)
def test_values_across_lines_are_no_rows(lines):
    assert parse_together(lines) is None
    with pytest.raises(ValueError, match="not JSON"):
        list(parse_all(lines))


def test_damaged_lines_are_found_as_by_parse():
    draw = random.Random(0)
    row = json.dumps({"audio_filepath": "a/b.wav", "duration": 1.5, "text": "ё [1, {2}]"}).encode()
    for _ in range(3000):
        lines = [row] * 4
        for _ in range(draw.randint(1, 3)):
            which = draw.randrange(4)
            line = lines[which]
            at = draw.randrange(len(line) + 1)
            new = draw.choice([b"", b"{", b"}", b"[", b"]", b'"', b",", b"\\", b"\xd1", b"1"])
            lines[which] = line[:at] + new + line[at + draw.randint(0, 2) :]
        assert outcomes(lines, parse_all) == outcomes(lines, one_by_one)
