import errno
import os
import sys

import numpy as np
import psutil
import pytest

from src.utils.files import append_jsonl, cut_jsonl, read_jsonl, release, write_beside


def test_a_line_cut_in_half_does_not_spoil_the_next(tmp_path, caplog):
    """Whatever part of a row a kill leaves, the rows before and after it are read."""
    row = '{"text": "ёж"}\n'.encode()
    for cut in range(len(row)):
        path = tmp_path / f"{cut}.jsonl"
        append_jsonl(path, {"step": 1})
        with path.open("ab") as file:
            file.write(row[:cut])
        whole = [{"text": "ёж"}] if cut == len(row) - 1 else []
        assert read_jsonl(path, tolerant=True) == [{"step": 1}, *whole]
        append_jsonl(path, {"step": 2})
        assert read_jsonl(path, tolerant=True) == [{"step": 1}, *whole, {"step": 2}]
    assert "5.jsonl, line 2 is left out: not JSON" in caplog.text


def test_cut_to_whole_lines(tmp_path):
    path, lines = tmp_path / "a.jsonl", b'{"a": 1}\n{"a": 2}\n{"a'
    for size in range(len(lines) + 3):
        path.write_bytes(lines)
        cut_jsonl(path, size)
        assert path.read_bytes() == lines[: 9 * (min(size, 18) // 9)]
    cut_jsonl(tmp_path / "none.jsonl", 5)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", r"not JSON \(Expecting value, column 1\)"),
        (b"[" * 100_000, "JSON that is nested too deeply"),
        (b'{"a":' * 100_000, "JSON that is nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a number with too many digits"),
        (b'{"a": "\xff"}', r"not UTF-8 \(byte 8\)"),
        (b"\0\0\0", "not JSON"),
        (b"5", "a JSON int, not an object"),
        (b"[1]", "a JSON list, not an object"),
    ],
)
def test_bad_lines_are_named(tmp_path, caplog, line, words):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n\n{"a": 2}\n')
    with pytest.raises(ValueError, match=f"a.jsonl, line 2: {words}.*\\.$"):
        read_jsonl(path)
    assert read_jsonl(path, tolerant=True) == [{"a": 1}, {"a": 2}]
    assert "line 2 is left out" in caplog.text


def test_a_bad_last_line_is_named_and_a_byte_order_mark_is_none(tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2')
    with pytest.raises(ValueError, match="a.jsonl, line 2: not JSON"):
        read_jsonl(path)
    assert read_jsonl(path, tolerant=True) == [{"a": 1}] and not caplog.text


def test_no_file_of_json_lines(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.jsonl: no such file"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(ValueError, match="a folder, not a file"):
        read_jsonl(tmp_path)


def test_a_full_disk_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="a.txt: could not be written: No space left.* free on"):  # noqa: SIM117
        with write_beside(path) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_other_errors_are_left_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError, match="No such file"), write_beside(tmp_path / "a"):
        (tmp_path / "none").read_text()


def test_a_folder_is_in_the_way(tmp_path):
    with (
        pytest.raises(IsADirectoryError, match="a folder, not a file to write"),
        write_beside(tmp_path),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
def test_pages_of_a_mapped_array_are_given_back(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(1 << 22))  # 32 MiB
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    view, own = np.asarray(mapped)[1:], np.arange(8)
    total, process = view.sum(), psutil.Process()
    before = process.memory_info().rss
    release(view)
    assert before - process.memory_info().rss > 1 << 24
    assert view.sum() == total
    release(own)
    assert own.tolist() == list(range(8))
