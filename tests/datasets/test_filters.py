import itertools
import logging

import numpy as np
import pytest

from src.datasets.filters import (
    alignment_rules,
    check_all_or_none,
    duration_rules,
    frames_of_rows,
    keep_rows,
    text_length_rules,
)
from src.datasets.manifest import Manifest, write_manifest
from src.text_encoder.base import frames_needed
from src.text_encoder.characters import CharacterEncoder

TEXTS = ["hello", "a", None, "to and fro", "aaaa"]


@pytest.fixture
def manifest(tmp_path):
    rows = [{"audio_filepath": f"{i}.wav", "duration": 1800.0 * (i + 1)} for i in range(5)]
    for row, text in zip(rows, TEXTS, strict=True):
        row |= {} if text is None else {"text": text}
    return Manifest.from_rows(rows, tmp_path / "m.jsonl")


def texts(manifest):
    return [row.text for row in manifest]


def test_bounds_and_dropped_hours(manifest, caplog):
    caplog.set_level(logging.INFO)
    rules = duration_rules(manifest.durations, 3600.0, 7200.0)
    rules += text_length_rules(manifest, None, 3)
    assert texts(keep_rows(manifest, rules)) == ["a", None]
    dropped = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert dropped == [
        "dropped 1 of 5 rows, 0.500 h: shorter than 3600 s",
        "dropped 1 of 5 rows, 2.500 h: longer than 7200 s",
        "dropped 1 of 5 rows, 2.000 h: text longer than 3 characters",
    ]


def test_missing_text_is_empty(manifest):
    assert texts(keep_rows(manifest, text_length_rules(manifest, 1, None))) == [
        text for text in TEXTS if text
    ]


def can_align(labels, frames):
    """Whether any path of so many frames (0 is the blank) collapses to the labels."""
    symbols = [0, *sorted(set(labels))]
    for path in itertools.product(symbols, repeat=frames):
        merged = [key for key, _ in itertools.groupby(path) if key]
        if merged == labels:
            return True
    return False


@pytest.mark.parametrize("labels", [[], [1], [1, 1], [1, 2], [1, 1, 1], [1, 2, 2, 1]])
def test_frames_needed_by_brute_force(labels):
    fewest = next(n for n in range(8) if can_align(labels, n) or (not labels and n == 0))
    assert frames_needed(labels) == fewest


@pytest.mark.parametrize("rows", [1, 2, 1 << 20])
def test_alignment_uses_output_frames(manifest, rows, monkeypatch):
    monkeypatch.setattr("src.datasets.filters.COUNTED_ROWS", rows)
    """`aaaa` needs 4 + 3 frames, `to and fro` 10, of 9,000 and 7,200 seconds."""
    frames = {18000: 5, 36000: 0, 54000: 0, 72000: 10, 90000: 6}

    def count_frames(samples):
        assert samples.dtype == np.int64 and len(samples) <= rows
        return np.array([frames[count] for count in samples.tolist()])

    rules = alignment_rules(manifest, CharacterEncoder(), count_frames, sample_rate=10)
    assert rules[0][0].tolist() == [False, False, True, True, False]


def test_unknown_character_names_the_line(tmp_path):
    rows = [{"audio_filepath": "a", "duration": 1, "text": text} for text in ("fine", "привет")]
    manifest = Manifest.from_rows(rows, tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: .*'п' is not in the vocabulary"):
        alignment_rules(manifest, CharacterEncoder(), lambda samples: samples, 10)


def test_all_or_none(manifest, tmp_path):
    with pytest.raises(ValueError, match=r"m.jsonl, line 3: '2.wav' has no text, but 4 of 5 rows"):
        check_all_or_none(manifest, manifest.has_text, "text")
    assert check_all_or_none(manifest, np.ones(5, bool), "text") is True
    assert check_all_or_none(manifest, np.zeros(5, bool), "text") is False


def test_frames_of_a_large_manifest_are_kept(tmp_path, monkeypatch):
    """Read in blocks by two workers, and then from the file; those of other rows are added."""
    monkeypatch.setattr("src.datasets.row_index.KEEP_FROM", 1000)
    monkeypatch.setattr("src.datasets.filters.SHOW_PROGRESS_FROM", 10)
    monkeypatch.setattr("src.datasets.filters.BLOCK_ROWS", 7)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    texts = ["aabb " * (i % 5) + "hello" * (i % 3) for i in range(60)]
    rows = [{"audio_filepath": f"{i}", "duration": 1, "text": t} for i, t in enumerate(texts)]
    write_manifest(tmp_path / "m.jsonl", rows)
    manifest, encoder = Manifest(tmp_path / "m.jsonl"), CharacterEncoder()
    wanted = np.array([frames_needed(encoder.encode(text)) for text in texts])
    part = np.arange(0, 60, 2)
    monkeypatch.setattr("src.datasets.manifest.MOST_BYTES", 150)  # a few rows
    assert np.array_equal(frames_of_rows(manifest.select(part), encoder), wanted[part])
    assert np.array_equal(frames_of_rows(manifest, encoder), wanted)
    monkeypatch.setattr(CharacterEncoder, "frames_needed", None)  # isn't called again
    assert np.array_equal(frames_of_rows(Manifest(manifest.path), encoder), wanted)
    (kept,) = (tmp_path / "m.jsonl.rows").glob("frames_*.npy")
    kept.write_bytes(b"x")
    with pytest.raises(TypeError):
        frames_of_rows(manifest, encoder)


def test_bad_text_of_a_block_is_named(tmp_path):
    rows = [{"audio_filepath": f"{i}", "duration": 1, "text": "a" if i else "ж"} for i in range(4)]
    manifest = Manifest.from_rows(rows[::-1], tmp_path / "m")
    with pytest.raises(ValueError, match="m, line 4: 'ж': the character 'ж' is not in the"):
        frames_of_rows(manifest, CharacterEncoder())
