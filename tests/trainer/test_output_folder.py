"""Inference replaces only what inference wrote."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference import infer
from src.trainer.inferencer import Inferencer
from src.trainer.output_folder import OutputFolder
from tests.demo import SMALL, composed, experiment
from train import train


def snapshot(folder):
    """What lies in a folder: contents of files, targets of links, and folders that are empty."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not any(path.iterdir()):
            found[name] = None
    return found


def write(folder, **files):
    """An evaluation `test` that writes some files."""
    output = OutputFolder(folder)
    output.start(["test"])
    finish(output, **files)
    return output


def finish(output, **files):
    new = output.begin()
    for name, text in files.items():
        (new / name).write_text(text)
    output.finish("test", new)
    output.claim("test.tsv").write_text("table")


@pytest.fixture
def out(tmp_path):
    """An output folder within a folder of the user."""
    (tmp_path / "precious.txt").write_text("mine")
    write(tmp_path / "out", a="1", old="1")
    return tmp_path / "out"


def mark(folder, files, unfinished=()):
    folder.mkdir(exist_ok=True)
    marker = {"files": files, "unfinished": list(unfinished)}
    (folder / ".inference.json").write_text(json.dumps(marker))


def assert_refused(root, output, names=("test",), error=FileExistsError, words="wasn't written by"):
    """A start is refused and changes nothing."""
    before = snapshot(root)
    with pytest.raises(error, match=words):
        OutputFolder(output).start(list(names))
    assert snapshot(root) == before


def test_replaces_its_own_files_only(out):
    (out / "mine.txt").write_text("mine")
    (out / "test" / "mine").write_text("mine")
    write(out, a="2", b="2")
    found = snapshot(out)
    marker = json.loads(found.pop(".inference.json"))
    assert marker == {"files": ["log.txt", "test.tsv", "test/a", "test/b"], "unfinished": []}
    assert found == {
        "mine.txt": b"mine",
        "test.tsv": b"table",
        **{"test/a": b"2", "test/b": b"2", "test/mine": b"mine"},
    }


@pytest.mark.parametrize(
    "file", ["test/../../precious.txt", "../precious.txt", "{}/precious.txt", ".", "", 3]
)
def test_marker_names_files_outside(out, file):
    mark(out, [str(file).format(out.parent) if file != 3 else 3])
    assert_refused(out.parent, out, error=ValueError, words="inference.json: damaged")


@pytest.mark.parametrize("folder", ["..", "../mine", "test", "{}", ".unfinished-/../test"])
def test_marker_names_folders_outside(out, folder):
    mark(out, [], [folder.format(out.parent)])
    assert_refused(out.parent, out, error=ValueError, words="inference.json: damaged")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": "ab"}', '{"files": null}', "\xff"])
def test_damaged_marker(out, text):
    (out / ".inference.json").write_text(text, encoding="latin-1")
    assert_refused(out.parent, out, error=ValueError, words="inference.json: damaged")


def test_file_of_the_user_in_the_folder_of_an_evaluation(out):
    (out / "test" / "b").write_text("mine")
    output = OutputFolder(out)
    output.start(["test"])
    new = output.begin()
    for name in ("a", "b", "c"):
        (new / name).write_text("new")
    before = snapshot(out.parent)
    with pytest.raises(FileExistsError, match=r"test/b: exists and wasn't written by"):
        output.finish("test", new)
    assert snapshot(out.parent) == before


def test_file_of_the_user_that_comes_during_an_evaluation(tmp_path):
    output = OutputFolder(tmp_path)
    output.start(["test"])
    (tmp_path / "test.tsv").write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(FileExistsError, match=r"test.tsv: exists"):
        output.finish("test", Path(tmp_path / "none"))
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "name",
    [
        "log.txt",
        "metrics.json",
        "report.html",
        "report_audio",
        "test.tsv",
        "test.png",
        "test",
        "test/b",
        "val/x",
        "val",
    ],
)
def test_files_of_the_user_are_refused_at_the_start(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert_refused(tmp_path, tmp_path, ["test", "val"])


def test_only_known_leftovers_are_removed(out):
    (out / ".unfinished-0123456789abcdef").mkdir()
    (out / ".test.unfinished").mkdir()
    output = OutputFolder(out)
    left = output.begin()
    (left / "a").write_text("1")
    assert write(out, a="2").marker.unfinished == set()
    assert not left.exists()
    assert (out / ".unfinished-0123456789abcdef").exists() and (out / ".test.unfinished").exists()


@pytest.mark.parametrize(
    "name", ["test", "test/a", "test.tsv", "test.png", "log.txt", "report_audio"]
)
def test_links_are_refused(out, name):
    place, target = out / name, out.parent / "target"
    if place.exists():
        place.rename(target)
    place.symlink_to(target)
    assert_refused(out.parent, out)


def test_links_within_the_folder_of_an_evaluation(out):
    (out.parent / "target").mkdir()
    (out / "test" / "s1").symlink_to(out.parent / "target")
    output = OutputFolder(out)
    output.start(["test"])
    new = output.begin()
    (new / "s1").mkdir()
    (new / "s1" / "x").touch()
    before = snapshot(out.parent)
    with pytest.raises(FileExistsError, match=r"test/s1: exists"):
        output.finish("test", new)
    assert snapshot(out.parent) == before


def test_unfinished_folder_that_became_a_link(out):
    left = OutputFolder(out).begin()
    left.rmdir()
    left.symlink_to(out.parent)
    assert_refused(out.parent, out)


def test_other_evaluations_stay(out):
    output = OutputFolder(out)
    for name in ("test.other.tsv", "test2.tsv", "metrics.json"):
        output.claim(name).write_text("whole")
    output = OutputFolder(out)
    output.start(["test", "log", "metrics"])
    for name in ("test", "log", "metrics"):
        output.finish(name, output.begin())
    for name in ("test.other.tsv", "test2.tsv", "metrics.json"):
        assert (out / name).read_text() == "whole"
    assert "log.txt" in output.marker.files and not (out / "test" / "a").exists()


@pytest.mark.parametrize(
    "names",
    [["a/b"], ["a\\b"], [".."], [""], [".inference.json"], ["log.txt"], ["metrics.json"]]
    + [["report_audio"], ["report.html"]]
    + [["test", "test.tsv"], ["test.png", "test"], ["test", "Test"]],
)
def test_bad_names(out, names):
    assert_refused(out.parent, out, names, ValueError, "evaluate_on: '")


def test_values_of_an_earlier_inference_go_before_its_tables(tmp_path):
    output = OutputFolder(tmp_path)
    output.start(["test"])
    for name in ("metrics.json", "evaluations.tsv"):
        output.claim(name).write_text("of the best checkpoint")
    system = SimpleNamespace(task=SimpleNamespace(sort_by="e", picture=lambda rows: None))
    parts = {"accelerator": None, "reporter": None, "evaluations": {}}
    second = Inferencer(system=system, output=output, config="checkpoint: last", **parts)
    second.finish("test", [], output.begin())  # killed after it
    assert (tmp_path / "test.yaml").read_text() == "checkpoint: last"
    assert not (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "evaluations.tsv").exists()


# Whole inferences ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment("asr_deepspeech2", corpus, folder, *SMALL, "debug=smoke"))
    return folder


@pytest.mark.parametrize("name", ["val/mine", "val.tsv", "metrics.json"])
def test_refused_inference_changes_nothing(run, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    options = [f"run={run}", "evaluate_on=[test,val]", f"output={tmp_path}"]
    with pytest.raises(FileExistsError, match="wasn't written by an inference"):
        infer(composed("inference_asr", *options))
    assert snapshot(tmp_path) == before


def test_inference_twice(run, tmp_path):
    options = [f"run={run}", f"output={tmp_path}", "+datasets.test.limit=2"]
    found = []
    for _ in range(2):
        infer(composed("inference_asr", *options))
        found.append(snapshot(tmp_path))
    assert found[0].keys() == found[1].keys()
    assert not [name for name in found[0] if "unfinished" in name]
