import pytest

from src.datasets.tables import read_table, read_text

HEADER = b"path,text\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b'a,"hi\nb,ho\n', "t.csv, after line 1: not a table .a quote that isn't closed"),
        (b'a,hi\nb,"ho\nc,"hm"\n', "t.csv, after line 2: not a table"),
        (b"a,hi\nb,ho, too\n", "t.csv, line 3: 1 cells more than columns; the first is ' too'"),
    ],
)
def test_rows_that_would_be_lost(tmp_path, rows, message):
    (tmp_path / "t.csv").write_bytes(HEADER + rows)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv", ",")


def test_quotes(tmp_path):
    (tmp_path / "t.csv").write_bytes(HEADER + b'a,"hi, ""you"""\nb,the "end"\n')
    texts = [row["text"] for row in read_table(tmp_path / "t.csv", ",")]
    assert texts == ['hi, "you"', 'the "end"']


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + HEADER + b"a,hi\n")
    assert read_table(tmp_path / "t.csv", ",") == [{"path": "a", "text": "hi", "line": 2}]
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfhi\n")
    assert read_text(tmp_path / "t.txt") == "hi\n"
