"""Runs on the Hugging Face hub, by name: `user/name`, or `user/name@revision`.

A path that exists is never a name, nor is one below a folder that exists, unless it has a revision.
Only the files that loading reads are downloaded, to the cache of `huggingface_hub`, whose
environment variables are respected: HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT, ...
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm.auto import tqdm

from src.interop.published_run import CONFIG, FILES, is_published, verify_published
from src.utils.checkpoint import CHECKSUMS, WEIGHTS

PART = r"[A-Za-z0-9][\w.-]*"
NAME = re.compile(rf"({PART}/{PART})(?:@([\w./-]+))?", re.ASCII)
FILE_SUFFIXES = (".nemo", ".pt", ".ckpt", ".safetensors")
OUTPUTS = Path("runs", "hub")  # where evaluations of downloaded runs are written


def hub_name(path: Path) -> tuple[str, str | None] | None:
    """Name and revision of a run on the hub; None for a path on this disk."""
    match = NAME.fullmatch(path.as_posix())
    if match is None or os.path.lexists(path) or path.suffix in FILE_SUFFIXES:
        return None
    if match[2] is None and path.parent.is_dir():  # a typo in the name of a folder
        return None
    return match[1], match[2]


def locate_source(path: Path) -> Path:
    """Where a run or a file is on this disk; what is on the hub is downloaded first.

    Args:
        path: of a run, a published run, a checkpoint or a file; or the name of a run on the hub.

    Raises:
        FileNotFoundError: the hub has no run of this name, or can't be reached; or a file of a
            published run is missing.
        ValueError: a published run is damaged.
    """
    name = hub_name(path)
    if name is not None:
        path = download(*name)
    if is_published(path):
        verify_published(path)
    return path


def pinned(path: Path) -> Path:
    """The name of a run on the hub with its present commit as revision; another path as it is."""
    name = hub_name(path)
    return path if name is None else Path(f"{name[0]}@{download(*name).name}")


def outputs_of(path: Path, folder: Path) -> Path | None:
    """Where evaluations of a source are written; None: beside it.

    Args:
        path: of the source, or its name on the hub.
        folder: from `locate_source`; for a name that of the commit.
    """
    name = hub_name(path)
    return None if name is None else OUTPUTS / name[0] / folder.name[:12]


def download(name: str, revision: str | None = None) -> Path:
    """The folder of a run of the hub in the cache, whose name is its commit.

    Raises:
        FileNotFoundError: there is no such run, or it can't be reached.
    """
    folder = fetch(name, revision, (CONFIG, CHECKSUMS), Quiet)  # another model may be large
    for file in (CONFIG, CHECKSUMS):
        if not (folder / file).exists():
            raise FileNotFoundError(f"{name}: no run that publish.py wrote ({file} is missing).")
    return fetch(name, folder.name, FILES, Quiet if (folder / WEIGHTS).exists() else None)


class Quiet(tqdm):
    """A progress bar that isn't shown."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **{**options, "disable": True})


def fetch(
    name: str, revision: str | None, files: Sequence[str], bar: type[tqdm] | None = None
) -> Path:
    """Some files of a model of the hub, as far as it has them.

    Args:
        name: of the model.
        revision: branch, tag or commit; None: the main branch.
        files: their names.
        bar: shows progress; None: the library's own.

    Returns:
        The folder of the commit, which may lack a file, or be missing itself.

    Raises:
        FileNotFoundError: there is no such model or revision, or it can't be reached.
    """
    from huggingface_hub import snapshot_download  # has side effects at exit

    patterns = list(files)
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=patterns, tqdm_class=bar)
        )
    except OSError as error:
        if error.errno is not None:  # of the disk
            raise
        raise FileNotFoundError(explain(error, name, revision)) from None
    except Exception as error:  # those of its HTTP library aren't documented
        raise FileNotFoundError(explain(error, name, revision)) from None


def explain(error: Exception, name: str, revision: str | None) -> str:
    """One sentence about why a model of the hub isn't there."""
    host = constants.ENDPOINT
    if isinstance(error, GatedRepoError):
        return f"{name}: restricted; ask for access at {host}/{name}, then `hf auth login`."
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return (
            f"{name}: neither a folder here nor a model of {host}; a private one needs "
            "`hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{name}: has no revision '{revision}'."
    if isinstance(error, LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE:
        return (
            f"{name}: no folder here, not completely in the cache ({constants.HF_HUB_CACHE}), and "
            "HF_HUB_OFFLINE forbids to download it."
        )
    reason = error.__cause__ or error
    kind = f"{type(reason).__name__}: {reason}".strip().splitlines()[0]
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f"{name}: no folder here, not completely in the cache ({constants.HF_HUB_CACHE}), and "
            f"{host} can't be reached ({kind})."
        )
    return f"{name}: could not be downloaded from {host} ({kind})."
