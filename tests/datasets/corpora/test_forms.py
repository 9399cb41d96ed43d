import json
import sys

import pytest

from scripts.prepare_manifest import main
from src.datasets.corpora.forms import (
    placed,
    rows_of_folder,
    rows_of_kaldi,
    rows_of_librispeech,
    rows_of_table,
)
from src.datasets.manifest import Manifest
from tests.demo import sine


def lines(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


@pytest.fixture
def kaldi(tmp_path):
    folder = tmp_path / "kaldi"
    sine(folder / "a.wav", seconds=3.0)
    lines(folder / "wav.scp", "rec a.wav")
    lines(folder / "segments", "u1 rec 0.00 1.50", "u2 rec 1.50 -1", "u3 rec 2 3.02")
    lines(folder / "text", "u1 hello there", "u2 é\u2028bien", "u3 yes")
    lines(folder / "utt2spk", "u1 anna", "u2 ben", "u3 anna")
    return folder


def test_kaldi_with_segments(kaldi):
    first, second, third = rows_of_kaldi(kaldi)
    path = str(kaldi / "a.wav")
    assert first == {
        "audio_filepath": path,
        "offset": 0.0,
        "duration": 1.5,
        "text": "hello there",
        "speaker": "anna",
    }
    assert (second["offset"], second["duration"], second["text"]) == (1.5, 1.5, "é\u2028bien")
    assert third["duration"] == 1.0


def test_kaldi_without_segments(kaldi):
    for name in ("segments", "text", "utt2spk"):
        (kaldi / name).unlink()
    assert rows_of_kaldi(kaldi) == [{"audio_filepath": str(kaldi / "a.wav"), "duration": 3.0}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wav.scp", "rec touch x |", r"wav.scp, rec: 'touch x \|' is a command, which is not exec"),
        ("wav.scp", "rec", "wav.scp, line 1: 'rec', wanted a name and a value"),
        ("wav.scp", "rec none.wav", "none.wav: no such audio file"),
        ("wav.scp", "other a.wav", "wav.scp: has no line for 'rec'"),
        ("wav.scp", "", "wav.scp: has no lines"),
        ("text", "u1 a\nu1 b", "text, line 2: 'u1 b', a name that occurs twice"),
        ("text", "u1 a", "text: has no line for 'u2'"),
        ("utt2spk", "u1 a", "utt2spk: has no line for 'u2'"),
        ("segments", "u1 rec 2 1", "segments, u1: 'rec 2 1', wanted a recording, start and end"),
        ("segments", "u1 rec 2 nan", "segments, u1: 'rec 2 nan', wanted a recording"),
        ("segments", "u1 rec 2 4", "segments, u1: 2 to 4 s, but .*a.wav lasts 3 s"),
    ],
)
def test_damaged_kaldi(kaldi, name, content, message):
    (kaldi / name).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        rows_of_kaldi(kaldi)
    assert not (kaldi / "x").exists()


def test_folder(tmp_path):
    for name in ("anna/a.wav", "ben/b.flac"):
        sine(tmp_path / name)
    assert [set(row) for row in rows_of_folder(tmp_path)] == [{"audio_filepath", "duration"}] * 2
    lines(tmp_path / "anna" / "a.txt", "hello")
    with pytest.raises(FileNotFoundError, match=r"b.flac: has no transcript, and neither have 0"):
        rows_of_folder(tmp_path)
    lines(tmp_path / "transcriptions" / "b.txt", "bye")
    rows = rows_of_folder(tmp_path, speakers=True)
    assert [(row["text"], row["speaker"]) for row in rows] == [("hello", "anna"), ("bye", "ben")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no recordings in it"):
        rows_of_folder(tmp_path / "empty")


def test_table(tmp_path):
    sine(tmp_path / "a.wav")
    table = lines(tmp_path / "t.csv", "path,sentence,who", 'a.wav,"hello, you",anna')
    (row,) = rows_of_table(table, speaker="who")
    expected = {"duration": 1.0, "text": "hello, you", "speaker": "anna"}
    assert row == expected | {"audio_filepath": str(tmp_path / "a.wav")}
    tabs = lines(tmp_path / "t.tsv", "wav\ttext", 'a.wav\t"hi', 'a.wav\t"hi" he said')
    assert [row["text"] for row in rows_of_table(tabs)] == ['"hi', '"hi" he said']
    with pytest.raises(ValueError, match=r"t.csv: no column loud"):
        rows_of_table(table, audio="loud")
    lines(table, "x,sentence", "a.wav,hi")
    with pytest.raises(
        ValueError, match=r"no column for the audio; its columns are x, sentence\.$"
    ):
        rows_of_table(table)
    lines(table, "path,sentence", "a.wav,")
    with pytest.raises(ValueError, match=r"t.csv, line 2: sentence is '', wanted a text"):
        rows_of_table(table)


def test_librispeech(tmp_path):
    place = tmp_path / "LibriSpeech" / "dev" / "84" / "1"
    sine(place / "84-1-0000.flac")
    lines(place / "84-1.trans.txt", "84-1-0000 GO\u2028ON")
    (row,) = rows_of_librispeech(tmp_path)
    assert row["audio_filepath"] == str(place / "84-1-0000.flac")
    assert (row["text"], row["speaker"]) == ("go\u2028on", "84")


def test_rows_in_another_folder(tmp_path):
    """Sources of mixtures move along, and links keep their names."""
    for name in ("mix", "s1", "s2"):
        sine(tmp_path / "old" / f"{name}.wav")
    (tmp_path / "old" / "link.wav").symlink_to(tmp_path / "old" / "mix.wav")
    row = {"audio_filepath": "link.wav", "duration": 1.0, "sources": ["s1.wav", "../old/s2.wav"]}
    folder = str((tmp_path / "old").resolve())
    assert placed(row, tmp_path / "new", tmp_path / "old") == row | {
        "audio_filepath": f"{folder}/link.wav",
        "sources": [f"{folder}/s1.wav", f"{folder}/s2.wav"],
    }
    back = placed(row, tmp_path, tmp_path / "old")
    assert back["sources"] == ["old/s1.wav", "old/s2.wav"]
    assert placed(row | {"sources": None}, tmp_path, tmp_path / "old")["sources"] is None


def test_command(kaldi, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare_manifest.py", *map(str, arguments)])
        main()

    out = kaldi / "m.jsonl"
    call("kaldi", kaldi, out)
    printed = capsys.readouterr().out
    assert "utterances  3\n" in printed and "speakers    2\n" in printed
    assert "seconds     1.00 to 1.50, median 1.50" in printed
    assert json.loads(out.read_text().splitlines()[0])["audio_filepath"] == "a.wav"
    assert [row.offset for row in Manifest(out)] == [0.0, 1.5, 2.0]
    for arguments, message in (
        (("kaldi", kaldi, out), "m.jsonl: exists; --replace replaces it."),
        (("kaldi", kaldi, kaldi / "n", "--text-column", "x"), "--*-column: only for csv"),
        (("csv", kaldi, kaldi / "n", "--speaker-folders"), "--speaker-folders: only for folder"),
        (("kaldi", kaldi / "a", kaldi / "n"), "wav.scp: no such file."),
    ):
        with pytest.raises(SystemExit):
            call(*arguments)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
        assert not (kaldi / "n").exists()
    call("kaldi", kaldi, out, "--replace")
