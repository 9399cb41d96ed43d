"""The folder of a run, and what a run that was loaded may do."""

import os
import random
import shutil
from functools import reduce
from operator import getitem
from types import SimpleNamespace

import pytest
import yaml
from omegaconf import OmegaConf

from src.config import DEFAULT, build, resume_config
from src.loaded_config import read_config
from src.run import Run, load_run, open_run, own_config
from src.utils.checkpoint import save_checkpoint
from src.utils.files import append_jsonl, read_jsonl
from tests.demo import ROOT, SMALL, experiment
from tests.trainer.test_output_folder import snapshot
from train import train


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment("asr_deepspeech2", corpus, folder, *SMALL, "debug=smoke"))
    return folder


def test_run_folders_never_collide(tmp_path):
    assert len({Run.create(tmp_path, "x").path for _ in range(5)}) == 5
    with pytest.raises(FileNotFoundError, match="no run here"):
        Run.open(tmp_path)


def test_newest_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run here; train one"):
        Run.newest(tmp_path)
    for i, name in enumerate(["x/a", "x/b", "y/c"]):
        save_checkpoint(tmp_path / name / "last", {}, {}, {})
        (tmp_path / name / "config.yaml").touch()
        os.utime(tmp_path / name / "config.yaml", (i, i))
    shutil.rmtree(tmp_path / "y/c/last")
    assert Run.newest(tmp_path).path == tmp_path / "x/b"


def test_rows_after_the_last_checkpoint_are_removed(tmp_path):
    run = Run(tmp_path)
    sizes = [run.sizes()["metrics_size"]]
    for step in (1, 2, 3):
        append_jsonl(run.metrics_path, {"step": step})
        sizes.append(run.sizes()["metrics_size"])
    with run.metrics_path.open("a") as file:
        file.write('{"st')
    run.clean(sizes[2])
    run.log_metrics({"step": 3})
    assert read_jsonl(run.metrics_path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_restart_in_a_folder_removes_old_metrics(tmp_path):
    run = Run.create_at(tmp_path / "r")
    (run.path / "config.yaml").touch()
    run.log_metrics({"step": 1})
    assert not Run.create_at(tmp_path / "r").metrics_path.exists()
    save_checkpoint(run.path / "last.old", {}, {}, {})
    with pytest.raises(FileExistsError, match="holds a run already"):
        Run.create_at(tmp_path / "r")


def test_damaged_best_checkpoint_is_not_replaced_by_the_last(tmp_path):
    run = Run.create_at(tmp_path / "r")
    save_checkpoint(run.path / "last", {}, {}, {})
    assert run.checkpoint("best") == run.path / "last"
    save_checkpoint(run.path / "best", {}, {}, {})
    (run.path / "best" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="best: no checkpoint here"):
        run.checkpoint("best")


def test_restart_keeps_files_of_the_user(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir()
    run = Run.create_at(folder)
    start_training(run)
    run.log_metrics({"step": 1})
    kept = {"notes.txt", "text_encoder/notes.py", "tensorboard/mine.csv", "old.new/a"}
    for name in kept:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    Run.create_at(folder)
    left = {name: data for name, data in snapshot(folder).items() if name != ".lock"}
    assert left == {name: name.encode() for name in kept} | {".run": b""}


def test_folder_in_which_another_process_trains_stays_as_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "r"
    run = Run.create_at(folder)
    start_training(run)
    before = snapshot(folder)

    def held(_):
        raise BlockingIOError("held")

    monkeypatch.setattr("src.utils.locks.FileLock.acquire", held)
    with pytest.raises(BlockingIOError):
        Run.create_at(folder)
    assert snapshot(folder) == before


def test_who_trains_holds_the_lock(tmp_path):
    new = Run.create(tmp_path, "x")
    assert new.lock.file is not None and new.marker.exists()
    new.config_path.touch()
    config = OmegaConf.create({"trainer": {"resume_from": str(new.path)}, "trust": []})
    for main in (True, False):
        run = open_run(config, SimpleNamespace(is_main_process=main))
        assert (run.lock.file is not None) == main


def test_a_resume_that_fails_does_not_mark_a_folder(tmp_path):
    (tmp_path / "config.yaml").touch()
    config = OmegaConf.create({"trainer": {"resume_from": str(tmp_path)}, "trust": []})
    open_run(config, SimpleNamespace(is_main_process=True))
    with pytest.raises(FileExistsError, match="has other files"):
        Run.create_at(tmp_path)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "text_encoder/notes.py", ".x"])
def test_folder_of_the_user_is_no_run(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match="has other files in it; name another run_dir"):
        Run.create_at(tmp_path)
    assert snapshot(tmp_path) == before


def start_training(run):
    """What a start writes before its first checkpoint, in part."""
    run.text_encoder_path.mkdir()
    for name in ("text_encoder.json", "subwords.model"):
        (run.text_encoder_path / name).touch()
    run.config_path.touch()


@pytest.mark.parametrize("override", ["trainer.epochs=1.5", "seed=-1", "compile=maybe"])
def test_bad_value_makes_no_folder(corpus, tmp_path, override):
    with pytest.raises(ValueError, match=override.partition("=")[0].rpartition(".")[2]):
        train(experiment("asr_deepspeech2", corpus, tmp_path / "r", override))
    assert not (tmp_path / "r").exists()


def test_a_config_that_no_run_could_be_loaded_with_is_refused(corpus, tmp_path):
    with pytest.raises(ValueError, match=r"config, name: 'a\$b'; text without '\$'"):
        train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *SMALL, "name=a$b"))


# What an untrusted run may do ------------------------------------------------------------------


def untrusted(trained, folder, key, value):
    """A copy of a run with a changed config."""
    copy = shutil.copytree(trained, folder)
    config = OmegaConf.load(copy / "config.yaml")
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    (copy / "config.yaml").write_text(OmegaConf.to_yaml(config) + "...\n")
    return copy


@pytest.mark.parametrize(
    "value",
    [
        {"_target_": "torch.hub.load", "repo_or_dir": "REPO", "model": "m", "source": "local"},
        {"_target_": "torch.load", "f": "REPO/state.pt", "weights_only": False},
        {"_target_": "src.run.load_run", "folder": "REPO"},
        {"_target_": "src.utils.plots.FigureCanvasAgg"},
        {"_target_": "torch.nn.init.constant_"},
        {"_target_": "os.system", "command": "touch REPO/ran"},
        {"_target_": "builtins.exec"},
        {"_target_": ["os", "system"]},
        {"_target_": "src.nothing.There"},
        {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.system"}},
    ],
    ids=lambda value: str(value["_target_"]),
)
@pytest.mark.parametrize("key", ["model", "transforms.batch.inference.extra", "task.decoders.x"])
def test_untrusted_run_executes_no_code(trained, tmp_path, key, value):
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "hubconf.py").write_text(f"open(r'{repo / 'ran'}', 'w')\ndef m(): pass\n")
    value = {k: v.replace("REPO", str(repo)) if isinstance(v, str) else v for k, v in value.items()}
    with pytest.raises(ValueError, match=r"config.yaml, .*_target_: "):
        load_run(untrusted(trained, tmp_path / "copy", key, value))
    assert not (repo / "ran").exists()


def test_untrusted_run_reads_no_environment(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "swordfish")
    for i, text in enumerate(
        ("${oc.env:SECRET}", "a ${oc.env:SECRET}", "${oc.decode:1}", "${${x}}")
    ):
        copy = untrusted(trained, tmp_path / str(i), "name", "x")
        config = (copy / "config.yaml").read_text().replace("name: x", f"name: '{text}'")
        (copy / "config.yaml").write_text(config)
        with pytest.raises(ValueError, match="only references like") as error:
            load_run(copy)
        assert "swordfish" not in str(error.value)


SECRET = {"a": "$", "b": "{oc.env:SECRET}"}
CODE = "{oc.create:{_target_:torch.hub.load,repo_or_dir:REPO,model:m,source:local}}"


@pytest.mark.parametrize("key", ["task.x", "features.x", "transforms.batch.inference.x"])
@pytest.mark.parametrize(
    ("values", "text"),
    [
        (SECRET, "${vars.a}${vars.b}"),
        (SECRET | {"c": "${vars.a}", "d": "${vars.b}"}, "${vars.c}${vars.d}"),
        ({"a": "$", "b": CODE}, "${vars.a}${vars.b}"),
        ({"b": "{oc.env:SECRET}"}, "$${vars.b}"),
        ({"b": "{oc.env:SECRET}"}, "\\$${vars.b}"),
        ({}, "\\${oc.env:SECRET}"),
        ({"a": "\\${oc.env:SECRET}"}, "${vars.a}"),
    ],
)
def test_references_cannot_be_put_together(trained, tmp_path, monkeypatch, key, values, text):
    monkeypatch.setenv("SECRET", "swordfish")
    (tmp_path / "hubconf.py").write_text(f"open(r'{tmp_path / 'ran'}', 'w')\ndef m(): pass\n")
    values = {k: v.replace("REPO", str(tmp_path)) for k, v in values.items()}
    copy = untrusted(trained, tmp_path / "copy", "vars", values)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    *parents, last = key.split(".")
    reduce(getitem, parents, config)[last] = text
    (copy / "config.yaml").write_text(yaml.safe_dump(config) + "...\n")
    with pytest.raises(ValueError, match="only references like") as error:
        load_run(copy)
    assert "swordfish" not in str(error.value) and not (tmp_path / "ran").exists()


def test_nothing_is_resolved_twice(monkeypatch):
    monkeypatch.setenv("SECRET", "swordfish")
    node = {"_target_": "builtins.dict", "x": "${a}${b}"}
    config = OmegaConf.create({"a": "$", "b": "{oc.env:SECRET}", "node": node})
    with pytest.raises(ValueError, match=r"config, node.x: '\${oc.env:SECRET}'; no text with"):
        build(config, "node")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("transforms.instance.inference.x", "src.datasets.demo.corpus.DemoSpeech"),
        ("model.x", "src.logger.tensorboard.TensorBoardWriter"),
        ("text_encoder", "src.run.Run"),
        ("loss", "src.system.System"),
        ("evaluations.test.loss", "src.metrics.wer.WER"),
        ("optimizers.main.optimizer", "torch.nn.Linear"),
        ("vars.x", "torch.nn.Linear"),
        ("evaluations.model", "torch.nn.Linear"),
    ],
)
def test_classes_have_their_places(trained, tmp_path, key, name):
    copy = untrusted(trained, tmp_path / "c", key, {"_target_": name, "folder": f"{tmp_path}/x"})
    with pytest.raises(ValueError, match=rf"{key}._target_: '{name}' may not be instantiated here"):
        load_run(copy)
    assert not (tmp_path / "x").exists()
    assert Run.open(copy, ["src", "torch"]).read_config()


def bombs():
    """Short texts that would become endless configs."""
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    yield "\n".join(["a0: &a0 [x]", *layers]), "line 1: anchors"
    layers = [f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}" for i in range(1, 60)]
    yield "\n".join(["a0: {x: 1}", *layers]), "a reference to several values"
    yield "a: ${b}\nb: ${a}", "no such value"
    yield "a: ${nothing}", "no such value"
    yield "${a}: 1\na: b", "a key; no"
    yield f"a: {'x' * 2**20}", "larger than"
    yield f"a: {'[' * 10000}{']' * 10000}", "not readable as YAML"
    yield "a: !!bool x", "not readable as YAML"


@pytest.mark.parametrize(("text", "words"), bombs(), ids=lambda text: text[:20])
def test_endless_configs(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(f"{text}\n...\n")
    with pytest.raises(ValueError, match=f"config.yaml.*{words}"):
        read_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.hidden_size", 10**18),
        ("transforms.batch.inference.features.n_fft", 10**12),
        ("transforms.batch.inference.x", {"_target_": "torch.nn.Linear", "in_features": 10**18}),
    ],
)
def test_huge_layers_raise(trained, tmp_path, key, value):
    if isinstance(value, dict):
        value["out_features"] = 8
    with pytest.raises(ValueError):
        load_run(untrusted(trained, tmp_path / "copy", key, value))


def test_trusted_packages(trained, tmp_path):
    copy = untrusted(trained, tmp_path / "c", "loss", {"_target_": "collections.OrderedDict"})
    with pytest.raises(
        ValueError, match="instantiated here, only src.loss, src.text_encoder, torch.nn"
    ):
        Run.open(copy).read_config()
    assert Run.open(copy, ["collections"]).read_config().loss


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "\x00", "a: !!python/object:os.system x\n"])
def test_damaged_config_raises(trained, tmp_path, text):
    copy = shutil.copytree(trained, tmp_path / "copy")
    (copy / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config.yaml: not (readable as YAML|a mapping)"):
        load_run(copy)


# Resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model=baseline", "resumed with its own model"),
        ("trainer.epoochs=3", "not in the config"),
        ("optimizer.lr=5", "resumed with its own optimizer"),
        ("+foo=1", "not in the config"),
        ("~scheduler", "resumed with its own scheduler"),
        ("datasets=manifest", "set single values"),
        ("dataloader.max_seconds=9", "resumed with its own dataloader.max_seconds"),
        ("trainer.accumulate=2", "resumed with its own trainer.accumulate"),
        ("sample_rate=8000", "resumed with its own sample_rate"),
        (
            "transforms.batch.inference.features.n_fft=400",
            "resumed with its own transforms.batch.inference",
        ),
    ],
)
def test_fixed_values_of_resumed_run(trained, override, words):
    with pytest.raises(ValueError, match=words):
        resume_config(Run.open(trained).read_config(), [override])


def test_a_run_is_resumed_as_the_experiment_that_it_is_of(trained):
    other = {"name": "ssl_nest", "trainer": {"resume_from": str(trained)}, "trust": []}
    with pytest.raises(ValueError, match="-cn: ssl_nest; the run is one of asr_deepspeech2"):
        own_config(OmegaConf.create(other), [])
    config = read_config(trained / "config.yaml")
    config.name = "ssl_nest"
    resume_config(config, [], DEFAULT)
    assert f'config_name="{DEFAULT}"' in (ROOT / "train.py").read_text()
    config.name = "mine"
    resume_config(config, [], "asr_conformer")


def test_new_values_of_resumed_run(trained):
    config = read_config(trained / "config.yaml")
    resume_config(config, ["trainer.epochs=7", f"trainer.resume_from={trained}", "threads=1"])
    assert config.trainer.epochs == 7 and config.threads == 1


def test_flipped_bits_of_the_tokens_are_noticed(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    path = copy / "text_encoder" / "text_encoder.json"
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        data = bytearray(whole)
        data[draw.randrange(len(data) - 1)] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(data))
        with pytest.raises(ValueError, match=r"text_encoder\.json"):
            Run.open(copy).read_text_encoder()


def test_unknown_device_is_named(trained):
    with pytest.raises(ValueError, match="device: 'foo' can't be used"):
        load_run(trained, device="foo")


def test_changed_checkpoint_fails_self_test(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    (copy / "best" / "checksums.json").unlink()
    weights = Run.open(trained).path / "best" / "model.safetensors"
    from safetensors.torch import load_file

    changed = {k: v * 1.05 if v.is_floating_point() else v for k, v in load_file(weights).items()}
    save_checkpoint(copy / "best", changed, {}, load_file(copy / "best" / "self_test.safetensors"))
    with pytest.raises(ValueError, match="self-test failed, log_probs differs by"):
        load_run(copy)
