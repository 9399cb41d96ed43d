"""Corpora in archives: where a corpus lies, or else its download."""

import http.client
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from src.datasets.corpora.download import download, unpack

MOST = 1 << 20  # bytes of a list of checksums


@dataclass(frozen=True)
class Archive:
    """A published archive.

    Attributes:
        url: its address.
        name: of the file.
        folder: what its content becomes, below the folder that it is downloaded to.
        checksum: in hex, or the address of a list that is published with it, of lines
            `CHECKSUM NAME`.
        algorithm: of the checksum, a name that hashlib knows.
        inside: path of the folder in the archive; None: its only folder, or else all of it.
    """

    url: str
    name: str
    folder: str
    checksum: str
    algorithm: str = "sha256"
    inside: str | None = None


def corpus_folder(folder: Path, marker: str, archive: Archive, fetch: bool) -> Path:
    """Where a corpus lies: the folder itself or `archive.folder` in it, downloaded if in neither.

    Args:
        folder: to look in and to download to.
        marker: path of a file or folder that the corpus has.
        archive: of the corpus.
        fetch: whether to download it.

    Raises:
        FileNotFoundError: it isn't there, and `fetch` is false.
        ValueError: there is a part of it, or the download fails.
    """
    place = folder / archive.folder
    for known in (place, folder):
        if (known / marker).exists():
            return known
    if place.exists():
        raise ValueError(f"{place}: has no {marker}; complete or remove this folder.")
    if not fetch:
        raise FileNotFoundError(f"{folder}: has no {marker}, and no {archive.folder}/{marker}.")
    fetch_archive(archive, folder)
    if not (place / marker).exists():
        raise ValueError(f"{place}: what {archive.url} holds has no {marker}.")
    return place


def fetch_archive(archive: Archive, folder: Path) -> Path:
    """Download and unpack an archive; its folder exists only once it is complete.

    Raises:
        ValueError: the download fails, or the archive has another content; names it.
    """
    path, place = folder / archive.name, folder / archive.folder
    download(archive.url, path, checksum_of(archive), archive.algorithm)
    unpack_as(path, place, archive.inside)
    path.unlink()
    return place


def unpack_as(archive: Path, place: Path, inside: str | None = None, progress: bool = True) -> None:
    """Unpack a folder of an archive; it exists only once it is complete.

    Args:
        archive: .tar or compressed tar file.
        place: what the folder becomes.
        inside: path of the folder in the archive; None: its only folder, or else all of it.
        progress: whether to show a progress bar.

    Raises:
        ValueError: the archive is damaged, or has no such folder; names it.
    """
    unpacked = place.with_name(f"{place.name}.unpacked")
    unpacked.mkdir(parents=True, exist_ok=True)
    try:
        unpack(archive, unpacked, progress)
        top = list(unpacked.iterdir())
        if inside is None:
            found = top[0] if len(top) == 1 and top[0].is_dir() else unpacked
        else:
            found = unpacked / inside
        if not top or not found.is_dir():
            raise ValueError(f"{archive}: has no {'files' if inside is None else inside}.")
        place.parent.mkdir(parents=True, exist_ok=True)
        found.rename(place)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def checksum_of(archive: Archive) -> str:
    """The checksum of an archive, read from the published list where it stands in one.

    Raises:
        ValueError: the list can't be read or has no line for it; names the list.
    """
    if "://" not in archive.checksum:
        return archive.checksum
    return listed_checksum(archive.checksum, archive.name)


def listed_checksum(url: str, name: str) -> str:
    """The checksum of a file in a published list of lines `CHECKSUM PATH`.

    Args:
        url: of the list.
        name: of the file, the last part of its path.

    Raises:
        ValueError: the list can't be read or has no line for it; names the list.
    """
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            lines = response.read(MOST).decode("utf-8", "replace").splitlines()
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"{url}: could not be read ({error}).") from None
    for line in lines:
        words = line.split()
        if len(words) == 2 and words[1].lstrip("*").rpartition("/")[2] == name:
            return words[0].lower()
    raise ValueError(f"{url}: has no checksum of {name}.")
