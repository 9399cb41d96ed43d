"""Reports of whole runs: of each task, at the end of training and of inference."""

import json
import os

import pytest
import soundfile

from src.trainer import reporter as module
from tests.demo import ROOT, SMALL, experiment, inference, sine
from train import train

RUNS = {
    "asr_deepspeech2": SMALL,
    "separation_mossformer2": ["model.d_model=8", "model.num_layers=1", "model.kernel_size=64"],
    "ssl_nest": [
        "model.encoder.d_model=16",
        "model.encoder.num_layers=1",
        "model.encoder.num_heads=2",
    ],
}


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A run of two steps for each task."""
    os.chdir(ROOT)
    folder = tmp_path_factory.mktemp("runs")
    for name, options in RUNS.items():
        train(experiment(name, corpus, folder / name, *options, "debug=smoke"))
    return folder


def page(folder):
    """The HTML and the data of a report."""
    html = (folder / "report.html").read_text(encoding="utf-8")
    return html, json.loads(html.partition('id="data">')[2].partition("</script>")[0])


def files_of(folder, data):
    """Title -> file, of the players of the first utterance; all exist."""
    players = data["extras"][0]["audio"]
    own = {player["title"]: folder / data["folder"] / player["file"] for player in players}
    assert all(soundfile.info(path).frames for path in own.values())
    return own


def test_recognition(runs):
    folder = runs / "asr_deepspeech2"
    html, (data,) = page(folder / "report")
    assert {"id", "WER", "target", "prediction", "seconds", "speaker"} <= set(data["columns"])
    assert files_of(folder / "report", data).keys() == {"audio"}
    titles = {table["title"] for table in data["tables"]}
    assert {"Confusions of words", "Confusions of characters", "Error rate by speaker"} <= titles
    assert "Trained on" in html and "Parameters" in html and "hidden_size: 16" in html
    assert "Error rate by speaking rate" in html
    table = (folder / "report" / "test.tsv").read_text().splitlines()
    assert len(table) - 1 == len(data["rows"]) > 1
    place = data["columns"].index("WER")
    rates = [float(row[place]) for row in data["rows"]]
    assert rates == sorted(rates, reverse=True)
    for row, extra in zip(data["rows"], data["extras"], strict=True):
        chunks = extra["alignments"]["prediction"]
        assert " ".join(b for _, b, _ in chunks if b) == row[data["columns"].index("target")]


def test_separation(runs):
    folder = runs / "separation_mossformer2" / "report"
    html, (data,) = page(folder)
    signals = ["mixture", "estimate_1", "estimate_2", "reference_1", "reference_2"]
    assert list(files_of(folder, data)) == signals
    assert [table["title"] for table in data["tables"]] == ["Permutations", "Silence"]
    assert "SI-SDR of the mixture in dB" in html
    assert data["rows"][0][data["columns"].index("permutation")] in ("1 2", "2 1")


def test_recordings_without_references(runs, tmp_path):
    sine(tmp_path / "in" / "a.wav", rate=11025, seconds=2.0, channels=2)
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={tmp_path / 'in'}"]
    run, output = runs / "separation_mossformer2", tmp_path / "out"
    inference("separation", run, *data, f"output={output}")
    _, (data,) = page(output)
    files = files_of(output, data)
    assert list(files) == ["mixture", "estimate_1", "estimate_2"]
    assert {soundfile.info(path).frames for path in files.values()} == {16000}
    assert data["rows"][0][data["columns"].index("seconds")] == 2.0


def test_pretraining(runs):
    folder = runs / "ssl_nest" / "report"
    html, (data,) = page(folder)
    assert (folder / data["folder"] / data["extras"][0]["picture"]).exists()
    assert "codebook_perplexity" in html and "rank of the code" in html
    assert "_codes" not in data["columns"]


def test_inference_with_word_times_and_several_evaluations(runs, tmp_path):
    run = runs / "asr_deepspeech2"
    options = ["task.word_times=true", "evaluate_on=[test,val]", "report.audio=all"]
    inference("asr", run, *options, f"output={tmp_path}")
    html, data = page(tmp_path)
    assert [one["name"] for one in data] == ["test", "val"]
    assert all("audio" in extra for one in data for extra in one["extras"])
    assert all(
        extra["alignments"].keys() == {"prediction", "prediction_beam"}
        for one in data
        for extra in one["extras"]
    )
    assert "Confusions of words of prediction_beam" in html
    inference("asr", run, "report.audio=none", f"output={tmp_path}")
    _, data = page(tmp_path)
    assert not any("audio" in extra for one in data for extra in one["extras"])
    assert not any((tmp_path / "report_audio" / "test").iterdir())
    assert any((tmp_path / "report_audio" / "val").iterdir())  # of another evaluation


def test_several_test_sets_in_one_table_and_page(runs, corpus, tmp_path):
    options = (
        f"+evaluations.far.dataset={corpus / 'val.jsonl'}",
        "+evaluations.near={dataset: test, metrics: {S: {_target_: src.metrics.cer.CER}}}",
    )
    inference("asr", runs / "asr_deepspeech2", *options, f"output={tmp_path}")
    header, *rows = (tmp_path / "evaluations.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["far", "near"]
    assert {"loss", "WER", "S"} < set(header.split("\t"))
    html, data = page(tmp_path)
    assert [one["name"] for one in data] == ["far", "near"] and "All evaluations" in html


def test_bad_option(runs, tmp_path):
    for value, words in (("best", "report.audio: 'best'"), ("5", "report.audio: 5")):
        with pytest.raises(ValueError, match=words):
            inference(
                "asr", runs / "asr_deepspeech2", f"report.audio={value}", f"output={tmp_path}"
            )


@pytest.mark.parametrize("broken", ["write_page", "leave_worst"])
def test_failing_report_loses_no_evaluation(broken, runs, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("no report")

    run = runs / "asr_deepspeech2"
    whole = inference("asr", run, f"output={tmp_path / 'whole'}")
    monkeypatch.setattr(module, broken, fail)
    assert inference("asr", run, f"output={tmp_path / 'out'}") == whole
    assert (tmp_path / "out" / "test.tsv").exists() and "no report" in caplog.text
    assert not list((tmp_path / "out").glob(".unfinished*"))


def test_file_in_the_way_of_training(corpus, tmp_path, monkeypatch, caplog):
    original = module.Reporter.prepare

    def prepare(self, names):
        self.output.path.write_text("mine")
        original(self, names)

    monkeypatch.setattr(module.Reporter, "prepare", prepare)
    config = experiment("asr_deepspeech2", corpus, tmp_path / "run", *SMALL, "debug=smoke")
    assert "test/WER" in train(config)
    assert "can't take a report" in caplog.text
    assert (tmp_path / "run" / "report").read_text() == "mine"
