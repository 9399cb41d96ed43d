import errno
import logging
import os
import sys
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.utils import byte_ranges
from src.utils.byte_ranges import Remote, file_size, read_range
from src.utils.range_cache import BUCKETS, RangeCache
from tests.range_server import range_server

DATA = bytes(range(256)) * 8
QUICK = Remote(attempts=3, timeout=0.5, wait=0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with range_server(tmp_path_factory.mktemp("web")) as running:
        (running.folder / "a b.tar").write_bytes(DATA)
        yield running


@pytest.fixture
def url(server):
    server.failures, server.asked = [], []
    return f"{server.url}/a b.tar"


def test_file(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(DATA)
    assert read_range(str(path), 100, 50, zlib.crc32(DATA[100:150])) == DATA[100:150]
    assert file_size(str(path)) == len(DATA)
    with pytest.raises(ValueError, match=r"a.tar: ends after 2048 bytes, wanted bytes 2000 to 21"):
        read_range(str(path), 2000, 100)
    with pytest.raises(
        ValueError, match=r"a.tar: changed or damaged; bytes 0 to 4 have the CRC-32"
    ):
        read_range(str(path), 0, 4, crc32=1)
    with pytest.raises(FileNotFoundError, match="b.tar: no such file"):
        read_range(str(tmp_path / "b.tar"), 0, 1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: no regular file"):
        read_range(str(tmp_path / "pipe"), 0, 1)


def test_missing_files_on_a_disk_are_waited_for(tmp_path, caplog):
    path, away = tmp_path / "a.tar", tmp_path / "away.tar"
    away.write_bytes(DATA)
    comes_back = threading.Timer(0.1, away.rename, [path])
    comes_back.start()
    patient = Remote(attempts=100, wait=0.02)
    assert read_range(str(path), 100, 50, remote=patient) == DATA[100:150]
    comes_back.join()
    assert caplog.messages[0].endswith("a.tar: no such file; attempt 1 of 100.")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a.tar: no such file; 3 attempts in 0 s\."):
        read_range(str(path), 0, 1, remote=QUICK)
    started = time.monotonic()  # not waited for again
    with pytest.raises(FileNotFoundError, match=r"a.tar: no such file\."):
        read_range(str(path), 0, 1, remote=Remote(wait=10))
    assert time.monotonic() - started < 5
    path.write_bytes(DATA)
    assert read_range(str(path), 0, 1, remote=QUICK) == DATA[:1]
    assert str(path) not in byte_ranges.given_up


def test_size_that_no_memory_could_hold(tmp_path):
    (tmp_path / "a.tar").write_bytes(DATA)
    with pytest.raises(ValueError, match="ends after 2048 bytes"):
        read_range(str(tmp_path / "a.tar"), 0, 1 << 61)


def test_no_file_stays_open(tmp_path):
    (tmp_path / "a.tar").write_bytes(DATA)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read_range(str(tmp_path / "a.tar"), 1, 2)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_web(url, server):
    assert read_range(url, 1000, 24, remote=QUICK) == DATA[1000:1024]
    assert server.asked == ["bytes=1000-1023"]
    assert file_size(url, QUICK) == len(DATA)


@pytest.mark.parametrize("failure", [503, 429, "slow", "drip", "cut", "reset"])
def test_failures_are_repeated(url, server, failure, caplog):
    server.failures = [failure]
    with caplog.at_level(logging.WARNING):
        assert read_range(url, 0, 16, remote=QUICK) == DATA[:16]
    assert len(server.asked) == 2 and "attempt 1 of 3" in caplog.text


def test_failures_end(url, server):
    server.failures = [503] * 9
    with pytest.raises(OSError, match=r"a b.tar: could not be read \(HTTP 503.*\); 3 attempts in"):
        read_range(url, 0, 16, remote=QUICK)
    server.failures = ["drip"] * 9
    start = time.monotonic()
    with pytest.raises(OSError, match=r"could not be read \(no answer within 0.2 s\); 2 attempts"):
        read_range(url, 0, 16, remote=Remote(attempts=2, timeout=0.2, wait=0))
    assert time.monotonic() - start < 1.5
    assert len(server.asked) == 5
    with pytest.raises(OSError, match=r"http://127.0.0.1:1/a: could not be read \(.*refused\); 2 "):
        read_range("http://127.0.0.1:1/a", 0, 1, remote=Remote(attempts=2, wait=0))


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (404, FileNotFoundError, "no such file .HTTP 404"),
        (403, PermissionError, "refused .HTTP 403"),
        ("no range", ValueError, "can't send ranges"),
    ],
)
def test_what_is_not_repeated(url, server, failure, kind, message):
    server.failures = [failure]
    with pytest.raises(kind, match=message):
        read_range(url, 0, 16, remote=QUICK)
    assert len(server.asked) == 1


def test_truncated_on_the_web(url):
    for start in (2040, 4000):
        with pytest.raises(ValueError, match="ends after 2048 bytes, wanted bytes"):
            read_range(url, start, 100, remote=QUICK)


class Store:
    """What fsspec gives for an object store."""

    failures = 0

    def cat_file(self, place, start, end):
        if place.endswith("gone"):
            raise FileNotFoundError(place)
        if start >= len(DATA):
            raise OSError(errno.EINVAL, "Requested Range Not Satisfiable")
        if Store.failures:
            Store.failures -= 1
            raise RuntimeError("SlowDown: reduce your request rate")
        return DATA[start:end]

    def size(self, _):
        return len(DATA)


def test_object_store(monkeypatch):
    fsspec = SimpleNamespace(filesystem=lambda scheme: Store())
    monkeypatch.setitem(sys.modules, "fsspec", fsspec)
    Store.failures = 2
    assert read_range("s3://bucket/a", 3, 5, remote=QUICK) == DATA[3:8]
    assert file_size("s3://bucket/a", QUICK) == len(DATA)
    with pytest.raises(FileNotFoundError, match="s3://bucket/gone: no such file"):
        read_range("s3://bucket/gone", 3, 5, remote=QUICK)
    with pytest.raises(ValueError, match="s3://bucket/a: ends after 2048 bytes"):
        read_range("s3://bucket/a", 2000, 100, remote=QUICK)
    with pytest.raises(ValueError, match="s3://bucket/a: truncated; ends before the bytes"):
        read_range("s3://bucket/a", 3000, 100, remote=QUICK)
    Store.failures = 9
    with pytest.raises(OSError, match=r"could not be read \(SlowDown: .*\); 3 attempts"):
        read_range("s3://bucket/a", 3, 5, remote=QUICK)


def test_object_store_without_its_package(monkeypatch):
    def filesystem(_):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setitem(sys.modules, "fsspec", SimpleNamespace(filesystem=filesystem))
    with pytest.raises(ValueError, match="gs://b/a: needs `pip install fsspec gcsfs`"):
        read_range("gs://b/a", 0, 1)
    with pytest.raises(ValueError, match="file:// is unknown; a path, or http, https, s3"):
        read_range("file:///etc/passwd", 0, 1)


def test_cache(url, server, tmp_path):
    remote = Remote(cache=str(tmp_path / "cache"), wait=0)
    crc32 = zlib.crc32(DATA[:64])
    for _ in range(2):
        assert read_range(url, 0, 64, crc32, remote) == DATA[:64]
    assert len(server.asked) == 1
    [path] = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    path.write_bytes(b"x" * 64)  # a damaged entry is fetched again
    assert read_range(url, 0, 64, crc32, remote) == DATA[:64]
    assert path.read_bytes() == DATA[:64]


def test_cache_is_bounded_and_keeps_what_is_used(tmp_path):
    cache = RangeCache(tmp_path, 30_000 * BUCKETS)
    keys = [f"key {i}" for i in range(4000)]
    bucket = cache.path(keys[0]).parent
    keys = [key for key in keys if cache.path(key).parent == bucket][:6]
    for time_used, key in enumerate(keys[:3]):
        cache.put(key, bytes(10_000))
        os.utime(cache.path(key), (time_used, time_used))
    assert cache.get(keys[0]) is not None  # so that it is not the oldest any more
    cache.put(keys[3], bytes(10_000))
    assert [cache.get(key) is not None for key in keys[:4]] == [True, False, True, True]
    assert sum(path.stat().st_size for path in bucket.iterdir()) <= 30_000
    cache.put(keys[4], bytes(30_001))  # larger than a subfolder
    assert cache.get(keys[4]) is None and cache.get(keys[0]) is not None


def test_cache_that_cannot_be_written(url, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    remote = Remote(cache=str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING):
        for start in (0, 64):
            assert read_range(url, start, 64, remote=remote) == DATA[start : start + 64]
    assert caplog.text.count("could not be written") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache": 5}, "remote.cache: 5; the path of a folder, or null"),
        ({"attempts": 0}, "remote.attempts: 0"),
        ({"timeout": -1}, "remote.timeout: -1"),
        ({"cache_gigabytes": 0}, "remote.cache_gigabytes: 0"),
        ({"speed": 1}, "remote.speed: unknown; the keys are cache,"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Remote.from_config(options)
