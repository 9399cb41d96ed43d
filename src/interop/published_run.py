"""A published run: one folder with what loading needs, as people share models on the hub.

It has no training state, and nothing in it can run code.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from src.loaded_config import format_config, read_config
from src.text_encoder.base import TextEncoder, load_text_encoder
from src.utils.checkpoint import (
    CHECKSUMS,
    SELF_TEST,
    WEIGHTS,
    file_digest,
    format_checksums,
    read_checksums,
    read_tensors,
    tensors_to_bytes,
)
from src.utils.files import check_regular

CONFIG = "config.yaml"
TEXT_ENCODER = "text_encoder"
COMMIT, DATA = "git_commit.txt", "data.json"  # of the code, and how much it was trained on
LARGE = (WEIGHTS, SELF_TEST)  # verified when they are read
# All that is read, and therefore all that is downloaded.
FILES = (
    CHECKSUMS,
    CONFIG,
    *LARGE,
    f"{TEXT_ENCODER}/text_encoder.json",
    f"{TEXT_ENCODER}/subwords.model",
    COMMIT,
    DATA,
)
POINTER = b"version https://git-lfs"  # what a clone without git-lfs has in place of a file


class PublishedRun:
    """What `src.run.Run` has for loading and evaluating, from a published folder.

    Args:
        path: of the folder.
        trusted: packages besides this one and torch whose classes its config may name.
        inference_path: for the results of evaluations; None: `<name>_inference` beside it.
    """

    def __init__(self, path: Path, trusted: Sequence[str] = (), inference_path: Path | None = None):
        self.path, self.trusted = path, trusted
        beside = path.resolve()
        self.inference_path = inference_path or beside.with_name(f"{beside.name}_inference")

    def read_config(self) -> DictConfig:
        """The config of the run, without places on disk.

        Raises:
            ValueError: it is damaged, or names what a loaded run may not use.
        """
        return read_config(self.path / CONFIG, self.trusted)

    def checkpoint(self, name: str) -> Path:
        """The folder, whatever the name of the checkpoint."""
        return self.path

    def read_weights(self, checkpoint: str) -> dict[str, Tensor]:
        """The weights of the model."""
        return read_tensors(self.path / WEIGHTS)

    def read_self_test(self, checkpoint: str) -> dict[str, Tensor]:
        """The audio of the self-test, and the outputs for it."""
        return read_tensors(self.path / SELF_TEST)

    def read_text_encoder(self) -> TextEncoder | None:
        """The text encoder; None for a task without text.

        Raises:
            ValueError: it is damaged.
        """
        folder = self.path / TEXT_ENCODER
        return load_text_encoder(folder) if folder.exists() else None


def is_published(folder: Path) -> bool:
    """Whether a folder holds a published run, perhaps not all of it."""
    return (folder / CONFIG).exists() and any(
        (folder / one).exists() for one in (CHECKSUMS, *LARGE)
    )


def check_has_state(folder: Path) -> None:
    """Check that a run which is to be resumed isn't a published one.

    Raises:
        ValueError: it is.
    """
    if is_published(folder):
        raise ValueError(
            f"{folder}: a published run, which has no training state; start a new run from its "
            f"weights by init=model init.model.source={folder}."
        )


def verify_published(folder: Path) -> None:
    """Check that a published run is complete, and its small files as they were published.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged, or is a pointer of git-lfs.
    """
    check_regular(folder / CHECKSUMS)
    digests = read_checksums(folder / CHECKSUMS)
    for name in FILES[1:]:
        path = folder / name
        if name not in digests and name not in (CONFIG, *LARGE):
            continue
        check_regular(path)
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise ValueError(f"{path}: a pointer of git-lfs; `git lfs pull` gets the file.")
        if name not in LARGE and file_digest(path) != digests.get(name):
            raise ValueError(f"{path}: damaged, its SHA-256 is not the one in {CHECKSUMS}.")


def write_published(
    folder: Path,
    config: DictConfig,
    weights: dict[str, Tensor],
    self_test: dict[str, Tensor],
    text_encoder: TextEncoder | None,
    facts: dict[str, str],
) -> None:
    """Write a run as it is published; the same run gives the same bytes.

    Args:
        folder: exists.
        config: of the run, without places on disk.
        weights: of the model.
        self_test: audio, and the model's outputs for it.
        text_encoder: None for a task without text.
        facts: text by file, `COMMIT` or `DATA`; empty texts are left out.
    """
    (folder / CONFIG).write_text(format_config(config), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(tensors_to_bytes(weights))
    (folder / SELF_TEST).write_bytes(tensors_to_bytes(self_test))
    if text_encoder is not None:
        text_encoder.save(folder / TEXT_ENCODER)
    for name, text in facts.items():
        if text:
            (folder / name).write_text(f"{text}\n", encoding="utf-8")
    present = [name for name in FILES if (folder / name).exists()]
    digests = {name: file_digest(folder / name) for name in present}
    (folder / CHECKSUMS).write_bytes(format_checksums(digests))
