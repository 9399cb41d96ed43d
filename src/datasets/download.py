"""Downloads that go on where they stopped, and archives that can't write elsewhere."""

import hashlib
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath

from tqdm.auto import tqdm

CHUNK = 1 << 20  # bytes


def download(url: str, path: Path, sha256: str) -> Path:
    """Fetch a file, with a progress bar; a download that was cut off goes on.

    Args:
        url: where from.
        path: where to; appears only when complete and checked.
        sha256: what the file must hash to.

    Raises:
        ValueError: it can't be fetched, or has another hash (and is removed).
    """
    if path.exists():
        return path
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(url, part)
    except (urllib.error.URLError, OSError) as error:
        raise ValueError(
            f"{url}: could not be downloaded ({error}); call again to go on."
        ) from None
    found = hash_file(part)
    if found != sha256:
        part.unlink()
        raise ValueError(f"{url}: damaged, its SHA-256 is {found}, wanted {sha256}.")
    part.rename(path)
    return path


def fetch(url: str, part: Path) -> None:
    """Append to `part` what it lacks."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is lacking
            return
        raise
    with response:
        if have and response.status != 206:  # the server starts again
            have = 0
        total = have + int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem)
        with part.open("ab" if have else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if part.stat().st_size < total:
        raise OSError(f"cut off after {part.stat().st_size} of {total} bytes")


def hash_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Write the plain files of a tar archive below a folder, member by member.

    Raises:
        ValueError: a member would land elsewhere, or the archive is damaged.
    """
    try:
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc=f"unpacking {archive.name}", unit="file"):
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts:
                    raise ValueError(f"{archive}: the member '{member.name}' leaves the folder.")
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    target = folder.joinpath(*name.parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with target.open("wb") as file:
                        while chunk := content.read(CHUNK):
                            file.write(chunk)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f"{archive}: not a readable archive ({error}).") from None
