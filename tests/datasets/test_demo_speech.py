import hashlib
import json
import subprocess

import pytest
import soundfile

from src.datasets import demo_speech
from src.datasets.demo_grammar import TEMPLATES, TEST_TEMPLATES
from src.datasets.demo_speech import Recipe, make_demo_speech, run_espeak, split_sentences
from src.datasets.demo_voices import VARIANTS, speakers
from tests.demo import TINY, tiny_corpus


def rows(corpus, split):
    return [json.loads(line) for line in (corpus / f"{split}.jsonl").open()]


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_deterministic_to_the_byte(corpus, tmp_path):
    assert hashes(tiny_corpus(tmp_path / "again", workers=1)) == hashes(corpus)


def test_files_are_as_the_manifests_say(corpus):
    for split in ("train", "val", "test"):
        for row in rows(corpus, split):
            info = soundfile.info(corpus / row["audio_filepath"])
            assert (info.samplerate, info.channels) == (16000, 1)
            assert info.duration == row["duration"]
            assert row["speaker"] and row["text"] == row["text"].lower().strip()
    for row in rows(corpus, "noise"):
        assert soundfile.info(corpus / row["audio_filepath"]).duration == row["duration"] == 10


def test_no_voice_stands_on_two_sides():
    sides = [set(VARIANTS[split]) for split in ("train", "val", "test")]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    twins = ("edward2 benjamin", "klatt3 klatt4", "m4 m5", "miguel Diogo", "aunty f4")
    for pair in twins:
        assert len([side for side in sides if set(pair.split()) & side]) == 1
    robots = ("robosoft", "whisper", "UniRobot", "Demonic", "klatt", "klatt2", "anikaRobot")
    assert not set(robots) & set.union(*sides)
    assert len(sides[0]) >= 50
    names = [s.name for split in VARIANTS for s in speakers(split, 0)]
    assert len(names) == len(set(names))


def test_no_sentence_stands_on_two_sides_but_every_word_is_heard():
    found = {split: split_sentences(split, Recipe()) for split in ("train", "val", "test")}
    assert sum(len(set(texts)) for texts in found.values()) == len(set().union(*found.values()))
    heard = {word for text in found["train"] for word in text.split()}
    assert {w for split in ("val", "test") for t in found[split] for w in t.split()} <= heard
    assert 300 <= len(heard) <= 450
    assert all(set(text) <= set("abcdefghijklmnopqrstuvwxyz '") for text in found["train"])
    assert not set(TEMPLATES) & set(TEST_TEMPLATES)


def test_made_once(corpus, monkeypatch):
    before = hashes(corpus)
    monkeypatch.setattr(demo_speech, "make_split", None)
    assert make_demo_speech(corpus, TINY) == corpus
    assert make_demo_speech(corpus) == corpus
    assert hashes(corpus) == before


def test_another_recipe_or_folder_is_not_overwritten(corpus, tmp_path):
    with pytest.raises(ValueError, match="another recipe"):
        make_demo_speech(corpus, Recipe(seed=99))
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="holds no demo speech"):
        make_demo_speech(tmp_path / "mine")


def test_a_crash_leaves_nothing_behind(tmp_path, monkeypatch):
    def crash(*_, **__):
        return subprocess.CompletedProcess([], -11, "", "")

    monkeypatch.setattr(demo_speech.subprocess, "run", crash)
    with pytest.raises(ValueError, match=r"voice 'en-us\+.*', exit code -11"):
        make_demo_speech(tmp_path / "demo", TINY)
    assert not list(tmp_path.iterdir())


def test_an_unknown_voice_is_an_error():
    with pytest.raises(ValueError, match="knows no voice 'en-us.nonsense'"):
        run_espeak("en-us+nonsense", [{"text": "a", "pitch": 50, "range": 50, "rate": 150}])
