import json

import pytest

from src.utils.segments import Segment, read_segments, seglst, stm

SEGMENTS = [Segment("A B", 0.5, 1.25, "hello  there"), Segment("2", 1.0, 2.0, "")]


def test_files_are_read_as_written(tmp_path):
    path = tmp_path / "a.stm"
    path.write_text(";; a comment\n" + stm("my file", SEGMENTS) + stm("empty", []))
    assert read_segments(path) == {
        "my_file": [Segment("A_B", 0.5, 1.25, "hello there"), Segment("2", 1.0, 2.0, "")],
        "empty": [Segment("1", 0.0, 0.0, "")],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(seglst("my file", SEGMENTS)))
    assert read_segments(path) == {"my file": SEGMENTS}


def test_label_of_nist_is_no_text(tmp_path):
    path = tmp_path / "a.stm"
    path.write_text("x 1 A 0 1.5 <o,f0,male> hello\n")
    assert read_segments(path) == {"x": [Segment("A", 0.0, 1.5, "hello")]}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.stm", "x 1 A 0 1 a\nx 1 A 0", "a.stm, line 2: not session_id, speaker, start_time,"),
        ("a.stm", "x 1 A 2 1 a", "a.stm, line 1: times '2' and '1'; seconds, the start first."),
        ("a.stm", "x 1 A 0 nan a", "times '0' and 'nan'"),
        ("a.json", "{}", "a.json: not a list in JSON."),
        ("a.json", '[{"speaker": "A"}]', "a.json, segment 1: not session_id"),
        ("a.txt", "", "a.txt: a file that ends with .stm or .json"),
    ],
)
def test_damaged_file_raises(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_segments(tmp_path / name)
