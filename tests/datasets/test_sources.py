"""Datasets that only differ in how they make a manifest."""

import hashlib
import http.server
import io
import tarfile
import threading
from functools import partial

import pytest

from src.datasets import librispeech
from src.datasets.common_voice import CommonVoice
from src.datasets.custom_dir import CustomDir
from src.datasets.download import download, unpack
from src.datasets.librispeech import LibriSpeech
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine


def test_custom_dir(tmp_path):
    for i, (ending, rate) in enumerate(
        [("wav", 8000), ("flac", 44100), ("mp3", 16000), ("ogg", 16000)]
    ):
        sine(tmp_path / "audio" / f"{i}.{ending}", rate)
    (tmp_path / "transcriptions").mkdir()
    for i in range(4):
        (tmp_path / "transcriptions" / f"{i}.txt").write_text("Hello, World!\n")
    dataset = CustomDir(str(tmp_path), text_encoder=CharacterEncoder())
    assert dataset.has_targets
    assert [dataset[i]["id"] for i in range(4)] == ["0", "1", "2", "3"]
    assert dataset[2]["text"] == "hello world"
    (tmp_path / "transcriptions" / "1.txt").unlink()
    assert not CustomDir(str(tmp_path), text_encoder=CharacterEncoder()).has_targets


def test_custom_dir_faults(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        CustomDir(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no .wav"):
        CustomDir(str(tmp_path))
    sine(tmp_path / "a.wav")
    assert len(CustomDir(str(tmp_path))) == 1  # recordings directly in it
    sine(tmp_path / "a.flac")
    with pytest.raises(ValueError, match="two recordings are called 'a'"):
        CustomDir(str(tmp_path))


def test_common_voice(tmp_path):
    sine(tmp_path / "clips" / "x.mp3", 32000, 2.0)
    table = 'client_id\tpath\tsentence\tlocale\nme\tx.mp3\tIt\u2019s "fine".\ten\n'
    (tmp_path / "dev.tsv").write_text(table, encoding="utf-8")
    for _ in range(2):  # the second time from the manifest that the first one wrote
        dataset = CommonVoice(str(tmp_path), "dev", text_encoder=CharacterEncoder())
        assert dataset[0]["text"] == "it's fine"
        assert dataset[0]["speaker"] == "me"
        assert abs(dataset.durations[0] - 2) < 0.1
    with pytest.raises(FileNotFoundError, match=r"test.tsv"):
        CommonVoice(str(tmp_path), "test")
    (tmp_path / "bad.tsv").write_text("path\nx.mp3\n")
    with pytest.raises(ValueError, match="column 'sentence'"):
        CommonVoice(str(tmp_path), "bad")


def make_librispeech(folder):
    chapter = folder / "dev-clean" / "84" / "121123"
    sine(chapter / "84-121123-0000.flac", seconds=1.5)
    sine(chapter / "84-121123-0001.flac")
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO ON\n84-121123-0001 HAVE YOU\n")
    return folder


def test_librispeech_that_is_there(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech")
    for folder in (tmp_path, tmp_path / "LibriSpeech"):
        dataset = LibriSpeech("dev-clean", str(folder), text_encoder=CharacterEncoder())
        assert [row.text for row in dataset.manifest] == ["go on", "have you"]
        assert dataset[0]["speaker"] == "84" and dataset.durations[0] == 1.5
    with pytest.raises(ValueError, match="no split 'nonsense'"):
        LibriSpeech("nonsense", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds no LibriSpeech split"):
        LibriSpeech("test-clean", str(tmp_path), download=False)


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves one file, parts of it too."""

    asked: list = []

    def do_GET(self):
        data = (self.directory_path / self.path[1:]).read_bytes()
        asked = self.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    handler = type("Handler", (RangeHandler,), {"directory_path": tmp_path / "web", "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        found.asked = handler.asked
        yield found
        found.shutdown()


def test_download_goes_on_and_is_checked(tmp_path, server):
    data = bytes(range(256)) * 100
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.bin").write_bytes(data)
    url = f"http://127.0.0.1:{server.server_port}/a.bin"
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / "a.bin.part").write_bytes(data[:1000])
    download(url, tmp_path / "a.bin", digest)
    assert server.asked == ["bytes=1000-"]
    assert (tmp_path / "a.bin").read_bytes() == data
    with pytest.raises(ValueError, match="damaged"):
        download(url, tmp_path / "b.bin", "0" * 64)
    assert not (tmp_path / "b.bin").exists() and not (tmp_path / "b.bin.part").exists()
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match="call again to go on"):
        download(url, tmp_path / "c.bin", digest)


def test_librispeech_is_downloaded(tmp_path, server, monkeypatch):
    make_librispeech(tmp_path / "made" / "LibriSpeech")
    (tmp_path / "web").mkdir()
    archive = tmp_path / "web" / "dev-clean.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "LibriSpeech", "LibriSpeech")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(librispeech.SHA256, "dev-clean", digest)
    monkeypatch.setattr(
        librispeech, "URL", f"http://127.0.0.1:{server.server_port}/{{split}}.tar.gz"
    )
    assert len(LibriSpeech("dev-clean", str(tmp_path / "data"))) == 2
    assert len(LibriSpeech("dev-clean", str(tmp_path / "data"))) == 2
    assert server.asked == [None]  # once


def test_hostile_archive_writes_nothing(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(ValueError, match="leaves the folder"):
        unpack(path, tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a readable archive"):
        partial(unpack, path)(tmp_path / "in")
