"""Golos (Karpov et al., 2021): Russian, 1,240 hours, github.com/salute-developers/golos."""

from pathlib import Path

from src.datasets.corpora.archives import Archive, corpus_folder
from src.datasets.manifest import Manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.splitting import Values, part_by_hash
from src.utils.audio_files import check_file
from src.utils.options import check_choice

ARCHIVE = Archive(
    "https://sc.link/JpD",
    "golos_opus.tar",
    "golos_opus",
    "3d782afc1a17755e2e1bd93baea1e35a",
    "md5",
)
SPLITS = ("train", "val", "test_crowd", "test_farfield")
SUBSETS = ("10min", "1hour", "10hours", "100hours")
PARTS = {"val": (0.0, 0.005), "train": (0.005, 1.0)}  # of the sentences of the training set


class Golos(RecognitionDataset):
    """A split in Opus, whose archive (20.5 GB) is downloaded unless it is there.

    No validation set is published: `val` has 0.5 % of the sentences of the training set, and
    `train` the others.

    Args:
        split: train, val, test_crowd or test_farfield.
        folder: holds `golos_opus` or will; or is itself the folder of `train_opus` and `test_opus`.
        subset: of the training set: 10min, 1hour, 10hours or 100hours, as published; None: all.
        download: whether to fetch the archive if it isn't there.
        options: of `RecognitionDataset`.

    Raises:
        ValueError: there is no such split or subset, the download fails, or a manifest is bad.
        FileNotFoundError: there is no manifest, or the corpus isn't there and `download` is false.
    """

    def __init__(
        self,
        split: str,
        folder: str = "data/golos",
        subset: str | None = None,
        download: bool = True,
        **options,
    ):
        check_choice("Golos: split", split, SPLITS)
        check_choice("Golos: subset", subset, (None, *SUBSETS))
        test = split.startswith("test")
        marker = "test_opus" if test else "train_opus"
        place = corpus_folder(Path(folder), marker, ARCHIVE, download) / marker
        if test:
            place = place / split.removeprefix("test_")
        path = place / ("manifest.jsonl" if test or subset is None else f"{subset}.jsonl")
        check_file(path, "manifest")
        manifest = Manifest(path)
        if not test:
            manifest = part_by_hash(manifest, sentence_or_name, PARTS[split])
        super().__init__(manifest, **options)


def sentence_or_name(values: Values) -> str:
    """The text of a row, or the path of its audio where the text is empty."""
    return values.get("text") or values["audio_filepath"]
