import os

import pytest

from src.datasets.corpora.common_voice import CommonVoice
from src.text_encoder.characters import CharacterEncoder
from tests.demo import sine

TABLE = "client_id\tpath\tsentence\tlocale\n"
FIRST = 'me\tx.mp3\tIt\u2019s "fine".\ten\n'


@pytest.fixture
def folder(tmp_path):
    sine(tmp_path / "clips" / "x.mp3", 32000, 2.0)
    (tmp_path / "dev.tsv").write_text(TABLE + FIRST, encoding="utf-8")
    return tmp_path


def test_split(folder):
    for _ in range(2):  # the second time from the manifest that the first one wrote
        dataset = CommonVoice(str(folder), "dev", text_encoder=CharacterEncoder())
        assert dataset[0]["text"] == "it's fine"
        assert (dataset[0]["id"], dataset[0]["speaker"]) == ("x", "me")
        assert len(dataset[0]["audio"]) == pytest.approx(32000, abs=100)


def test_newer_table_is_used(folder):
    assert len(CommonVoice(str(folder), "dev")) == 1
    table = folder / "dev.tsv"
    table.write_text(TABLE + FIRST + FIRST, encoding="utf-8")
    later = (folder / "dev.jsonl").stat().st_mtime + 1
    os.utime(table, (later, later))
    assert len(CommonVoice(str(folder), "dev")) == 2


def test_errors(folder):
    with pytest.raises(FileNotFoundError, match=r"test.tsv"):
        CommonVoice(str(folder), "test")
    (folder / "bad.tsv").write_text("path\nx.mp3\n")
    with pytest.raises(ValueError, match="bad.tsv: no column sentence"):
        CommonVoice(str(folder), "bad")
    (folder / "gone.tsv").write_text(TABLE + FIRST.replace("x.mp3", "y.mp3"), encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"y.mp3: no such audio file"):
        CommonVoice(str(folder), "gone")
    (folder / "clips" / "y.mp3").touch()
    with pytest.raises(ValueError, match=r"y.mp3: not readable as audio"):
        CommonVoice(str(folder), "gone")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (b"\xff\xfe", "not text in UTF-8"),
        (b"", "has no rows"),
        (TABLE.encode() + b"me\tx.mp3\n", "line 2: sentence is null, wanted a text"),
        (TABLE.encode() + b"me\n", "line 2: path is null, wanted a text"),
        (TABLE.encode() + b"me\t\thello\ten\n", "line 2: path is '', wanted a text"),
        (TABLE.encode() + b"me\tx.mp3\t" + b"y" * 200_000 + b"\ten\n", "not a table .field larger"),
        (TABLE.encode() + b"me\t" + b"y" * 5000 + b"\thello\ten\n", "no audio file"),
    ],
)
def test_bad_tables(folder, table, words):
    (folder / "bad.tsv").write_bytes(table)
    with pytest.raises(ValueError, match=words) as error:
        CommonVoice(str(folder), "bad")
    assert len(str(error.value)) < 300


def test_table_is_a_folder(folder):
    (folder / "odd.tsv").mkdir()
    with pytest.raises(ValueError, match=r"odd.tsv: a folder, not a table"):
        CommonVoice(str(folder), "odd")
