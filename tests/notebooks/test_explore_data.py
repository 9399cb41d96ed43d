import json
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.demo import sine

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_data.ipynb"


def test_runs_on_any_manifest(tmp_path, monkeypatch):
    rows = []
    for i in range(4):
        path = sine(tmp_path / f"{i}.wav", 8000, 0.5 + i / 4)
        rows.append({"audio_filepath": path.name, "duration": 0.5 + i / 4, "text": f"word {i}"})
    rows[0]["speaker"] = "me"
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("MANIFEST", str(manifest))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "4 utterances" in printed and "5 different words" in printed
