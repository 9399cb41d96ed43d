import csv
import json
import re
import sys

import pytest
import soundfile

from scripts.compare import main
from src.comparison import compare, largest_differences, read_evaluated
from src.report.page import read_page
from tests.demo import SMALL, composed, experiment, inference, run_script
from train import train


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that runs the script in this process and returns what it prints."""

    def call(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["compare.py", *map(str, arguments)])
        if code:
            with pytest.raises(SystemExit) as stopped:
                main()
            assert stopped.value.code == code
            return capsys.readouterr().err
        main()
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A recogniser that has learnt little, evaluated."""
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment("asr_deepspeech2", corpus, folder, *SMALL, "debug=smoke"))
    return folder, inference("asr", folder)


@pytest.fixture
def written(run, tmp_path):
    """A function that writes the run's table with some changes to a further folder."""

    def write(name, change, config=lambda text: text):
        source, folder = run[0] / "inference", tmp_path / name
        with (source / "test.tsv").open(newline="") as file:
            rows = [change(dict(row)) for row in csv.DictReader(file, delimiter="\t")]
        folder.mkdir()
        with (folder / "test.tsv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t")
            table.writeheader()
            table.writerows(row for row in rows if row["id"])
        (folder / "test.yaml").write_text(config((source / "test.yaml").read_text()))
        return folder

    return write


def perfect(row):
    return row | {"WER": "0.0", "prediction": row["target"]}


def two_speakers(row):
    return row | {"speaker": "odd" if int(row["id"][-1]) % 2 else "even"}


def test_values_are_those_of_inference(run, written):
    folder, values = run
    paths = folder / "inference", written("b", perfect)
    runs = [read_evaluated(path, "test") for path in paths]
    comparison = compare(runs, draws=200)
    assert comparison.speakers is None  # there is only one in this set
    assert not comparison.changed and not comparison.configs
    assert [metric.name for metric in comparison.metrics] == ["WER", "CER", "WER_beam", "CER_beam"]
    for metric in comparison.metrics:
        assert metric.values[0].value == pytest.approx(values[f"test/{metric.name}"], abs=1e-12)
    first = comparison.metrics[0]
    assert first.values[1].value == 0 and first.differences[0] is None
    assert first.differences[1].value == -first.values[0].value
    errors = dict(zip(first.ids, first.numerators[0], strict=True))
    worst = largest_differences(first, 1, 3)
    assert [errors[one] for one in worst] == sorted(errors.values(), reverse=True)[:3]
    assert comparison.metrics[2].differences[1].p == 1


def test_command(written, tmp_path):
    first = written("a", two_speakers)
    other = written("b", perfect, lambda text: text.replace("beam_size: 100", "beam_size: 7"))
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    options = ("--show", 1, "--out", out, "--page", page)
    printed = run_script("compare", first, other, *options).stdout
    assert "bootstrap over 2 speakers" in printed and "only approximate" in printed
    assert "task.decoders.beam.beam_size\n    A 100\n    B 7\n" in printed
    assert "Largest differences in WER between A and B:\n" in printed
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows[::2]] == ["WER", "CER", "WER_beam", "CER_beam"]
    assert rows[0]["difference"] == "" and float(rows[1]["difference"]) < 0
    (data,) = read_page(page)
    assert {"WER A", "WER B", "prediction A", "prediction B", "speaker"} < set(data["columns"])
    assert data["extras"][0]["alignments"].keys() == {"prediction A", "prediction B"}
    assert "audio" not in data["extras"][0]  # these folders have no report
    metrics, configs = data["tables"]
    assert [row[:2] for row in metrics["rows"][:2]] == [["WER", "A"], ["WER", "B"]]
    assert configs["rows"] == [["task.decoders.beam.beam_size", "100", "7"]]


def test_page_takes_no_other_files_from_a_report(command, run, written, tmp_path):
    other = written("b", perfect)
    page = (run[0] / "inference" / "report.html").read_text().replace('.flac"', '.txt"')
    (other / "report.html").write_text(page)
    command(other, written("c", perfect), "--page", tmp_path / "page.html")
    (data,) = read_page(tmp_path / "page.html")
    assert not any("audio" in extra for extra in data["extras"])


def test_page_has_the_audio_of_the_reports(command, run, written, tmp_path):
    folder = run[0] / "inference"
    command(folder, written("b", perfect), "--page", tmp_path / "page.html")
    (data,) = read_page(tmp_path / "page.html")
    (player,) = data["extras"][0]["audio"]
    assert soundfile.info(tmp_path / data["folder"] / player["file"]).frames > 0
    assert (tmp_path / data["folder"] / player["spectrogram"]).exists()


def test_evaluates_a_run_without_a_table(command, corpus, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for seed, folder in enumerate(folders):
        options = [*SMALL, "debug=smoke", f"seed={seed}"]
        train(experiment("asr_deepspeech2", corpus, folder, *options))
    printed = command(*folders)
    assert "\n  seed\n    A 0\n    B 1\n" in printed
    assert all((folder / "inference" / "test.yaml").exists() for folder in folders)


def test_tasks_differ(command, run, corpus, tmp_path):
    separator = tmp_path / "s"
    train(experiment("separation_mossformer2", corpus, separator, "debug=smoke"))
    error = command(run[0], separator, code=1)
    assert error.splitlines()[-1] == (
        f"error: {separator}: a run of separation; one of recognition, as {run[0]}, is needed."
    )
    printed = command(separator, separator, "--metric", "SI-SDRi")
    assert "bootstrap over utterances" in printed and re.search(r"SI-SDRi +A ", printed)


def test_pretraining_is_weighted_by_masked_tokens(corpus, tmp_path):
    train(experiment("ssl_nest", corpus, tmp_path / "n", "debug=smoke"))
    values = inference("ssl", tmp_path / "n")
    evaluated = read_evaluated(tmp_path / "n" / "inference", "test")
    comparison = compare([evaluated, evaluated], draws=100)
    assert [metric.name for metric in comparison.metrics] == ["loss", "accuracy"]
    for metric in comparison.metrics:
        assert metric.values[0].value == pytest.approx(values[f"test/{metric.name}"], abs=1e-4)


def rename(row):
    return row | {"id": f"x{row['id']}"}


def drop_first(row):
    return row | ({"id": ""} if row["id"].endswith("0") else {})


def reverse(row):
    return row | {"target": row["target"][::-1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, r"different test sets: of (\d+) and \1 utterances they share 0\."),
        (drop_first, r"different test sets: of \d+ and \d+ .*; --common compares these\."),
        (reverse, r"different test sets: \w+ is .* and .*\."),
        (lambda row: row | {"WER": "much"}, r"b, utterance \w+: could not convert .*'much'"),
        (lambda row: row | {"id": "a"}, r"b/test.tsv: \d+ ids occur more than once"),
        (lambda row: {"id": row["id"], "target": "a"}, "b/test.tsv: has no scores to compare"),
        (lambda row: {"name": row["id"], "id": ""}, "b/test.tsv: has no rows"),
    ],
)
def test_refused(run, written, change, message):
    with pytest.raises(ValueError, match=message):
        paths = run[0] / "inference", written("b", change)
        compare([read_evaluated(path, "test") for path in paths], draws=100)


def test_common_utterances_and_corrected_references(run, written):
    def correct(row):
        return row | ({"target": "corrected"} if row["id"].endswith("_0001") else {})

    paths = run[0] / "inference", written("b", drop_first), written("c", correct)
    runs = [read_evaluated(path, "test") for path in paths]
    comparison = compare(runs, draws=100, common=True)
    assert len(comparison.ids) == len(runs[1].rows) < len(runs[0].rows)
    assert comparison.changed and all(one.endswith("_0001") for one in comparison.changed)


def test_table_of_an_earlier_version(command, run, written, tmp_path):
    (written("b", perfect) / "test.yaml").unlink()
    error = command(run[0], tmp_path / "b", code=1)
    assert "b/test.yaml: missing; run inference.py again" in error
    error = command(run[0], code=1)
    assert error == "error: 1 runs; 2 to 26 are compared.\n"
    error = command(run[0], run[0], "--metric", "PER", code=1)
    assert error == "error: --metric: 'PER'; WER or CER or WER_beam or CER_beam.\n"


def test_config_can_name_no_other_class(run, written):
    def change(text):
        return text.replace("src.metrics.wer.WER", "os.system")

    with pytest.raises(ValueError, match="'os.system' may not be instantiated here"):
        read_evaluated(written("b", perfect, change), "test")


def test_config_of_an_evaluation_of_its_own(run):
    """The metrics are those of the evaluation where it has its own."""
    config = composed("inference_asr").metrics
    assert set(read_evaluated(run[0] / "inference", "test").metrics) == {"WER", "CER", *config}


def test_normalizations_differ(run, written):
    def change(text):
        return text.replace("wer.WER\n", "wer.WER\n    normalization: none\n", 1)

    runs = [
        read_evaluated(path, "test")
        for path in (run[0] / "inference", written("b", perfect, change))
    ]
    with pytest.raises(
        ValueError, match="WER: scored with normalization 'own' in .* and 'none' in"
    ):
        compare(runs, draws=100)


def test_raw_texts_are_a_column_where_they_differ(run, corpus, tmp_path):
    rows = [json.loads(line) for line in (corpus / "test.jsonl").read_text().splitlines()]
    for row in rows:
        row["text"] = row["text"].upper()
        row["audio_filepath"] = str(corpus / row["audio_filepath"])
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["datasets=manifest", f"datasets.test.manifest={tmp_path / 'm.jsonl'}"]
    options += [f"datasets.{name}.manifest=none" for name in ("train", "val")]
    options += [f"output={tmp_path / 'out'}", "+metrics.WER.normalization=none"]
    values = inference("asr", run[0], *options)
    evaluated = read_evaluated(tmp_path / "out", "test")
    first = next(iter(evaluated.rows.values()))
    assert first["raw_text"] == first["target"].upper()
    metric = compare([evaluated, evaluated], draws=100).metrics[0]
    assert metric.normalization == "none"
    assert metric.values[0].value == pytest.approx(values["test/WER"], abs=1e-12)
