"""Each notebook from top to bottom, with a tiny corpus and few steps."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.demo import ROOT, sine

NOTEBOOKS = ROOT / "notebooks"
TINY_NEST = ["model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2"]


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def parameter_cell(notebook: Any) -> int:
    """Index of the cell with the parameters, which has the tag that papermill looks for."""
    tagged = [
        i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    return tagged[0]


def execute(name: str, folder: Path = NOTEBOOKS, **parameters: Any) -> tuple[str, list[str]]:
    """What a notebook prints, and the types of all else that it shows.

    Args:
        name: of the notebook.
        folder: that it is started in.
        parameters: set after the cell that holds their defaults.
    """
    notebook = read(name)
    place = parameter_cell(notebook)
    defaults: dict[str, Any] = {}
    exec(notebook.cells[place].source, defaults)
    assert parameters.keys() <= defaults.keys()
    lines = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    before = sorted(NOTEBOOKS.rglob("*"))
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    assert sorted(NOTEBOOKS.rglob("*")) == before
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    return "".join(output.get("text", "") for output in outputs), shown


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_has_no_outputs(path):
    notebook = read(path.stem)
    nbformat.validate(notebook)
    assert parameter_cell(notebook) == 1
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)


def test_explore_data(tmp_path):
    rows = []
    for i in range(4):
        path = sine(tmp_path / f"{i}.wav", 8000, 0.5 + i / 4)
        rows.append({"audio_filepath": path.name, "duration": 0.5 + i / 4, "text": f"word {i}"})
    rows[0]["speaker"] = "me"
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed, shown = execute("explore_data", manifest=str(manifest))
    assert "utterances  4" in printed and "5 different" in printed
    assert "4 of 4: .wav, 8000 Hz, 1 channels" in printed
    assert shown.count("image/png") == 7 and shown.count("text/html") == 4


def test_train_recogniser(corpus, tmp_path):
    printed, shown = execute(
        "train_recogniser",
        folder=ROOT,
        corpus=str(corpus),
        run=str(tmp_path / "run"),
        steps=3,
        overrides=["device=cpu", "model.hidden_size=32"],
        num_noisy=2,
    )
    assert "WER_beam" in printed and "Confusions of words" in printed
    assert shown.count("image/png") == 4 and shown.count("text/html") == 2


def test_pretrain_and_probe(corpus, tmp_path):
    printed, shown = execute(
        "pretrain_and_probe",
        corpus=str(corpus),
        run=str(tmp_path / "run"),
        steps=3,
        overrides=["device=cpu", *TINY_NEST, "dataloader.max_seconds=12"],
        num_utterances=16,
        probe_steps=2,
    )
    results = [line.split() for line in printed.splitlines() if "random weights" in line]
    assert len(results) == 2 and all(float(value) >= 0 for row in results for value in row[-3:])
    assert shown.count("image/png") == 3 and shown.count("text/html") == 1


def test_separate(corpus, tmp_path):
    printed, shown = execute(
        "separate",
        corpus=str(corpus),
        run=str(tmp_path / "run"),
        steps=3,
        overrides=["device=cpu", "model.d_model=16", "model.num_layers=1"],
        num_mixtures=2,
    )
    assert "unknown voices: mean" in printed
    assert shown.count("image/png") == 5 and shown.count("text/html") == 15
