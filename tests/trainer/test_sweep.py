"""train.py -m: a run folder for each job, one table, and jobs that fail."""

import csv

from tests.demo import SMALL, run_script


def test_sweep(corpus, tmp_path):
    options = [f"datasets.train.folder={corpus}", f"runs={tmp_path}", *SMALL, "device=cpu"]
    options += ["debug=smoke", "writer=nothing", "threads=1", "optimizer.lr=1e-3,-1,2e-3"]
    done = run_script("../train", "-m", *options, code=1)
    assert done.stderr.count("error: ") == 1 and "optimizer" in done.stderr
    (sweep,) = (tmp_path / "asr_deepspeech2").iterdir()
    with (sweep / "sweep.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["run"] for row in rows] == [str(sweep / str(number)) for number in range(3)]
    assert [row["optimizer.lr"] for row in rows] == ["0.001", "-1", "0.002"]
    assert [bool(row["val/WER"]) for row in rows] == [True, False, True]
    assert (sweep / "2" / "last" / "model.safetensors").exists()
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("job "))
    assert "val/WER" in lines[header] and "failed" in lines[header + 2]
