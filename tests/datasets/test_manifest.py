import json
import os
import pickle
import shutil

import numpy as np
import pytest

from src.datasets import row_index
from src.datasets.manifest import COLUMNS, Manifest, cached_manifest, write_manifest
from src.datasets.row_index import Columns
from src.utils.files import create_beside


def rows(count):
    return [
        {"audio_filepath": f"a/{i}.wav", "duration": 1 + i % 7, "text": f"word {i} ё"}
        for i in range(count)
    ]


def test_round_trip(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(
        path,
        [
            *rows(2),
            {
                "audio_filepath": "/x.flac",
                "duration": 2.5,
                "offset": 1.5,
                "speaker": "s",
                "lang": "en",
                "other": 3,
                "cut": [1, 2],
            },
        ],
    )
    manifest = Manifest(path)
    assert len(manifest) == 3
    assert manifest[0].audio_filepath == tmp_path / "a/0.wav"
    assert manifest[1].text == "word 1 ё"
    last = manifest[2]
    assert str(last.audio_filepath) == "/x.flac"
    assert (last.offset, last.speaker, last.lang) == (1.5, "s", "en")
    assert last.extra == {"other": 3, "cut": [1, 2]} and last.cut == (0.0, 0.0)
    assert [row.duration for row in manifest] == [1, 2, 2.5]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"duration": 1}', "audio_filepath is null"),
        ('{"audio_filepath": "a", "duration": "1"}', "duration is '1'"),
        ('{"audio_filepath": "a", "duration": 0}', "duration is 0"),
        ('{"audio_filepath": "a", "duration": true}', "duration is true"),
        ('{"audio_filepath": "a", "duration": 1, "offset": -1}', "offset is -1"),
        ('{"audio_filepath": "a", "duration": 1, "text": 5}', "text is 5"),
        ('{"audio_filepath": "a", "duration": 1e308}', "duration is 1e+308, wanted a number of"),
        ('{"audio_filepath": "a", "duration": NaN}', "duration is nan"),
        ('{"audio_filepath": "a", "duration": 1e999}', "duration is inf"),
        ('{"audio_filepath": "a", "duration": 1' + "0" * 400 + "}", "at most 1e+07"),
        ('{"audio_filepath": "a", "duration": 1, "offset": 1e308}', "offset is 1e+308"),
        ('{"audio_filepath": "a", "duration": 1, "offset": 1' + "0" * 400 + "}", "at most 1e+07"),
        ('{"audio_filepath": "\\ud800", "duration": 1}', r"audio_filepath is '\ud800'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_bad_row_is_named(tmp_path, line, words):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(rows(1)[0]) + "\n\n" + line + "\n")
    with pytest.raises(ValueError, match="line 3") as error:
        Manifest(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 200


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.jsonl"):
        Manifest(tmp_path / "none.jsonl")


def test_path_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path, "a folder"), (tmp_path / "fifo", "a FIFO")):
        with pytest.raises(ValueError) as error:
            Manifest(path)
        assert str(error.value) == f"{path}: {kind}, not a manifest."


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_lines_across_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr("src.datasets.row_index.BLOCK", block)
    path = tmp_path / "m.jsonl"
    wanted = [row | {"text": "long " * i} for i, row in enumerate(rows(20))]
    path.write_text("\n\n".join(json.dumps(row) for row in wanted))
    manifest = Manifest(path)
    assert [row.text for row in manifest] == [row["text"] for row in wanted]
    assert manifest.lines.tolist() == list(range(1, 41, 2))


def test_columns_that_grow_have_little_room_to_spare():
    columns = Columns({"starts": np.dtype(np.int64), "lines": np.dtype(np.int32)})
    wanted = np.arange(50_000)
    for size in (10, 10_000, 1, 39_989):  # rows of a block: the first ones are long
        first = columns.rows
        block = wanted[first : first + size]
        columns.append({"starts": block, "lines": block})
        assert columns.rows == first + size
        assert columns.rows <= len(columns.arrays["lines"]) <= columns.rows * 9 // 8
    arrays = columns.done()
    assert all(np.array_equal(array, wanted) for array in arrays.values())


def test_lines_of_windows_editors(tmp_path):
    lines = [json.dumps(row) for row in rows(2)]
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join([*lines, ""]).encode())
    manifest = Manifest(tmp_path / "m.jsonl")
    assert manifest.lines.tolist() == [1, 3]
    assert [row.text for row in manifest] == ["word 0 ё", "word 1 ё"]


def test_invalid_utf8(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b'{"audio_filepath": "\xff", "duration": 1}\n')
    with pytest.raises(ValueError, match="line 1: not JSON"):
        Manifest(tmp_path / "m.jsonl")


def test_workers_share_memory(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, rows(20_000))
    manifest = Manifest(path)
    assert path.stat().st_size > 1_000_000
    copy = pickle.dumps(manifest)
    assert len(copy) < 20_000 * 26  # a few numbers a row
    assert pickle.loads(copy)[12_345] == manifest[12_345]


def test_selection_shares_the_file(tmp_path):
    path = tmp_path / "m.jsonl"
    write_manifest(path, rows(10))
    chosen = Manifest(path).select(np.array([7, 2]))
    assert [row.text for row in chosen] == ["word 7 ё", "word 2 ё"]
    assert chosen.place(0) == f"{path}, line 8"


def test_selection_of_a_selection(tmp_path):
    whole = Manifest.from_rows(rows(10), tmp_path / "m")
    rows_of_both = np.array([9, 4, 6])
    chosen = whole.select(np.arange(9, 2, -1)).select(np.isin(np.arange(9, 2, -1), rows_of_both))
    assert chosen.lines[:].tolist() == [10, 7, 5] and len(chosen) == 3
    assert np.array_equal(chosen.durations, whole.durations[[9, 6, 4]])
    assert np.array_equal(np.asarray(chosen.text_lengths), whole.text_lengths[[9, 6, 4]])
    assert [row.text for row in chosen] == ["word 9 ё", "word 6 ё", "word 4 ё"]
    assert whole.select(np.arange(4, 9)).texts(np.array([0, 3])) == ["word 4 ё", "word 7 ё"]


def test_selection_copies_no_column_but_the_durations(tmp_path):
    whole = Manifest.from_rows(rows(1000), tmp_path / "m")
    chosen = whole.select(np.arange(1, 4))
    for name in COLUMNS:
        assert getattr(chosen, name).values is getattr(whole, name)
    assert len(pickle.dumps(chosen)) < len(pickle.dumps(whole)) - 900 * 17
    assert arrays(pickle.loads(pickle.dumps(chosen))) == arrays(chosen)


@pytest.mark.parametrize("keep", [np.ones(4, dtype=bool), np.array([1.9]), np.array([10])])
def test_selection_that_does_not_fit(tmp_path, keep):
    with pytest.raises(IndexError):
        Manifest.from_rows(rows(10), tmp_path / "m").select(keep)


def test_trimming_adds_up(tmp_path):
    whole = Manifest.from_rows(rows(2), tmp_path / "m")
    once = whole.trim(np.array([0.1, 0.2]), whole.durations - 0.3)
    twice = once.trim(np.array([0.1, 0.1]), whole.durations - 0.5)
    assert np.allclose(twice.cut, [0.2, 0.3]) and whole.cut is None
    assert np.allclose(twice.select(np.array([1])).cut, [0.3])


def test_in_memory(tmp_path):
    manifest = Manifest.from_rows(rows(3), tmp_path / "m")
    assert pickle.loads(pickle.dumps(manifest))[2] == manifest[2]
    assert manifest[2].audio_filepath == tmp_path / "a/2.wav"


def test_empty(tmp_path):
    (tmp_path / "m.jsonl").touch()
    assert len(Manifest(tmp_path / "m.jsonl")) == 0


def test_cached_manifest(tmp_path):
    made = []

    def make_rows():
        made.append(1)
        return rows(3)

    for _ in range(2):
        assert len(cached_manifest(tmp_path / "m.jsonl", make_rows)) == 3
    assert len(made) == 1


def test_why_a_manifest_is_not_kept(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("m.jsonl: the disk is full.")

    monkeypatch.setattr("src.datasets.manifest.write_manifest", refuse)
    assert len(cached_manifest(tmp_path / "m.jsonl", lambda: rows(3))) == 3
    assert "could not be written (m.jsonl: the disk is full.); made anew" in caplog.text


def test_write_is_atomic(tmp_path):
    with pytest.raises(TypeError):
        write_manifest(tmp_path / "m.jsonl", [rows(1)[0], {"audio_filepath": object()}])
    assert list(tmp_path.iterdir()) == []


# The index of a large manifest -------------------------------------------------------------


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A manifest that counts as large, of several blocks that two workers read."""
    monkeypatch.setattr("src.datasets.row_index.KEEP_FROM", 1000)
    monkeypatch.setattr("src.datasets.row_index.BLOCK", 700)
    monkeypatch.setattr("src.datasets.row_index.LINE", 16)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    path = tmp_path / "m.jsonl"
    own = [row | {"part": i, "more": {"a": [i]}} for i, row in enumerate(rows(100))]
    own += [own[7], {"audio_filepath": "x.wav", "duration": 2}]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" * (1 + i % 3) for i, row in enumerate(own)]
    path.write_text("".join(lines), encoding="utf-8")
    return path, own


def arrays(manifest):
    names = (*COLUMNS, "durations", "has_text")
    return {name: np.asarray(getattr(manifest, name)).tolist() for name in names}


def test_kept_index_equals_the_file(large, monkeypatch):
    path, own = large
    made = Manifest(path)
    kept = Manifest(path)
    assert isinstance(kept.durations.base, np.memmap)  # in memory that processes share
    monkeypatch.setattr("src.datasets.row_index.KEEP_FROM", 1 << 30)
    plain = Manifest(path)
    assert arrays(made) == arrays(kept) == arrays(plain)
    assert plain.text_lengths.tolist() == [len(row.get("text", "")) or -1 for row in own]
    assert np.flatnonzero(plain.repeated).tolist() == [7, 100]
    for i in (0, 7, 60, 101):
        assert kept.values(i) == plain.values(i) == own[i]
        assert kept[i].extra == {k: own[i][k] for k in ("part", "more") if k in own[i]}


def test_kept_index_is_made_anew(large, caplog):
    path, own = large
    Manifest(path)
    about = tuple((path.parent / "m.jsonl.rows").iterdir())
    assert len(about) == 6
    path.write_text(path.read_text() + json.dumps(own[1]) + "\n")
    assert len(Manifest(path)) == 103
    damaged = path.parent / "m.jsonl.rows" / "durations.npy"
    damaged.write_bytes(damaged.read_bytes()[:50])
    assert Manifest(path).durations.sum() == sum(row["duration"] for row in [*own, own[1]])
    np.save(damaged, np.ones(3))
    assert len(Manifest(path).durations) == 103
    assert caplog.text.count("made anew") == 2
    np.save(damaged, np.array([object()]), allow_pickle=True)  # never loaded
    assert len(Manifest(path).durations) == 103


def test_bad_row_of_a_large_manifest(large):
    path, _ = large
    text = path.read_text()
    path.write_text(text + '{"audio_filepath": 1}\n' + text)
    line = text.count("\n") + 1
    with pytest.raises(ValueError, match=f"m.jsonl, line {line}: audio_filepath is 1, wanted"):
        Manifest(path)
    assert not (path.parent / "m.jsonl.rows").exists()


def test_index_of_a_folder_that_cannot_be_written(large, monkeypatch, caplog):
    path, _ = large

    def refuse(folder):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("src.datasets.row_index.create_beside", refuse)
    assert len(Manifest(path)) == 102
    assert "could not be written (Read-only file system); made each time" in caplog.text


def test_an_index_that_another_process_has_just_made_is_kept(large, monkeypatch, caplog):
    path, _ = large
    Manifest(path)
    folder = path.parent / "m.jsonl.rows"
    own = folder.stat().st_ino
    real, calls = row_index.read_index, []

    def later(source, quiet=False):
        calls.append(quiet)
        return real(source, quiet) if quiet else None

    monkeypatch.setattr(row_index, "read_index", later)
    assert len(Manifest(path)) == 102
    assert folder.stat().st_ino == own and True in calls
    shutil.rmtree(folder)

    def faster(folder):
        monkeypatch.setattr(row_index, "create_beside", create_beside)
        Manifest(path)
        raise FileExistsError("another process was faster")

    monkeypatch.setattr(row_index, "create_beside", faster)
    assert len(Manifest(path)) == 102
    assert "could not be written" not in caplog.text


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_texts_of_some_rows(tmp_path, ending, monkeypatch):
    texts = ["täxt", None, "", "three", "four"]
    rows = [{"audio_filepath": f"{i}", "duration": 1, "text": t} for i, t in enumerate(texts)]
    lines = ending.join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())  # the last line has no end
    manifest = Manifest(path)
    for sparse in (1 << 12, 1):
        monkeypatch.setattr("src.datasets.manifest.SPARSE", sparse)
        for chosen in ([0], [1, 4], range(5)):
            found = manifest.texts(np.array(chosen))
            assert found == [texts[i] or "" for i in chosen]
    assert Manifest.from_rows(rows, path).texts(np.arange(5))[3:] == ["three", "four"]
    path.write_bytes(
        path.read_bytes().replace(b'{"audio_filepath": "3"', b'["audio_filepath", 3,  ')
    )
    with pytest.raises(ValueError, match=r"m.jsonl, line 4: "):
        manifest.texts(np.arange(5))
