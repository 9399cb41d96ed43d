"""A published run, in a folder and on the hub, gives what the run gives, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from scripts.publish import main
from src.building import build_system
from src.interop.hub import hub_name
from src.interop.initialization import adopted_text_encoder, initialize
from src.interop.sources import pin_sources
from src.run import Run, load_run, open_source, own_config
from src.utils.audio import write_audio
from src.utils.files import append_jsonl
from tests.demo import ENVIRONMENT, ROOT, SMALL, composed, experiment, inference
from tests.golden import FIXTURES
from tests.hub import serving
from tests.kill_points import count_operations, kill_at
from tests.test_separation import SMALL as SMALL_SEPARATION
from tests.test_ssl import SIZE

RATE = 16000
KINDS = {
    "asr": ("asr_deepspeech2", SMALL),
    "separation": ("separation_mossformer2", SMALL_SEPARATION),
    "ssl": ("ssl_nest", SIZE),
}
ELSEWHERE = """
import re, sys
from pathlib import Path
from safetensors.torch import load_file
from src.run import load_run
from src.utils.checkpoint import tensors_to_bytes

given = load_file("audio.safetensors")
for name in ("asr", "separation", "ssl", "me/asr"):
    system = load_run(name)
    outputs = system.outputs_for(given[str(system.sample_rate)])
    Path(f"{name.replace('/', '-')}.safetensors").write_bytes(tensors_to_bytes(outputs))
try:
    load_run("me/other")
except FileNotFoundError as error:
    print(error)
(code,) = re.findall("```python\\n(.*?)```", Path("asr/README.md").read_text(), re.DOTALL)
exec(code)
"""


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["publish.py", *map(str, arguments)])
    main()


def error_of(monkeypatch, capsys, *arguments):
    """The sentence with which a command fails."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        call(monkeypatch, *arguments)
    printed = capsys.readouterr().err
    assert exit.value.code == 1 and printed.count("error: ") == 1
    return printed.strip().splitlines()[-1].removeprefix("error: ")


def untrained_run(name, options, folder):
    """A run with random weights, whose data doesn't exist."""
    torch.manual_seed(1)
    config = experiment(name, folder / "no_data", folder, *options)
    system = build_system(config).eval()
    run = Run.create_at(folder)
    run.save_config(config, system.text_encoder)
    run.save_data({"hours": 1.25, "utterances": 1000})
    run.save("last", system.model.state_dict(), {}, system.self_test())
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a recogniser, which was evaluated, a separator and a pretrained model."""
    folder = tmp_path_factory.mktemp("runs")
    os.chdir(ROOT)
    for kind, (name, options) in KINDS.items():
        untrained_run(name, options, folder / kind)
    for name in ("one", "two"):
        noise = torch.randn(RATE, generator=torch.Generator().manual_seed(len(name)))
        write_audio(folder / "set" / "audio" / f"{name}.wav", 0.1 * noise, RATE)
        (folder / "set" / "transcriptions").mkdir(exist_ok=True)
        (folder / "set" / "transcriptions" / f"{name}.txt").write_text(name)
    options = ["datasets=custom_dir", f"datasets.test.dir={folder / 'set'}", "threads=1"]
    inference("asr", folder / "asr", *options)
    return folder


@pytest.fixture(scope="module")
def published(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        for kind in KINDS:
            call(patch, runs / kind, folder / kind, "--license", "mit")
    return folder


@pytest.fixture
def hub(published, tmp_path):
    with serving(tmp_path / "hf" / "hub") as hub:
        hub.models["me/asr"] = published / "asr"
        yield hub


def test_the_same_outputs_elsewhere(runs, published, hub, tmp_path):
    """In another folder, offline: from folders, and from the cache of the hub."""
    given = {str(rate): 0.1 * torch.randn(rate) for rate in (16000, 8000)}
    expected = {kind: load_run(runs / kind).outputs_for for kind in KINDS}
    expected["me-asr"] = load_run("me/asr").outputs_for
    place = shutil.copytree(published, tmp_path / "place")
    save_file(given, place / "audio.safetensors")
    shutil.copy(runs / "set" / "audio" / "one.wav", place / "a.wav")
    own = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=place,
        env={**ENVIRONMENT, **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, outputs_for in expected.items():
        outputs = load_file(place / f"{name}.safetensors")
        wanted = outputs_for(given["8000" if name == "separation" else "16000"])
        assert outputs and outputs.keys() == wanted.keys()
        assert all(torch.equal(outputs[key], wanted[key]) for key in wanted)
    failed, transcript = done.stdout.splitlines()
    cache = tmp_path / "hf" / "hub"
    assert failed == (
        f"me/other: no folder here, not completely in the cache ({cache}), and HF_HUB_OFFLINE "
        "forbids to download it."
    )
    assert transcript == load_run(runs / "asr")(runs / "set" / "audio" / "one.wav") != ""
    assert not any("report" in one or "README" in one for one in hub.requests)


def test_contents(runs, published, monkeypatch, tmp_path, capsys):
    files = {path.relative_to(published / "asr") for path in (published / "asr").rglob("*.*")}
    report = {path for path in files if path.parts[0] == "report"}
    assert {str(path) for path in files - report} == {
        "README.md",
        "checksums.json",
        "config.yaml",
        "data.json",
        "git_commit.txt",
        "model.safetensors",
        "self_test.safetensors",
        "text_encoder/text_encoder.json",
    }
    assert {path.suffix for path in report} == {".html", ".flac", ".png"}
    call(monkeypatch, runs / "asr", tmp_path / "asr", "--license", "mit")
    printed = capsys.readouterr().out
    for path in files:  # the same bytes, without places on this computer
        data = (tmp_path / "asr" / path).read_bytes()
        assert data == (published / "asr" / path).read_bytes()
        assert str(runs).encode() not in data and str(ROOT).encode() not in data
    assert re.search(r"^report +[\d.]+ kB, \d+ files$", printed, re.MULTILINE)
    assert f"hf upload USER/NAME {tmp_path / 'asr'}" in printed
    call(monkeypatch, runs / "asr", tmp_path / "page", "--report", "page")
    assert [path.name for path in (tmp_path / "page" / "report").iterdir()] == ["report.html"]
    html = (tmp_path / "page" / "report" / "report.html").read_text()
    assert "data-index" in html and ".flac" not in html and "dir: ???" in html
    assert "No licence: " in capsys.readouterr().out


def test_model_card(runs, published, monkeypatch, tmp_path):
    card = ModelCard.load(published / "asr" / "README.md")
    assert card.data.license == "mit" and card.data.language == ["en"]
    assert card.data.library_name == "triphone"
    metrics = json.loads((runs / "asr" / "inference" / "metrics.json").read_text())
    values = {one.metric_name: one.metric_value for one in card.data.eval_results}
    assert values["WER"] == pytest.approx(100 * metrics["test/WER"], abs=1e-3)
    assert set(values) == {"WER", "CER", "WER (beam)", "CER (beam)"}
    assert {one.metric_type for one in card.data.eval_results} == {"wer", "cer"}
    commit = (runs / "asr" / "git_commit.txt").read_text().strip()
    for text in (
        "`test`: `CustomDir`, 2 utterances.",
        f"| WER | {100 * metrics['test/WER']:.2f} % | that of the text encoder |",
        "1.25 hours, 1,000 utterances.",
        "synthesised by eSpeak NG",
        "it does not work for real speech",
        f"commit `{commit}`",
        "[report](report/report.html)",
    ):
        assert text in card.text
    own = ["--name", "me/asr", "--data", "Some | data", "--code", "https://example.org/x"]
    call(monkeypatch, runs / "ssl", tmp_path / "ssl", *own)
    card = ModelCard.load(tmp_path / "ssl" / "README.md")
    assert card.data.license == "unknown" and card.data.pipeline_tag == "feature-extraction"
    for text in (
        '\nencode = load_run("me/asr")\n',
        "init.encoder.source=me/asr\n",
        "Some | data 1.25 hours",
        "git clone https://example.org/x",
        "The checkpoint has not been evaluated.",
    ):
        assert text in card.text


def test_results_of_other_weights_are_left_out(runs, monkeypatch, tmp_path, capsys):
    run = shutil.copytree(runs / "asr", tmp_path / "run")
    os.utime(run / "last" / "model.safetensors")  # trained further after the inference ...
    append_jsonl(run / "metrics.jsonl", {"step": 2, "test/WER": 0.5})
    call(monkeypatch, run, tmp_path / "a")
    card = ModelCard.load(tmp_path / "a" / "README.md")
    assert [one.metric_value for one in card.data.eval_results] == [50.0]
    append_jsonl(run / "metrics.jsonl", {"step": 3, "val/WER": 0.4})  # ... and after the test
    call(monkeypatch, run, tmp_path / "b")
    assert ModelCard.load(tmp_path / "b" / "README.md").data.eval_results is None
    assert not (tmp_path / "a" / "report").exists()
    assert "No metrics: " in capsys.readouterr().out


def test_a_nemo_file(monkeypatch, tmp_path):
    path = FIXTURES / "asr_citrinet_char.nemo"
    call(monkeypatch, path, tmp_path / "a")
    audio = 0.1 * torch.randn(RATE)
    first, second = (load_run(one).outputs_for(audio) for one in (path, tmp_path / "a"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert "converted from a .nemo file" in (tmp_path / "a" / "README.md").read_text()


# The hub ---------------------------------------------------------------------------------


def test_training_and_inference_from_the_hub(published, runs, hub, tmp_path, monkeypatch):
    exact = f"me/asr@{hub.commit('me/asr')}"
    config = composed("asr_finetune", "init.model.source=me/asr")
    pin_sources(config)
    assert config.init.model.source == exact
    assert adopted_text_encoder(config).vocab_size == 29
    config = experiment("asr_deepspeech2", tmp_path, tmp_path, *SMALL, "init=model")
    config.init.model.source = exact
    system = build_system(config)
    initialize(system.model, config)
    wanted = load_run(runs / "asr").model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in system.model.state_dict().items())
    monkeypatch.chdir(tmp_path)
    options = ["datasets=custom_dir", f"datasets.test.dir={runs / 'set'}", "threads=1"]
    values = inference("asr", "me/asr", *options, "report.audio=none")
    assert values == json.loads((runs / "asr" / "inference" / "metrics.json").read_text())
    assert (tmp_path / "runs/hub/me/asr" / exact[7:19] / "test.tsv").exists()
    assert open_source(published / "asr").inference_path == published / "asr_inference"


def test_errors_of_the_hub(hub, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").touch()
    hub.models["me/other"] = tmp_path / "other"
    hub.gated.add("me/gated")
    for name, sentence in {
        "me/none": f"neither a folder here nor a model of {hub.address}; a private one needs `hf",
        "me/gated": f"restricted; ask for access at {hub.address}/me/gated, then `hf auth login`.",
        "me/asr@x": "has no revision 'x'.",
        "me/other": "no run that publish.py wrote (checksums.json is missing).",
    }.items():
        with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
            load_run(name)


def test_without_net_the_cache_is_used(published, tmp_path):
    with serving(tmp_path / "cache") as hub:
        hub.models["me/asr"] = hub.models["me/b"] = published / "asr"
        load_run("me/asr@main")
        hub.models["me/b"] = shutil.copytree(published / "asr", tmp_path / "b")
        (tmp_path / "b" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/")
        with pytest.raises(ValueError, match=r"model.safetensors: a pointer of git-lfs"):
            load_run("me/b")
        gone = hub.address
    with serving(tmp_path / "cache") as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.ENDPOINT", gone)
        assert load_run("me/asr").sample_rate == RATE
        sentence = f"and {gone} can't be reached (ConnectError: "
        with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
            load_run("me/c")


def test_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    for path in ("runs/first", "runs/none", "a", "a/b/c", "../b", "/a/b", "a/b.nemo", "a/б"):
        assert hub_name(Path(path)) is None, path
    assert hub_name(Path("me/asr")) == ("me/asr", None)
    assert hub_name(Path("runs/none@v1.0")) == ("runs/none", "v1.0")
    assert hub_name(Path("me/asr@refs/pr/1")) == ("me/asr", "refs/pr/1")


# Errors ----------------------------------------------------------------------------------


def test_bad_commands(runs, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "a"
    for options, sentence in (
        (["--license", "My own"], "--license: 'My own'; as the hub writes it: mit, apache-2.0"),
        (["--name", "asr"], "--name: 'asr'; USER/NAME, of letters"),
        (["--code", "/home"], "--code: '/home'; an address that begins with https://."),
        (["--data", f"In {ROOT}/data."], f"README.md: would name {ROOT}, a place of this computer"),
    ):
        assert sentence in error_of(monkeypatch, capsys, runs / "asr", folder, *options)
        assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "mine").touch()
    sentence = error_of(monkeypatch, capsys, runs / "asr", folder)
    assert sentence == f"{folder}: exists already; name another folder."
    run = shutil.copytree(runs / "asr", tmp_path / "run")
    shutil.rmtree(run / "last")
    sentence = error_of(monkeypatch, capsys, run, tmp_path / "b")
    assert sentence == f"{run / 'last'}: no checkpoint here (model.safetensors is missing)."
    assert error_of(monkeypatch, capsys, tmp_path, tmp_path / "b").endswith(
        "no run here (config.yaml is missing)."
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a", "run"}


def test_damaged_folders(published, tmp_path):
    for name in (
        "config.yaml",
        "checksums.json",
        "model.safetensors",
        "self_test.safetensors",
        "text_encoder/text_encoder.json",
    ):
        folder = shutil.copytree(published / "asr", tmp_path / name)
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(ValueError, match=re.escape(f"{folder / name}: damaged, its ")):
            load_run(folder)
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=re.escape(f"{folder}")):
            load_run(folder)


def test_it_cannot_be_resumed(published):
    folder = published / "asr"
    config = composed("asr_deepspeech2", f"trainer.resume_from={folder}")
    with pytest.raises(ValueError, match="a published run, which has no training state; start"):
        own_config(config, [])


def test_a_killed_command_leaves_no_folder(runs, monkeypatch, tmp_path):
    def publish():
        call(monkeypatch, runs / "separation", tmp_path / "a")

    count = count_operations(publish, tmp_path)
    shutil.rmtree(tmp_path / "a")
    for n in (5, count // 2, count):
        kill_at(publish, tmp_path, n)
        assert not (tmp_path / "a").exists() and len(list(tmp_path.iterdir())) == 1
    publish()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
