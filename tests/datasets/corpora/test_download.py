import errno
import gzip
import hashlib
import http.client
import io
import tarfile

import numpy as np
import pytest

from src.datasets.corpora.archives import unpack_as
from src.datasets.corpora.download import download, unpack

DATA = bytes(range(256)) * 100
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_resumes_interrupted_download(tmp_path, server):
    (tmp_path / "web" / "a.bin").write_bytes(DATA)
    server.handler.cut_offs = 1
    target = tmp_path / "made" / "a.bin"
    with pytest.raises(ValueError, match="connection closed after 12800 of 25600 bytes.*run again"):
        download(f"{server.url}/a.bin", target, DIGEST)
    assert not target.exists()
    for _ in range(2):  # the second time there is nothing to do
        assert download(f"{server.url}/a.bin", target, DIGEST).read_bytes() == DATA
    assert server.handler.asked == [None, "bytes=12800-"]


def test_connection_that_breaks_within_a_chunk(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise http.client.IncompleteRead(b"", 10)

    monkeypatch.setattr("urllib.request.urlopen", broken)
    with pytest.raises(ValueError, match="could not be downloaded.*run again to resume"):
        download("http://localhost/a.bin", tmp_path / "a.bin", DIGEST)


def test_complete_partial_file(tmp_path, server):
    (tmp_path / "web" / "a.bin").write_bytes(DATA)
    (tmp_path / "a.bin.part").write_bytes(DATA)
    download(f"{server.url}/a.bin", tmp_path / "a.bin", DIGEST)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert not (tmp_path / "a.bin.part").exists()


def test_wrong_checksum_removes_file(tmp_path, server):
    (tmp_path / "web" / "a.bin").write_bytes(DATA)
    with pytest.raises(ValueError, match="damaged: SHA-256"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["web"]


def test_no_server(tmp_path, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match="could not be downloaded.*run again to resume"):
        download(f"{server.url}/a.bin", tmp_path / "a.bin", DIGEST)


def write_tar(path, name, kind=tarfile.REGTYPE, mode="w"):
    with tarfile.open(path, mode) as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "/etc/passwd", 4
        tar.addfile(member, io.BytesIO(b"evil"))
    return path


@pytest.mark.parametrize("name", ["../outside.txt", "a/../../outside.txt", "/outside.txt"])
def test_member_outside_of_folder_raises(tmp_path, name):
    with pytest.raises(ValueError, match="is outside of the folder"):
        unpack(write_tar(tmp_path / "x.tar", name), tmp_path / "in")
    assert [path.name for path in tmp_path.rglob("*")] == ["x.tar"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_ignored(tmp_path, kind):
    unpack(write_tar(tmp_path / "x.tar", "a", kind), tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_damaged_archive(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a readable archive"):
        unpack(path, tmp_path / "in")
    whole = gzip.compress(gzip.decompress(write_tar(path, "a", mode="w:gz").read_bytes())[:515])
    path.write_bytes(whole[:-12])  # cut off within the member's four bytes
    with pytest.raises(ValueError, match="not a readable archive"):
        unpack(path, tmp_path / "in")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("damage", ["byte", "end"])
def test_damage_within_compressed_data(tmp_path, kind, damage):
    path = tmp_path / f"x.tar.{kind}"
    noise = np.random.default_rng(0).bytes(100000)
    with tarfile.open(path, f"w:{kind}") as tar:
        member = tarfile.TarInfo("a")
        member.size = len(noise)
        tar.addfile(member, io.BytesIO(noise))
    data = bytearray(path.read_bytes())
    if damage == "byte":
        data[len(data) // 2] ^= 255
    else:
        del data[len(data) // 2 :]
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"x.tar.{kind}: not a readable archive"):
        unpack(path, tmp_path / "in")


def test_full_disk_is_no_damage(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "x.tar", "a")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(path, tmp_path / "in")


@pytest.mark.parametrize("damage", ["byte", "end"])
def test_damage_that_only_the_checksum_of_gzip_shows(tmp_path, damage):
    plain = write_tar(tmp_path / "x.tar", "a").read_bytes() + bytes(1 << 18)
    data = bytearray(gzip.compress(plain, compresslevel=0))
    if damage == "byte":
        data[data.index(b"evil")] ^= 1
    else:
        del data[-6:]
    path = tmp_path / "x.tgz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.tgz: not a readable archive \([^\n]*\)\.$"):
        unpack_as(path, tmp_path / "in")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.tar", "x.tgz"]
