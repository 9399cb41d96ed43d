"""Ranges of bytes of files on a disk, on a web server or in an object store."""

import errno
import http.client
import logging
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from src.utils.files import check_regular
from src.utils.options import check_number, check_whole, refuse
from src.utils.range_cache import RangeCache

logger = logging.getLogger(__name__)

URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
URL_CHARACTERS = "%:/?#[]@!$&'()*+,;=~"  # that stay as they are; spaces and letters are quoted
WEB = ("http", "https")
# Object stores that fsspec reads, with the package that each needs.
STORES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
GONE, BEYOND, BUSY = (404, 410), 416, (408, 425, 429)  # HTTP status
LONGEST_WAIT = 60.0  # seconds between two attempts

given_up: set[str] = set()  # files on a disk that this process has waited for in vain


class UnavailableError(Exception):
    """An attempt failed in a way that another one may not; its text is a clause."""


@dataclass(frozen=True)
class Remote:
    """How files are read over the network, and how long those on a disk may be missing.

    Args:
        cache: folder for the bytes that were read, which processes may share; None: none.
        cache_gigabytes: size of that folder at most; what was used least recently is removed.
        attempts: how often a read is tried before it is an error.
        timeout: seconds that an attempt over the network may take.
        wait: seconds before the second attempt, twice as many before each next one, up to 60.

    Raises:
        ValueError: a value is not allowed; names the key.
    """

    cache: str | None = None
    cache_gigabytes: float = 10.0
    attempts: int = 5
    timeout: float = 30.0
    wait: float = 1.0

    def __post_init__(self) -> None:
        if self.cache is not None and (not isinstance(self.cache, str) or not self.cache):
            refuse("remote.cache", self.cache, "the path of a folder", optional=True)
        check_number("remote.cache_gigabytes", self.cache_gigabytes, high=1e6)
        check_whole("remote.attempts", self.attempts, high=100)
        check_number("remote.timeout", self.timeout, high=3600)
        check_number("remote.wait", self.wait, high=LONGEST_WAIT, inclusive=True)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Remote":
        """The options in the config's node `remote`.

        Raises:
            ValueError: a key is unknown, or has a bad value.
        """
        names = [field.name for field in fields(cls)]
        for key in config:
            if key not in names:
                raise ValueError(f"remote.{key}: unknown; the keys are {', '.join(names)}.")
        return cls(**config)

    @cached_property
    def ranges(self) -> RangeCache | None:
        """The cache."""
        if self.cache is None:
            return None
        return RangeCache(Path(self.cache), round(self.cache_gigabytes * 1e9))


def is_url(place: str) -> bool:
    """Whether a text is an address and not a path."""
    return URL.match(place) is not None


def scheme_of(url: str) -> str:
    """What an address begins with, as `https`.

    Raises:
        ValueError: files can't be read by it.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in WEB and scheme not in STORES:
        known = ", ".join((*WEB, *STORES))
        raise ValueError(f"{url}: {scheme}:// is unknown; a path, or {known}.")
    return scheme


def read_range(
    place: str, start: int, size: int, crc32: int | None = None, remote: Remote | None = None
) -> bytes:
    """Bytes of a file.

    Args:
        place: path, or address that begins with http, https, s3, gs, abfs or az.
        start: of the range, in bytes.
        size: of the range.
        crc32: CRC-32 that the bytes must have; None: any.
        remote: how it is read; None: over the network with the defaults, from a disk at once.

    Raises:
        FileNotFoundError: there is no such file, on a disk in all attempts.
        ValueError: it is no regular file, ends within the range, or has other bytes there.
        OSError: the disk, the network or the server fails in all attempts.
    """
    if not is_url(place):
        return checked(read_patiently(Path(place), start, size, remote), place, start, crc32)
    remote = remote or Remote()
    key = f"{place}\n{start}\n{size}\n{crc32}"
    known = None if remote.ranges is None else remote.ranges.get(key)
    if known is not None and len(known) == size and crc32 in (None, zlib.crc32(known)):
        return known
    data = checked(fetch(place, start, size, remote), place, start, crc32)
    if remote.ranges is not None:
        remote.ranges.put(key, data)
    return data


def checked(data: bytes, place: str, start: int, crc32: int | None) -> bytes:
    """Bytes, if they have a CRC-32.

    Raises:
        ValueError: they have another one.
    """
    if crc32 is not None and zlib.crc32(data) != crc32:
        end = start + len(data)
        raise ValueError(
            f"{place}: changed or damaged; bytes {start} to {end} have the CRC-32 "
            f"{zlib.crc32(data):08x}, the manifest has {crc32:08x}."
        )
    return data


def ends_early(place: str, start: int, size: int, length: int) -> ValueError:
    """The error of a file that ends within a range."""
    return ValueError(
        f"{place}: ends after {length} bytes, wanted bytes {start} to {start + size}; truncated."
    )


def file_size(place: str, remote: Remote | None = None) -> int:
    """Size of a file in bytes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file.
        OSError: the disk fails, or the network or the server in all attempts.
    """
    if not is_url(place):
        check_regular(Path(place))
        return Path(place).stat().st_size
    if scheme_of(place) in WEB:
        return retried(place, lambda timeout: request(place, 0, 1, timeout)[1], remote or Remote())

    def size(_: float) -> int:
        files = filesystem(place)
        with store_errors(place):
            return files.size(place)

    return retried(place, size, remote or Remote())


def read_local(path: Path, start: int, size: int) -> bytes:
    """Bytes of a file on a disk, which is opened anew so that forked processes share no position.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, or ends within the range.
        OSError: the disk fails.
    """
    check_regular(path)
    with path.open("rb", buffering=0) as file:
        length = file.seek(0, 2)
        if start + size > length:  # before memory is taken for a size that may be wrong
            raise ends_early(str(path), start, size, length)
        file.seek(start)
        data = file.read(size)
        while len(data) < size:  # of more than 2 GiB, or a file that is being cut
            more = file.read(size - len(data))
            if not more:
                raise ends_early(str(path), start, size, start + len(data))
            data += more
    return data


def read_patiently(path: Path, start: int, size: int, remote: Remote | None) -> bytes:
    """Bytes of a file on a disk, which may be missing or fail for a while, as one of a network.

    A file for which all attempts were made once isn't waited for again.

    Raises:
        FileNotFoundError: there is no such file in all attempts.
        ValueError: it is no regular file, or ends within the range.
        OSError: the disk fails in all attempts.
    """
    place = str(path)
    begin, wait = time.monotonic(), 0.0 if remote is None else remote.wait
    attempts = 1 if remote is None or place in given_up else remote.attempts
    for number in range(1, attempts + 1):
        try:
            data = read_local(path, start, size)
            given_up.discard(place)
            return data
        except PermissionError:
            raise
        except OSError as error:
            failure, reason = error, error.strerror or "no such file"
        if number < attempts:
            logger.warning("%s: %s; attempt %d of %d.", place, reason, number, attempts)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
    if attempts == 1:
        raise failure
    given_up.add(place)
    seconds = time.monotonic() - begin
    kind = FileNotFoundError if isinstance(failure, FileNotFoundError) else OSError
    raise kind(f"{place}: {reason}; {attempts} attempts in {seconds:.0f} s.")


def fetch(place: str, start: int, size: int, remote: Remote) -> bytes:
    """Bytes of a file over the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it ends within the range, or the server can't send ranges.
        OSError: the network or the server failed in all attempts.
    """
    if scheme_of(place) in WEB:
        return retried(place, lambda timeout: request(place, start, size, timeout)[0], remote)

    def read(_: float) -> bytes:
        files = filesystem(place)
        with store_errors(place):
            data = files.cat_file(place, start=start, end=start + size)
        if len(data) != size:
            raise ends_early(place, start, size, start + len(data))
        return data

    return retried(place, read, remote)


def retried(place: str, attempt: Callable[[float], Any], remote: Remote) -> Any:
    """The result of the first attempt that succeeds.

    Args:
        place: the address, for messages.
        attempt: called with the seconds that it may take.
        remote: how often it is called, and with which waits.

    Raises:
        FileNotFoundError, PermissionError, ValueError: of an attempt, which isn't repeated.
        OSError: all attempts failed; the reason of the last one.
    """
    begin, wait, reason = time.monotonic(), remote.wait, ""
    for number in range(1, remote.attempts + 1):
        try:
            return within(remote.timeout, attempt)
        except (FileNotFoundError, PermissionError):
            raise
        except (UnavailableError, OSError, http.client.HTTPException) as error:
            reason = str(error).strip().rstrip(".") or type(error).__name__
        if number < remote.attempts:
            logger.warning("%s: %s; attempt %d of %d.", place, reason, number, remote.attempts)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
    seconds = time.monotonic() - begin
    raise OSError(
        f"{place}: could not be read ({reason}); {remote.attempts} attempts in {seconds:.0f} s."
    )


def within(seconds: float, function: Callable[[float], Any]) -> Any:
    """The result of a function; it is left alone in its thread if it takes too long.

    So the wait is bounded whatever the function waits for: a name server, a header that comes byte
    by byte, or the event loop of an object store.

    Raises:
        UnavailableError: it took too long.
    """
    results: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            results.append((function(seconds), None))
        except BaseException as error:
            results.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not results:
        raise UnavailableError(f"no answer within {seconds:g} s")
    value, error = results[0]
    if error is not None:
        raise error
    return value


def request(url: str, start: int, size: int, timeout: float) -> tuple[bytes, int]:
    """Bytes of a file on a web server, and the size of the file; a single attempt.

    Args:
        url: http or https.
        start: of the range, in bytes.
        size: of the range.
        timeout: seconds that the server may be silent.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it ends within the range, or the server can't send ranges.
        PermissionError: the server refuses.
        UnavailableError, OSError, http.client.HTTPException: the attempt failed.
    """
    wanted = {"Range": f"bytes={start}-{start + size - 1}", "Accept-Encoding": "identity"}
    try:
        asked = urllib.request.Request(urllib.parse.quote(url, safe=URL_CHARACTERS), headers=wanted)
        with urllib.request.urlopen(asked, timeout=timeout) as response:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if response.status != 206 or not total.isdecimal():
                raise ValueError(f"{url}: this server can't send ranges of bytes.")
            data = response.read(size + 1)
    except urllib.error.HTTPError as error:
        error.close()
        said = f"HTTP {error.code} {error.reason}".strip()
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code in GONE:
            raise FileNotFoundError(f"{url}: no such file ({said}).") from None
        if error.code == BEYOND:
            raise ends_early(url, start, size, int(total) if total.isdecimal() else start) from None
        if error.code in BUSY or error.code >= 500:
            raise UnavailableError(said) from None
        raise PermissionError(f"{url}: refused ({said}).") from None
    except urllib.error.URLError as error:
        raise UnavailableError(str(error.reason)) from None
    if start + size > int(total):
        raise ends_early(url, start, size, int(total))
    if len(data) != size:
        raise UnavailableError(f"{len(data)} of {size} bytes came")
    return data, int(total)


def filesystem(place: str) -> Any:
    """The fsspec file system of an address in an object store.

    Raises:
        ValueError: its package isn't installed.
    """
    scheme = scheme_of(place)
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError:
        package = STORES[scheme]
        raise ValueError(f"{place}: needs `pip install fsspec {package}`.") from None


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Turn the exceptions of an object store into those that `retried` knows.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: the store refuses.
        ValueError: the file ends before the bytes that are wanted.
        UnavailableError: anything else; each store has exceptions of its own.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{place}: no such file.") from None
    except PermissionError as error:
        raise PermissionError(f"{place}: refused ({error}).") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EINVAL:  # of s3fs
            reason = f"truncated; ends before the bytes that are wanted ({error.strerror})"
            raise ValueError(f"{place}: {reason}.") from None
        raise UnavailableError(str(error) or type(error).__name__) from None
