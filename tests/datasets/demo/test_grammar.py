import functools
import random
import re
import subprocess
import sys

import pytest

from src.datasets.demo.grammar import CHOICES, TEMPLATES, TEST_TEMPLATES, reads_well, sentences
from src.datasets.demo.speech import Recipe, split_sentences

# Prints what eSpeak NG pronounces for each line of its input, without stress.
PHONEMES = """
import ctypes, sys, espeakng_loader
library = ctypes.CDLL(espeakng_loader.get_library_path())
library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)
library.espeak_SetVoiceByName(b"en-us")
library.espeak_TextToPhonemes.restype = ctypes.c_char_p
for line in sys.stdin:
    text = ctypes.c_char_p(line.strip().encode())
    phonemes = library.espeak_TextToPhonemes(ctypes.byref(text), 1, 2).decode()
    print(phonemes.translate({ord(mark): None for mark in "ˈˌ"}))
"""


@pytest.fixture(scope="module")
def splits() -> dict[str, list[str]]:
    return {split: split_sentences(split, Recipe()) for split in ("train", "val", "test")}


def vocabulary(texts: list[str]) -> set[str]:
    return {word for text in texts for word in text.split()}


@functools.cache
def pattern(template: str) -> str:
    choices = re.sub(r"{(\w+)}", lambda slot: f"({'|'.join(CHOICES[slot[1]])})", template)
    return re.sub(r"\ba ", "an? ", choices)


def fits(text: str, templates: tuple[str, ...]) -> bool:
    return any(re.fullmatch(pattern(template), text) for template in templates)


def test_sentences_are_unique(splits: dict[str, list[str]]) -> None:
    together = [text for texts in splits.values() for text in texts]
    assert len(together) == len(set(together)) > 5000


def test_training_covers_vocabulary(splits: dict[str, list[str]]) -> None:
    words = vocabulary(splits["train"])
    assert vocabulary(splits["val"]) <= words
    assert vocabulary(splits["test"]) <= words
    assert 300 <= len(words) <= 400


def test_some_templates_are_only_in_test(splits: dict[str, list[str]]) -> None:
    new = [text for text in splits["test"] if not fits(text, TEMPLATES)]
    assert len(new) > 20
    assert all(fits(text, TEST_TEMPLATES) for text in new)
    assert all(fits(text, TEMPLATES) for text in splits["train"] + splits["val"])


def test_sentences_are_short_lower_case_english(splits: dict[str, list[str]]) -> None:
    for text in splits["train"]:
        assert re.fullmatch("[a-z']+( [a-z']+){3,9}", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text), text


def test_no_homophones() -> None:
    fixed = [re.sub(r"{\w+}", " ", template) for template in TEMPLATES + TEST_TEMPLATES]
    words = sorted(vocabulary(fixed + [text for texts in CHOICES.values() for text in texts]))
    command = [sys.executable, "-c", PHONEMES]
    done = subprocess.run(command, input="\n".join(words), capture_output=True, text=True)
    sounds = done.stdout.splitlines()
    assert len(sounds) == len(words), done.stderr
    alike = [word for word, sound in zip(words, sounds, strict=True) if sounds.count(sound) > 1]
    assert alike == []


def test_no_repeated_nouns() -> None:
    assert reads_well("the horse jumped over the big ladder")
    assert not reads_well("the table and the table cost nine dollars")
    assert not reads_well("it is late")


def test_taken_sentences_are_avoided() -> None:
    taken: set[str] = set()
    first = sentences(50, TEMPLATES, random.Random(1), taken)
    second = sentences(50, TEMPLATES, random.Random(1), taken)
    assert not set(first) & set(second)
    assert taken == {*first, *second}
