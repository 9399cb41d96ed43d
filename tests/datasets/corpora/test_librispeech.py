import hashlib
import tarfile

import pytest

from src.datasets.corpora import librispeech
from src.datasets.corpora.librispeech import LibriSpeech
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine


def make_librispeech(folder):
    chapter = folder / "dev-clean" / "84" / "121123"
    sine(chapter / "84-121123-0000.flac", seconds=1.5)
    sine(chapter / "84-121123-0001.flac")
    (chapter / "84-121123.trans.txt").write_text("84-121123-0000 GO ON\n84-121123-0001 HAVE YOU\n")
    return folder


def test_existing_folder(tmp_path):
    make_librispeech(tmp_path / "LibriSpeech")
    for folder in (tmp_path, tmp_path / "LibriSpeech"):
        dataset = LibriSpeech("dev-clean", str(folder), text_encoder=CharacterEncoder())
        assert [row.text for row in dataset.manifest] == ["go on", "have you"]
        assert dataset[0]["id"] == "84-121123-0000"
        assert dataset[0]["speaker"] == "84" and dataset.durations[0] == 1.5


def test_read_only_folder(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    make_librispeech(tmp_path)
    monkeypatch.setattr("src.datasets.manifest.write_manifest", refuse)
    dataset = LibriSpeech("dev-clean", str(tmp_path))
    assert dataset[1]["audio"].shape == (16000,)
    assert not (tmp_path / "dev-clean" / "manifest.jsonl").exists()


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="split: 'nonsense'; dev-clean, "):
        LibriSpeech("nonsense", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="holds no LibriSpeech split 'test-clean'"):
        LibriSpeech("test-clean", str(tmp_path), download=False)
    (tmp_path / "test-clean").mkdir()
    with pytest.raises(FileNotFoundError, match="no transcripts"):
        LibriSpeech("test-clean", str(tmp_path))


def test_download(tmp_path, server, monkeypatch):
    made = make_librispeech(tmp_path / "made" / "LibriSpeech")
    (made / "README.TXT").write_text("Read me.")
    archive = tmp_path / "web" / "dev-clean.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(made, "LibriSpeech")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(librispeech.SHA256, "dev-clean", digest)
    monkeypatch.setattr(librispeech, "URL", server.url + "/{split}.tar.gz")
    for _ in range(2):
        assert len(LibriSpeech("dev-clean", str(tmp_path / "data"))) == 2
    assert server.handler.asked == [None]  # once
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["LibriSpeech"]
