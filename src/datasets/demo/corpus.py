"""Datasets of the demo speech, which is synthesised on first use."""

from pathlib import Path

from src.datasets.classification import ClassificationDataset
from src.datasets.demo.speech import SPLITS, make_demo_speech
from src.datasets.manifest import Manifest
from src.datasets.mixtures.conversations import Conversations
from src.datasets.mixtures.dynamic import DynamicMixtures
from src.datasets.recognition import RecognitionDataset
from src.utils.options import check_choice


class DemoSpeech(RecognitionDataset):
    """A split of the demo speech.

    Args:
        split: train, val or test.
        folder: of the corpus, which is synthesised on first use.
        options: of `RecognitionDataset`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


class DemoMixtures(DynamicMixtures):
    """Mixtures of a split of the demo speech.

    Args:
        split: train, val or test.
        folder: of the corpus, which is synthesised on first use.
        options: of `DynamicMixtures`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


class DemoLabels(ClassificationDataset):
    """A split of the demo speech with classes, such as its speakers.

    Args:
        split: train, val or test.
        folder: of the corpus, which is synthesised on first use.
        options: of `ClassificationDataset`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


class DemoConversations(Conversations):
    """Conversations of a split of the demo speech.

    Args:
        split: train, val or test.
        folder: of the corpus, which is synthesised on first use.
        options: of `Conversations`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


def demo_manifest(split: str, folder: str) -> Manifest:
    """Manifest of a split of the demo speech, which is synthesised on first use.

    Args:
        split: train, val or test.
        folder: of the corpus.

    Raises:
        ValueError: there is no such split, or the folder contains something else.
    """
    check_choice("demo speech: split", split, SPLITS)
    return Manifest(make_demo_speech(Path(folder)) / f"{split}.jsonl")
