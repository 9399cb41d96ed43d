import pytest
import torch

from src.utils.edit_distance import character_error_rate, word_error_rate
from src.utils.entry import run_command
from src.utils.files import append_jsonl, read_jsonl, write_beside
from src.utils.lengths import valid
from src.utils.random import generator, item_seed, uniform
from src.utils.schedulers import Noam


def test_seeds_depend_on_all_three():
    seeds = {item_seed(s, e, i) for s in range(5) for e in range(5) for i in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert item_seed(1, 2, 3) == item_seed(1, 2, 3)


def test_salts_give_other_streams():
    draws = [uniform(generator(7, salt), 2, 3) for salt in ("a", "b", "a")]
    assert draws[0] == draws[2] != draws[1]
    assert all(2 <= draw < 3 for draw in draws)


def test_valid():
    assert valid(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False] * 3]


def test_file_is_whole_or_absent(tmp_path):
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


def test_jsonl_survives_a_line_cut_short(tmp_path):
    path = tmp_path / "a.jsonl"
    append_jsonl(path, {"a": "ё"})
    append_jsonl(path, {"a": 2})
    with path.open("a") as file:
        file.write('{"a": ')
    assert read_jsonl(path) == [{"a": "ё"}, {"a": 2}]
    path.write_text('{"a": 1}\nnonsense\n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2"):
        read_jsonl(path)


def test_noam_by_hand():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=5.0)
    scheduler = Noam(optimizer, d_model=512, warmup_steps=4, min_lr=1.0)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    wanted = [5 * 512**-0.5 * min(s**-0.5, s * 4**-1.5) for s in range(1, 7)]
    assert rates[:4] == pytest.approx(wanted[:4])
    assert rates[4:] == [1.0, 1.0]


def test_bad_input_is_one_sentence(capsys):
    def command():
        raise ValueError("The file is broken.")

    with pytest.raises(SystemExit) as exit:
        run_command(command)
    assert exit.value.code == 1
    assert capsys.readouterr().err == "error: The file is broken.\n"


def test_single_utterances():
    assert word_error_rate("a b c", "a x") == pytest.approx(2 / 3)
    assert character_error_rate("abcd", "abxd") == 0.25
    assert word_error_rate("", "") == 0
