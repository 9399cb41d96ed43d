from collections import Counter

import pytest

from src.datasets.classification import (
    ClassificationDataset,
    ManifestLabels,
    choose_keywords,
    speakers_in,
)
from src.datasets.demo.voices import speakers
from src.datasets.manifest import Manifest, write_manifest
from tests.demo import composed, sine

TEXTS = ["Please open it.", "the window is open", "go!", "open the window, go", "nothing", None]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    rows = []
    for i, text in enumerate(TEXTS * 4):
        path = sine(folder / f"{i}.wav", seconds=0.1)
        row = {"audio_filepath": path.name, "duration": 0.1, "speaker": f"s{i % 3}"}
        rows.append(row | ({} if text is None else {"text": text}))
    write_manifest(folder / "m.jsonl", rows)
    return folder / "m.jsonl"


def labels_of(dataset):
    return [dataset[i]["label"] for i in range(len(dataset))]


def test_a_keyword_is_the_only_one_of_a_text(manifest):
    dataset = ManifestLabels(str(manifest), labels=["go", "open"], target="keyword", limit=3)
    assert labels_of(dataset) == ["open", "open", "go"]
    assert [dataset[i]["class_id"] for i in range(3)] == [1, 1, 0]
    dataset = ManifestLabels(str(manifest), labels=["GO", "Open"], target="keyword", limit=3)
    assert labels_of(dataset) == ["Open", "Open", "GO"]


def test_speakers_without_a_class_are_dropped(manifest):
    dataset = ManifestLabels(str(manifest), labels=["s2", "s0"], target="speaker")
    assert Counter(labels_of(dataset)) == {"s0": 8, "s2": 8}


def test_parts_have_different_utterances_of_each_speaker(manifest):
    parts = [
        ManifestLabels(str(manifest), labels=["s0", "s1", "s2"], target="speaker", part=part)
        for part in ([0, 0.6], [0.6, 1.0])
    ]
    ids = [{part[i]["id"] for i in range(len(part))} for part in parts]
    assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == 24
    assert {*labels_of(parts[0])} == {*labels_of(parts[1])} == {"s0", "s1", "s2"}


def test_minutes_count_rows_of_a_class(manifest):
    own = {"labels": ["go", "open"], "target": "keyword"}
    dataset = ManifestLabels(str(manifest), minutes=1.0 / 60, **own)
    assert len(dataset) == 10


def test_classes_of_a_manifest(manifest):
    own = Manifest(manifest)
    assert speakers_in(own) == ["s0", "s1", "s2"]
    assert choose_keywords(own, 2) == ["open", "nothing"]  # window is in sentences with open
    with pytest.raises(ValueError, match=r"m\.jsonl: has 2 of 5 keywords"):
        choose_keywords(own, 5)
    with pytest.raises(ValueError, match="1 speakers; two or more"):
        speakers_in(own.select([0, 3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "word"}, "target: 'word'; speaker or keyword"),
        ({"labels": ["a"]}, r"labels: \['a'\]; a list of two or more texts"),
        ({"labels": ["a", "a"]}, "different texts, not 'a' twice"),
        ({"part": [0.5, 0.2]}, r"part: \[0.5, 0.2\]; two ascending numbers"),
        ({"labels": ["x", "y"]}, "no utterances left"),
        ({"labels": ["don't", "do"], "target": "keyword"}, 'labels: "don\'t"; a single word of'),
        ({"labels": ["Go", "go"], "target": "keyword"}, "different texts, not 'go' twice"),
    ],
)
def test_bad_options(manifest, options, message):
    own = {"labels": ["s0", "s1"], "target": "speaker"} | options
    with pytest.raises(ValueError, match=message):
        ClassificationDataset(Manifest(manifest), **own)


def test_labels_of_the_demo_are_its_training_speakers():
    config = composed("probe_speaker")
    own = [speaker.name for speaker in speakers("train", seed=0)]
    assert sorted(own) == config.vars.labels
