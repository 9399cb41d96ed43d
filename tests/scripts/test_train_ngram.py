import json
import math
import subprocess
import sys

import pytest

from src.text_encoder.decoders.ngram import NgramModel


def run(*arguments):
    command = [sys.executable, "scripts/train_ngram.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_trains_on_manifest(tmp_path):
    texts = ["The cat sat.", "the cat sat!", None]
    rows = [{"audio_filepath": "a.wav", "duration": 1.0, "text": text} for text in texts]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(manifest, tmp_path / "lm.arpa", "--order", 2)
    assert done.returncode == 0, done.stderr
    model = NgramModel.from_arpa(tmp_path / "lm.arpa")
    # After "the": "cat" twice, one kind; single words: 8 in 4 kinds, over 5 with <unk>.
    single = (2 + 4 / 5) / (8 + 4)
    assert math.exp(model.log_prob("cat", ("the",))) == pytest.approx((2 + single) / 3, abs=1e-6)


def test_missing_manifest_prints_one_line(tmp_path):
    done = run(tmp_path / "none.jsonl", tmp_path / "lm.arpa")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("none.jsonl: no such manifest.")


def test_bad_arguments_print_one_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a", "duration": 1, "text": "hello"}')
    for arguments, message in (
        ((tmp_path, "x.arpa"), f"{tmp_path}: a folder, not a manifest."),
        ((tmp_path / "m.jsonl", tmp_path), f"{tmp_path}: a folder, not a file to write."),
        ((tmp_path / "m.jsonl", "x", "--order", 0), "--order: 0; a whole number from 1 to 100."),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (1, f"error: {message}\n")
