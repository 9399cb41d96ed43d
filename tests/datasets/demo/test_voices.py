import pytest

from src.datasets.demo.voices import FEMALE, VARIANTS, speakers

TWINS = (
    {"edward2", "benjamin"},
    {"klatt3", "klatt4"},
    {"m4", "m5"},
    {"miguel", "Diogo"},
    {"aunty", "f4"},
    {"Gene", "Gene2"},
    {"rob", "robert"},
)
EFFECTS = {"whisper", "whisperf", "klatt", "klatt2", "UniRobot", "anikaRobot", "Demonic", "caleb"}


def variants(split: str) -> set[str]:
    return {speaker.voice.split("+")[1] for speaker in speakers(split, seed=7)}


def test_variants_are_in_one_split() -> None:
    assert variants("train").isdisjoint(variants("val"))
    assert variants("train").isdisjoint(variants("test"))
    assert variants("val").isdisjoint(variants("test"))


@pytest.mark.parametrize("pair", TWINS, ids=sorted)
def test_similar_voices_are_in_one_split(pair: set[str]) -> None:
    assert sum(bool(pair & set(VARIANTS[split])) for split in VARIANTS) <= 1


def test_effect_voices_are_excluded() -> None:
    every = [variant for split in VARIANTS.values() for variant in split]
    assert EFFECTS.isdisjoint(every)
    assert not [variant for variant in every if variant.startswith("robosoft")]


def test_each_split_has_female_and_male_voices() -> None:
    assert [len(variants(split) & FEMALE) for split in ("train", "val", "test")] == [10, 2, 2]
    assert [len(variants(split) - FEMALE) for split in ("train", "val", "test")] == [42, 4, 5]


def test_female_training_voices_have_two_speakers() -> None:
    cast = speakers("train", seed=7)
    names = [speaker.name for speaker in cast]
    assert len(cast) == 52 + 10
    assert len(set(names)) == len(names)
    first, second = (cast[names.index(name)] for name in ("alicia", "alicia-2"))
    assert first.voice == second.voice == "en-us+Alicia"
    assert (first.pitch, first.rate) != (second.pitch, second.rate)


def test_limit() -> None:
    assert speakers("train", seed=7, limit=3) == speakers("train", seed=7)[:3]


def test_depends_on_seed() -> None:
    pitches = [[speaker.pitch for speaker in speakers("train", seed)] for seed in (7, 7, 8)]
    assert pitches[0] == pitches[1] != pitches[2]
