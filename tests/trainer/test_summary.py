"""Tables of the values of several evaluations."""

from src.trainer.summary import summary, write_results

VALUES = {"test/loss": 1.5, "test/WER": 0.25, "val/WER": 0.125}


def test_summary():
    assert [line.split() for line in summary(VALUES).splitlines()] == [
        ["test", "val"],
        ["loss", "1.5"],
        ["WER", "0.25", "0.125"],
    ]


def test_file(tmp_path):
    write_results(tmp_path / "metrics.tsv", VALUES)
    lines = (tmp_path / "metrics.tsv").read_text().splitlines()
    assert lines == ["evaluation\tloss\tWER", "test\t1.5\t0.25", "val\t\t0.125"]
