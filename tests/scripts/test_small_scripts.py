import json
import queue
import sys
from types import SimpleNamespace

import pytest

from scripts.side_by_side import wait_for
from src.utils.files import append_jsonl
from tests.demo import run_script, sine
from tests.programs import call_script


@pytest.fixture
def folders(tmp_path):
    for folder, texts in (
        ("references", {"a": "The cat, sat!", "b": "it is 5"}),
        ("hypotheses", {"a": "the cat sat", "b": "it was five"}),
    ):
        (tmp_path / folder).mkdir()
        for name, text in texts.items():
            (tmp_path / folder / f"{name}.txt").write_text(text)
    return tmp_path


def test_score_asr(folders):
    table = folders / "table.tsv"
    places = folders / "references", folders / "hypotheses"
    printed = run_script("score_asr", *places, "--table", table).stdout
    assert "2 utterances" in printed
    assert "WER 0.166667  (1 substitutions, 0 deletions, 0 insertions, of 6)" in printed
    lines = table.read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["id", "b", "a"]
    (folders / "hypotheses" / "b.txt").unlink()
    done = run_script("score_asr", *places, code=1)
    assert done.stderr == "error: 1 texts have no hypothesis; the first is b.txt.\n"
    assert "1 utterances" in run_script("score_asr", *places, "--allow-missing").stdout
    done = run_script("score_asr", folders / "none", places[1], code=1)
    assert "no .txt files here" in done.stderr


def test_encodings_of_scored_texts(folders, capsys):
    places = folders / "references", folders / "hypotheses"
    path = folders / "hypotheses" / "b.txt"
    path.write_text("it is 5", encoding="utf-8-sig")
    done = call_script("score_asr", *places, "--language", "none")
    assert "WER 0.500000  (3 substitutions, 0 deletions, 0 insertions, of 6)" in done.stdout
    path.write_text("it is five", encoding="utf-16")
    done = call_script("score_asr", *places, code=1)
    assert done.stderr == f"error: {path}: not text in UTF-8.\n"


def test_plot_training(tmp_path):
    for step in range(3):
        append_jsonl(tmp_path / "metrics.jsonl", {"step": step, "time": step, "val/x": step})
    run_script("plot_training", tmp_path, tmp_path / "a.png", "--panels", "val/x")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    done = call_script("plot_training", tmp_path, tmp_path / "b.png", code=1)
    assert done.stderr == "error: no metric 'train/loss'; the run has val/x.\n"


def test_plot_augmentation(corpus, tmp_path):
    audio = next((corpus / "audio").rglob("*.flac"))
    run_script("plot_augmentation", audio, tmp_path / "a.png", "-cn", "asr_deepspeech2_librispeech")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    done = call_script("plot_augmentation", audio, "x", "-cn=inference_asr", code=1)
    assert done.stderr == "error: config, -cn: this experiment is one for inference.py.\n"


def test_train_subwords(tmp_path):
    sine(tmp_path / "a.wav")
    row = {"audio_filepath": "a.wav", "duration": 1.0, "text": "the cat sat on the mat again"}
    append_jsonl(tmp_path / "m.jsonl", row)
    run_script("train_subwords", tmp_path / "m.jsonl", tmp_path / "m.model", "--size", 20)
    assert (tmp_path / "m.model").stat().st_size > 100
    done = run_script("train_subwords", tmp_path / "m.jsonl", tmp_path, "--size", 20, code=1)
    assert done.stderr == f"error: {tmp_path}: a folder, not a file to write.\n"
    done = run_script("train_subwords", tmp_path / "m.jsonl", "x", "--size", -1, code=1)
    assert done.stderr == "error: --size: -1; a whole number from 2 to 1000000.\n"
    append_jsonl(tmp_path / "n.jsonl", row | {"text": "!"})
    done = call_script("train_subwords", tmp_path / "n.jsonl", "x", code=1)
    assert done.stderr == f"error: {tmp_path}/n.jsonl: no texts to train on.\n"


def test_make_demo_speech(corpus, tmp_path):
    printed = run_script("make_demo_speech", "--folder", corpus).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["train", "val", "test"]
    done = run_script("make_demo_speech", "--folder", tmp_path / "x", "--hours", -1, 1, 1, code=1)
    assert done.stderr == "error: demo speech: hours: -1.0; a number above 0, up to 100.\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_measure_manifest(tmp_path):
    out = tmp_path / "found.json"
    options = ("--rows", 3000, "--workers", 1, "--folder", tmp_path, "--out", out)
    printed = run_script("measure_manifest", *options).stdout
    assert printed.startswith("3,000 rows, 0 MB, 1 worker processes\n")
    found = json.loads(out.read_text())
    assert list(found) == ["first time", "second time", "middle of epoch 3"]
    for values in found.values():
        assert 2000 < values["rows left"] < 3000 and 0 < values["padding (%)"] < 15
        assert values["memory of all processes (MB)"] > values["without pages of files (MB)"] > 50
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    done = run_script("measure_manifest", "--out", tmp_path / "none" / "x.json", code=1)
    assert done.stderr == f"error: --out: {tmp_path / 'none'}: no such folder.\n"
    done = run_script("measure_manifest", "--rows", 1, code=1)
    assert done.stderr == "error: --rows: 1; a whole number from 1000 on.\n"


def test_a_measuring_process_that_ends_without_a_result():
    for code in (0, 1):
        with pytest.raises(ValueError, match=f"measures memory ended with code {code}"):
            wait_for(queue.Queue(), SimpleNamespace(exitcode=code))
    answer: queue.Queue = queue.Queue()
    answer.put(2.5)
    assert wait_for(answer, SimpleNamespace(exitcode=0)) == 2.5
