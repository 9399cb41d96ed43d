"""The utterances of any manifest."""

from src.datasets.manifest import Manifest
from src.datasets.recognition import RecognitionDataset


class ManifestDataset(RecognitionDataset):
    """The utterances of a manifest, with their transcripts if there is a text encoder.

    Args:
        manifest: path of the file, JSON lines.
        options: of `RecognitionDataset`.
    """

    def __init__(self, manifest: str, **options):
        super().__init__(Manifest(manifest), **options)
