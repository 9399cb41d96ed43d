import json
import math
import subprocess
import sys

import pytest

from src.text_encoder.decoders.ngram import NgramModel


def run(*arguments):
    command = [sys.executable, "scripts/train_ngram.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_learns_from_a_manifest(tmp_path):
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


def test_missing_manifest_is_one_sentence(tmp_path):
    done = run(tmp_path / "none.jsonl", tmp_path / "lm.arpa")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("none.jsonl: no such manifest.")
