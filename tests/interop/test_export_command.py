"""scripts/export.py on small runs: clients, tables, exit codes."""

import json
from pathlib import Path

import pytest

from scripts import export
from src.interop.export import clients
from src.interop.export.sessions import load_program
from src.run import load_run
from tests.demo import SMALL, experiment, export_arguments, run_script
from train import train

NEMO = "features=log_mel_80_nemo"
ONE_LAYER = (*SMALL, "model.num_layers=1")  # each layer takes seconds to export


@pytest.fixture(scope="module")
def recogniser(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "asr"
    train(experiment("asr_deepspeech2", corpus, run, *ONE_LAYER, NEMO, "debug=smoke"))
    return run


@pytest.fixture(scope="module")
def separator(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "separation"
    tiny = ("model.d_model=16", "model.num_layers=1", "debug=smoke")
    train(experiment("separation_mossformer2", corpus, run, *tiny))
    return run


def test_recogniser_in_all_clients(recogniser, tmp_path, capsys):
    out = tmp_path / "out"
    export.export(export_arguments(recogniser, out, "--int8", "--check=all"))
    rows = json.loads((out / "report.json").read_text())["rows"]
    names = {(row["name"], row["file"]) for row in rows}
    programs = {"onnxruntime": "model", "sherpa-onnx": "samples", "onnx-asr": "model"}
    suffixes = (".onnx", ".int8.onnx")
    assert {(name, file + suffix) for name, file in programs.items() for suffix in suffixes} < names
    scores = {row["name"]: row["score"] for row in rows if "int8" not in row["file"]}
    assert all(scores[name] == scores["torch"] for name in programs)
    assert max(row["difference"] or 0 for row in rows) < 1e-4
    assert "real-time factor" in capsys.readouterr().out


def test_conformer_in_all_clients(corpus, tmp_path):
    small = ("model.encoder.d_model=16", "model.encoder.num_layers=1", "model.encoder.num_heads=2")
    run, out = tmp_path / "run", tmp_path / "out"
    train(experiment("asr_conformer", corpus, run, *small, "debug=smoke"))
    export.export(export_arguments(run, out, "--check=all"))
    rows = json.loads((out / "report.json").read_text())["rows"]
    scores = {row["name"]: row["score"] for row in rows if row["score"] is not None}
    assert scores.keys() == {"torch", "onnxruntime", "sherpa-onnx", "onnx-asr"}
    assert len(set(scores.values())) == 1


def test_separator(separator, tmp_path):
    out = tmp_path / "out"
    export.export(export_arguments(separator, out, "--check=all"))
    rows = json.loads((out / "report.json").read_text())["rows"]
    plain, exported = (row["score"] for row in rows[1:3])
    assert abs(plain - exported) < 1e-3
    assert {path.name for path in out.iterdir()} == {
        "model.onnx",
        "config.json",
        "report.json",
    }


def test_torchscript_of_a_run(recogniser, tmp_path):
    out = tmp_path / "out"
    export.export(export_arguments(recogniser, out, "--format=torchscript"))
    assert {"model.ts", "frontend.ts"} < {path.name for path in out.iterdir()}


class NoDecoder:
    """A decoder that must not be used."""


def test_streaming_recogniser(corpus, tmp_path, monkeypatch):
    small = ("model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2")
    run, out = tmp_path / "run", tmp_path / "out"
    train(experiment("asr_streaming", corpus, run, *small, "debug=smoke"))

    def loaded(*args, **options):  # a run's own decoders, e.g. of a beam, are not those of clients
        system = load_run(*args, **options)
        system.task.decoders = {"beam": NoDecoder()}
        return system

    monkeypatch.setattr(export, "load_run", loaded)
    export.export(export_arguments(run, out, "--int8", "--check=all", "--context", 56, 1))
    rows = json.loads((out / "report.json").read_text())["rows"]
    compared = {row["name"]: row["reference"] for row in rows if row["score"] is not None}
    assert compared["torch, stream"] == "torch, context 56 1"
    assert compared["onnxruntime, stream"] == compared["sherpa-onnx, stream"] == "torch, stream"
    assert compared["onnxruntime"] == "torch"
    scores = {row["name"]: row["score"] for row in rows}
    assert scores["torch, context 56 1"] == scores["torch, stream"]
    streams = [row for row in rows if "stream" in row["name"]]
    assert {(row["name"], row["file"]) for row in streams} == {
        ("torch, stream", ""),
        *(
            (f"{name}, stream", file)
            for name in ("onnxruntime", "sherpa-onnx")
            for file in ("streaming.onnx", "streaming.int8.onnx")
        ),
    }
    assert len({row["score"] for row in streams if "int8" not in row["file"]}) == 1
    stream_file = load_program(out / "streaming.onnx")
    assert stream_file.session.get_modelmeta().custom_metadata_map["window_size"] == "8"
    with pytest.raises(ValueError, match=r"\[70, 13\]; the model was trained with"):
        export.export(export_arguments(run, tmp_path / "b", "--context", 70, 13))
    assert not (tmp_path / "b").exists()


def test_streaming_deepspeech2(corpus, tmp_path, capsys):
    one_way = ("model.bidirectional=false", "+model.lookahead_context=5")
    statistics = ("+features.normalization=none", "+features.fixed_mean=-10.8")
    run, out = tmp_path / "run", tmp_path / "out"
    options = (*ONE_LAYER, *one_way, *statistics, "debug=smoke")
    train(experiment("asr_deepspeech2", corpus, run, *options))
    export.export(export_arguments(run, out, "--check=all", "--limit=2"))
    rows = json.loads((out / "report.json").read_text())["rows"]
    scores = {row["name"]: row["score"] for row in rows if "stream" in row["name"]}
    assert scores.keys() == {"torch, stream", "onnxruntime, stream"}
    assert len(set(scores.values())) == 1
    assert "sherpa-onnx, stream: not run; it never ends a stream" in capsys.readouterr().out
    config = json.loads((out / "config.json").read_text())
    assert config["streaming_delay"] == pytest.approx(0.04 * (2 + 5))
    with pytest.raises(ValueError, match="none for DeepSpeech2, see lookahead_context"):
        export.export(export_arguments(run, tmp_path / "b", "--context", 70, 1))


def test_differences_fail(recogniser, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "largest_difference", lambda *_: 0.5)
    with pytest.raises(ValueError, match=r"torchscript, model.ts: outputs differ by 5.0"):
        export.export(export_arguments(recogniser, tmp_path / "out", "--format=torchscript"))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["failures"]


def test_scores_that_differ_fail():
    rows = [export.Row("torch", "", 1, None, "WER", 3.0)]
    for name, file, score in (("a", "model.onnx", 3.05), ("b", "model.onnx", 3.2)):
        rows.append(export.Row(name, file, 1, None, "WER", score))
    rows.append(export.Row("c", "model.int8.onnx", 1, None, "WER", 3.2))
    rows.append(export.Row("d", "streaming.int8.onnx", 1, None, "WER", 4.0))
    rows.append(export.Row("torch, context 56 1", "", 1, None, "WER", 5.0))
    for name, file, score, reference in (
        ("torch, stream", "", 5.05, "torch, context 56 1"),
        ("e", "streaming.onnx", 5.1, "torch, stream"),
        ("f", "streaming.onnx", 3.0, "torch, stream"),
    ):
        rows.append(export.Row(name, file, 1, None, "WER", score, reference=reference))
    rows[5].reference = rows[5].name
    assert export.check(rows) == [
        "b, model.onnx: WER differs by 0.20 from torch.",
        "d, streaming.int8.onnx: WER differs by 1.00 from torch.",
        "f, streaming.onnx: WER differs by 2.05 from torch, stream.",
    ]
    rows[6].score = 3.0
    assert "torch, stream: WER differs by 2.00 from torch, context 56 1." in export.check(rows)
    rows = [export.Row(name, "", 1, float("nan")) for name in ("torch", "onnx")]
    assert len(export.check(rows)) == 2


def test_clients_that_cannot_run():
    config = {"features_size": 64, "takes_client_features": True}
    onnx_asr = clients.CLIENTS["onnx-asr"]
    assert onnx_asr.obstacle(config) == "computes 80 or 128 bins, the model has 64"
    missing = clients.Client("no_such", clients.onnx_asr, "model").obstacle(config)
    assert missing == "not installed (pip install -r requirements-export.txt)"


def test_other_features_are_for_clients_that_take_samples(corpus, tmp_path, capsys):
    features = ("features=log_spectrogram", "model.feat_in=161")
    options = (*ONE_LAYER, *features, "debug=smoke")
    train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *options))
    export.export(export_arguments(tmp_path / "r", tmp_path / "out", "--check=all"))
    printed = capsys.readouterr().out
    assert "onnx-asr: not run; it computes log-mel spectrograms every 10 ms" in printed
    assert "sherpa-onnx, stream: not run; this model has no form for its streams." in printed
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"onnx", "torch", "onnxruntime", "sherpa-onnx"}


def test_errors(recogniser, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(FileExistsError, match="taken: exists already; name another folder"):
        export.export(export_arguments(recogniser, taken))
    with pytest.raises(FileNotFoundError, match=r"none.jsonl"):
        missing = tmp_path / "none.jsonl"
        export.export(
            export_arguments(recogniser, tmp_path / "a", "--check=all", "--manifest", missing)
        )
    with pytest.raises(ValueError, match="--limit: 0"):
        export.export(export_arguments(recogniser, tmp_path / "a", "--limit=0"))
    with pytest.raises(ValueError, match="--int8: not with --format torchscript"):
        export.export(
            export_arguments(recogniser, tmp_path / "a", "--int8", "--format=torchscript")
        )
    with pytest.raises(FileNotFoundError, match="no run here"):
        export.export(export_arguments(tmp_path, tmp_path / "a"))
    with pytest.raises(FileNotFoundError, match="model.onnx: no such file"):
        load_program(taken / "model.onnx")
    (taken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"model.onnx: onnxruntime can't load it"):
        load_program(taken / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_command_ends_with_one_sentence(tmp_path):
    done = run_script("export", tmp_path, tmp_path / "out", code=1)
    assert done.stderr == f"error: {tmp_path}: no run here (config.yaml is missing).\n"
    assert not Path(tmp_path / "out").exists()
