import contextlib
import pickle

import pytest
import torch
from torch import nn

from src.trainer.checkpoint import (
    existing,
    load_weights,
    read_state,
    read_tensors,
    save_checkpoint,
)
from src.trainer.pretrained import load_pretrained


def save(folder, value=1.0):
    weights = {"weight": torch.full((2, 2), value), "bias": torch.full((2,), value)}
    save_checkpoint(folder, weights, {"step": int(value)}, {"audio": torch.zeros(3)})


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path / "last", 3)
    model = nn.Linear(2, 2)
    load_weights(model, read_tensors(tmp_path / "last" / "model.safetensors"), tmp_path)
    assert model.weight.eq(3).all() and model.bias.eq(3).all()
    assert read_state(tmp_path / "last") == {"step": 3}


def test_whole_at_any_instant(tmp_path, monkeypatch):
    """A kill after any of the renames leaves a whole checkpoint, the old or the new."""
    from pathlib import Path

    real = Path.replace
    for survived in range(3):
        root = tmp_path / str(survived)
        save(root / "last", 1)
        done = []

        def replace(self, target, done=done, survived=survived):
            if len(done) == survived:
                raise KeyboardInterrupt
            done.append(target)
            return real(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            with contextlib.suppress(KeyboardInterrupt):
                save(root / "last", 2)
        found = existing(root / "last")
        step = read_state(found)["step"]
        assert step == (2 if survived == 2 else 1)
        assert read_tensors(found / "model.safetensors")["bias"].eq(step).all()
        save(root / "last", 5)
        assert read_state(existing(root / "last")) == {"step": 5}


def test_truncated_files_are_named(tmp_path):
    save(tmp_path / "last")
    for name, read in (("model.safetensors", read_tensors), ("state.pt", None)):
        path = tmp_path / "last" / name
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match=f"{name}: truncated"):
            read(path) if read else read_state(tmp_path / "last")
    with pytest.raises(FileNotFoundError, match="none"):
        read_tensors(tmp_path / "none.safetensors")


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/triphone-hostile",)


def test_a_state_that_holds_code_runs_nothing(tmp_path):
    from pathlib import Path

    save(tmp_path / "last")
    torch.save({"step": Hostile()}, tmp_path / "last" / "state.pt")
    with pytest.raises(ValueError, match="no training state"):
        read_state(tmp_path / "last")
    (tmp_path / "last" / "state.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match="no training state"):
        read_state(tmp_path / "last")
    assert not Path("/tmp/triphone-hostile").exists()


def test_another_model_is_refused_whole(tmp_path):
    save(tmp_path / "run" / "best")
    for other, words in (
        (nn.Linear(3, 2), r"weight has shape \[2, 2\], the model's is \[2, 3\]"),
        (nn.Linear(2, 2, bias=False), "bias is not in the model"),
        (nn.Bilinear(2, 2, 2), "has shape"),
        (nn.Sequential(nn.Linear(2, 2)), "0.weight is missing"),
    ):
        before = {k: v.clone() for k, v in other.state_dict().items()}
        with pytest.raises(ValueError, match=words):
            load_pretrained(other, tmp_path / "run")
        assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


@pytest.mark.parametrize("place", ["run", "run/best", "run/best/model.safetensors"])
def test_pretrained_from_run_checkpoint_or_file(tmp_path, place):
    save(tmp_path / "run" / "best", 4)
    model = nn.Linear(2, 2)
    load_pretrained(model, tmp_path / place)
    assert model.weight.eq(4).all()


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_pretrained(nn.Linear(2, 2), tmp_path)


def test_shared_tensors_are_written_apart(tmp_path):
    shared = torch.ones(3)
    save_checkpoint(tmp_path / "last", {"a": shared, "b": shared}, {}, {})
    assert read_tensors(tmp_path / "last" / "model.safetensors").keys() == {"a", "b"}
