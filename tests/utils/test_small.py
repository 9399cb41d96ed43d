import pytest
import torch

from src.utils.files import append_jsonl, read_jsonl, write_beside
from src.utils.lengths import padding_mask
from src.utils.random import generator, item_seed, uniform


def test_seeds_depend_on_all_three():
    seeds = {item_seed(s, e, i) for s in range(5) for e in range(5) for i in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert item_seed(1, 2, 3) == item_seed(1, 2, 3)


def test_depends_on_salt():
    draws = [uniform(generator(7, salt), 2, 3) for salt in ("a", "b", "a")]
    assert draws[0] == draws[2] != draws[1]
    assert all(2 <= draw < 3 for draw in draws)


def test_padding_mask():
    assert padding_mask(torch.tensor([2, 0]), 3).tolist() == [[False, False, True], [True] * 3]


def test_write_is_atomic(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_beside(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with write_beside(path) as beside:
        beside.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def test_truncated_last_line_of_jsonl(tmp_path):
    path = tmp_path / "a.jsonl"
    append_jsonl(path, {"a": "ё"})
    append_jsonl(path, {"a": 2})
    with path.open("a") as file:
        file.write('{"a": ')
    assert read_jsonl(path, tolerant=True) == [{"a": "ё"}, {"a": 2}]
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_jsonl(path)
