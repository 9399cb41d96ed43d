"""Resumable downloads, and extraction of archives that can't write outside of their folder."""

import hashlib
import http.client
import lzma
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

CHUNK = 1 << 20  # bytes


def download(url: str, path: Path, checksum: str, algorithm: str = "sha256") -> Path:
    """Download a file with a progress bar, resuming an interrupted download; returns its path.

    Args:
        url: of the file.
        path: to write; created when the file is complete and verified.
        checksum: of the file, in hex.
        algorithm: of the checksum, a name that hashlib knows.

    Raises:
        ValueError: the download fails, or the checksum differs (the file is then removed).
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(url, part)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise ValueError(
            f"{url}: could not be downloaded ({error}); run again to resume."
        ) from None
    actual = hash_file(part, algorithm)
    if actual != checksum:
        part.unlink()
        name = algorithm.upper().replace("SHA", "SHA-")
        raise ValueError(f"{url}: damaged: {name} {actual}, expected {checksum}.")
    part.rename(path)
    return path


def fetch(url: str, part: Path) -> None:
    """Append the missing part of the file at a URL to a partial download.

    Raises:
        OSError: the connection fails or ends early.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the partial download is complete
            return
        raise
    with response:
        if have and response.status != 206:  # the server ignores the range and sends the whole file
            have = 0
        total = have + int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem)
        with part.open("ab" if have else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < total:
        raise OSError(f"connection closed after {part.stat().st_size} of {total} bytes")


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def unpack(archive: Path, folder: Path, progress: bool = True) -> None:
    """Extract the regular files of a tar archive into a folder.

    Args:
        archive: .tar or compressed tar file.
        folder: to extract to.
        progress: whether to show a progress bar.

    Raises:
        ValueError: a member has a path outside of the folder, or the archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            title = f"unpacking {archive.name}"
            for member in tqdm(tar, desc=title, unit="file", disable=not progress):
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(
                        f"{archive}: the member '{member.name}' is outside of the folder."
                    )
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    target = folder.joinpath(*name.parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        while chunk := content.read(CHUNK):
                            file.write(chunk)
            while tar.fileobj and tar.fileobj.read(CHUNK):  # to its end, where gzip has a checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk; bad bzip2 and gzip have none
            raise
        raise ValueError(f"{archive}: not a readable archive ({error}).") from None
