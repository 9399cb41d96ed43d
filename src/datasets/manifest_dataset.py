"""Any manifest."""

from src.datasets.base_dataset import BaseDataset
from src.datasets.manifest import Manifest


class ManifestDataset(BaseDataset):
    """The utterances of a manifest.

    Args:
        manifest: path of the file.
        options: of `BaseDataset`.
    """

    def __init__(self, manifest: str, **options):
        super().__init__(Manifest(manifest), **options)
