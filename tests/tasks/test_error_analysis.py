"""Confusions and error rates of groups, by hand."""

from src.tasks.error_analysis import analyse, bins, word_alignment
from src.utils.sections import Chart

ROWS = [
    {"id": "a", "target": "the cat sat", "prediction": "the bat", "seconds": 1.0, "speaker": "x"},
    {"id": "b", "target": "a cat", "prediction": "a bat", "seconds": 2.0, "speaker": "y"},
    {"id": "c", "target": "a dog", "prediction": "a dog sat", "seconds": 0.5, "speaker": "y"},
]


def sections(rows=ROWS):
    return {(section.title, type(section)): section for section in analyse(rows, "prediction")}


def table(title, rows=ROWS):
    return next(s for (name, kind), s in sections(rows).items() if name == title and kind != Chart)


def test_alignment():
    assert word_alignment("the cat sat", "the bat") == [
        ["equal", "the", "the"],
        ["substitute", "cat", "bat"],
        ["delete", "sat", ""],
    ]
    assert word_alignment("", "a b") == [["insert", "", "a b"]]
    assert word_alignment("", "") == []
    assert word_alignment("a\tb\n", "a\u00a0b") == [["equal", "a b", "a b"]]


def test_confusions():
    assert table("Confusions of words").rows == [
        ["substitution", "cat", "bat", 2],
        ["deletion", "sat", "", 1],
        ["insertion", "", "sat", 1],
    ]
    characters = table("Confusions of characters").rows
    assert characters[0] == ["substitution", "c", "b", 2]
    assert ["deletion", "␣", "", 1] in characters


def test_white_space_of_any_kind_is_no_error():
    rows = [{"target": "the\tcat", "prediction": "the\u00a0cat"}]
    assert not table("Confusions of words", rows).rows
    assert not table("Confusions of characters", rows).rows


def test_error_rate_by_speaker():
    assert table("Error rate by speaker").rows == [["x", 1, 3, 2, 66.67], ["y", 2, 4, 2, 50.0]]


def test_error_rate_by_length_and_speaking_rate():
    assert table("Error rate by length").rows == [[2, 2, 2, 4, 2, 50.0], [3, 3, 1, 3, 2, 66.67]]
    rates = table("Error rate by speaking rate").rows
    assert [row[0] for row in rates] == [1.0, 3.0, 4.0]
    assert [row[-1] for row in rates] == [50.0, 66.67, 50.0]
    noisy = [row | {"snr": snr} for row, snr in zip(ROWS, (30.0, 10.0, 20.0), strict=True)]
    assert [row[0] for row in table("Error rate by estimated SNR", noisy).rows] == [10, 20, 30]
    chart = sections()["Error rate by length", Chart]
    assert chart.series == {"WER": [(2.0, 50.0), (3.0, 66.67)]}


def test_unknown_speakers_and_durations():
    rows = [{key: row[key] for key in ("id", "target", "prediction")} for row in ROWS]
    titles = {title for title, _ in sections(rows)}
    assert "Error rate by length" in titles
    assert len(titles) == 3


def test_bins_hold_every_utterance_once_and_share_no_value():
    known = [(float(k // 5), (k, 1)) for k in range(100)]
    parts = bins(known)
    assert sorted(count[0] for _, _, counts in parts for count in counts) == list(range(100))
    assert all(high < low for (_, high, _), (low, _, _) in zip(parts, parts[1:], strict=False))
    assert 4 <= len(parts) <= 6
