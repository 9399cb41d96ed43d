import json

import pytest

from src.datasets.manifest import Manifest
from src.datasets.splitting import (
    sentence_of,
    shared,
    speaker_of,
    split_by_duration,
    split_by_hash,
    words_in,
)
from tests.demo import run_script
from tests.programs import call_script

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def rows_of(speakers, each=3):
    return [
        {
            "audio_filepath": f"audio/{s}_{k}.wav",
            "duration": 1.0 + k,
            "text": f"Sentence {'abcdefgh'[(s + k) % 8]}!",
            "speaker": f"s{s}",
        }
        for s in range(speakers)
        for k in range(each)
    ]


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Manifest(path)


def places(splits):
    return {(values["audio_filepath"], name) for name, rows in splits.items() for values in rows}


def test_splits_by_speaker_are_whole_and_of_the_wanted_size(tmp_path):
    manifest = written(tmp_path / "m.jsonl", rows_of(1000))
    splits = split_by_hash(manifest, speaker_of, FRACTIONS)
    assert sum(map(len, splits.values())) == len(manifest)
    assert shared(splits, speaker_of) == 0
    for name, fraction in FRACTIONS.items():
        assert len(splits[name]) / len(manifest) == pytest.approx(fraction, abs=0.03)
    other = split_by_hash(manifest, speaker_of, FRACTIONS, seed=1)
    assert places(other) != places(splits)


def test_added_rows_move_nobody(tmp_path):
    few, many = rows_of(60), rows_of(200, each=5)[::-1]
    before = split_by_hash(written(tmp_path / "a.jsonl", few), speaker_of, FRACTIONS)
    after = split_by_hash(written(tmp_path / "b.jsonl", many), speaker_of, FRACTIONS)
    assert places(before) < places(after)


def test_places_are_the_same_on_every_machine(tmp_path):
    manifest = written(tmp_path / "m.jsonl", rows_of(60))
    splits = split_by_hash(manifest, speaker_of, FRACTIONS)
    expected = "s17 s21 s30 s33 s45 s51 s57"
    assert sorted({speaker_of(row) for row in splits["test"]}) == expected.split()


def test_sentences_are_the_same_in_any_case_and_punctuation(tmp_path):
    rows = rows_of(20)
    rows += [row | {"text": row["text"].upper().replace("!", "?")} for row in rows]
    manifest = written(tmp_path / "m.jsonl", rows)
    splits = split_by_hash(manifest, sentence_of, {"a": 0.5, "b": 0.5})
    assert shared(splits, sentence_of) == 0 and shared(splits, speaker_of) > 0


def test_words_keep_their_marks():
    assert words_in("हिन्दी में, ΣΑΣ!") == ["हिन्दी", "में", "σας"]
    assert words_in("Cafe\u0301?") == words_in("café") == ["café"]


def test_split_by_duration(tmp_path):
    manifest = written(tmp_path / "m.jsonl", rows_of(5))
    splits = split_by_duration(manifest, ["short", "long"], [2.0])
    assert {row["duration"] for row in splits["short"]} == {1.0}
    assert {row["duration"] for row in splits["long"]} == {2.0, 3.0}
    for limits in ([], [2.0, 1.0], [float("nan")], [0.0]):
        with pytest.raises(ValueError, match=r"limits: .*; 1 ascending seconds for short, long"):
            split_by_duration(manifest, ["short", "long"], limits)
    with pytest.raises(ValueError, match=r"m.jsonl: no rows for long; other limits may help"):
        split_by_duration(manifest, ["short", "long"], [9.0])


@pytest.mark.parametrize(
    ("rows", "key", "fractions", "message"),
    [
        ([{"speaker": None}], speaker_of, FRACTIONS, r"line 1: speaker is null, wanted a text"),
        ([{"text": "!?"}], sentence_of, FRACTIONS, r"line 1: text is '!\?', wanted a sentence"),
        ([], speaker_of, FRACTIONS, r"m.jsonl: no rows\.$"),
        ([{}], speaker_of, FRACTIONS, "no rows for .*; another seed"),
        ([{}], speaker_of, {"a": 0.5, "b": 0.6}, "fractions: .*; numbers above 0, the sum is 1"),
        ([{}], speaker_of, {"a": 1.0}, "fractions: .*; numbers above 0"),
    ],
)
def test_bad_input(tmp_path, rows, key, fractions, message):
    manifest = written(tmp_path / "m.jsonl", [rows_of(1)[0] | row for row in rows])
    with pytest.raises(ValueError, match=message):
        split_by_hash(manifest, key, fractions)


def test_command(corpus, tmp_path):
    source, out = corpus / "train.jsonl", tmp_path / "out"
    options = ["--splits", "train=0.5", "test=0.5", "--seed", 1]
    printed = run_script("split_manifest", source, out, *options, "--by=sentence").stdout
    assert "sentences in more than one split: 0" in printed
    manifests = [Manifest(out / f"{name}.jsonl") for name in ("train", "test")]
    assert sum(map(len, manifests)) == len(Manifest(source))
    assert all(row.audio_filepath.exists() for manifest in manifests for row in manifest)
    done = call_script("split_manifest", source, out, *options, code=1)
    assert done.stderr == f"error: {out}/train.jsonl: exists; --replace replaces it.\n"
    done = call_script("split_manifest", source, source.parent, "--replace", code=1)
    assert done.stderr == f"error: {source}: exists; choose another folder.\n"
