"""Mutated manifests: whatever is in them, an item or one sentence."""

import json
import random

import pytest

from src.datasets.manifest import Manifest
from src.datasets.recognition import RecognitionDataset
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine

VALUES = [
    *(None, True, 0, -1, 1.5, 1e308, 10**400, float("nan"), float("inf"), "", "x", "\0", "\ud800"),
    *([], [1], {}, {"a": {"b": []}}, "y" * 5000, "../..", "/dev/zero", ".", "a.wav/b"),
]


def mutated(row, rng):
    """A line of a manifest with one to three changes."""
    row = dict(row)
    for _ in range(rng.randint(0, 2)):
        row[rng.choice([*row, "extra"])] = rng.choice(VALUES)
    if rng.random() < 0.1:
        row.pop(rng.choice(list(row)))
    line = bytearray(json.dumps(row), "ascii")
    for _ in range(rng.choice([0, 0, 1, 3])):
        place = rng.randrange(len(line))
        change = rng.choice(["set", "cut", "repeat"])
        if change == "set":
            line[place] = rng.randrange(256)
        elif change == "cut":
            del line[place : place + rng.randint(1, 9)]
        else:
            line[place:place] = line[place : place + 4] * rng.choice([1, 9, 2000])
    return bytes(line)


@pytest.mark.parametrize("seed", range(4))
def test_item_or_one_line_error(tmp_path, seed):
    rng = random.Random(seed)
    sine(tmp_path / "a.wav", 8000, 1.0)
    good = {"audio_filepath": "a.wav", "duration": 1.0, "text": "hello", "offset": 0, "speaker": ""}
    path = tmp_path / "m.jsonl"
    read = 0
    for _ in range(250):
        path.write_bytes(json.dumps(good).encode() + b"\n" + mutated(good, rng) + b"\n")
        try:
            dataset = RecognitionDataset(Manifest(path), text_encoder=CharacterEncoder())
            read += all("audio" in dataset[i] for i in range(len(dataset)))
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
            assert message.startswith(str(path)) and len(message) < len(str(path)) * 3 + 300
            assert "\n" not in message and message.encode()
    assert 10 < read < 240
