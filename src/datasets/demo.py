"""The demo speech, made on first use."""

from pathlib import Path

from src.datasets.base_dataset import BaseDataset
from src.datasets.demo_speech import make_demo_speech
from src.datasets.dynamic_mixtures import DynamicMixtures
from src.datasets.manifest import Manifest


class DemoSpeech(BaseDataset):
    """A split of the demo speech.

    Args:
        split: train, val or test.
        folder: where the corpus is or will be.
        options: of `BaseDataset`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


class DemoMixtures(DynamicMixtures):
    """Mixtures of a split of the demo speech.

    Args:
        split: train, val or test.
        folder: where the corpus is or will be.
        options: of `DynamicMixtures`.
    """

    def __init__(self, split: str, folder: str = "data/demo_speech", **options):
        super().__init__(demo_manifest(split, folder), **options)


def demo_manifest(split: str, folder: str) -> Manifest:
    """The rows of a split of the demo speech, which is made if it isn't there."""
    return Manifest(make_demo_speech(Path(folder)) / f"{split}.jsonl")
