import gzip
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
    # Discounts are 0.5, 1 and 1.5. Single words: 4 kinds, each after one other word, over 5 with
    # <unk>; after "the": "cat" twice, less 1.
    single = 0.5 / 4 + 0.5 / 5
    assert math.exp(model.log_prob("cat", ("the",))) == pytest.approx((1 + single) / 2, abs=1e-6)


@pytest.mark.parametrize("name", ["corpus.txt", "corpus.txt.gz"])
def test_trains_on_text(tmp_path, name):
    opener = gzip.open if name.endswith(".gz") else open
    with opener(tmp_path / name, "wt") as file:
        file.write("The cat sat.\n\nThe dog sat.\n")
    done = run(tmp_path / name, tmp_path / "lm.arpa", "--order", 5)
    assert done.returncode == 0, done.stderr
    assert "1-grams: too few for their own discounts; 0.5, 1 and 1.5 are used." in done.stderr
    model = NgramModel.from_arpa(tmp_path / "lm.arpa")
    assert model.order == 5
    assert ("<s>", "the", "dog", "sat", "</s>") in model.ngrams


def test_bad_text_prints_one_line(tmp_path):
    (tmp_path / "a.txt.gz").write_text("no gzip")
    done = run(tmp_path / "a.txt.gz", tmp_path / "lm.arpa")
    assert done.returncode == 1
    assert "a.txt.gz: not readable as a text (Not a gzipped file" in done.stderr
    assert not (tmp_path / "lm.arpa").exists()


def test_missing_manifest_prints_one_line(tmp_path):
    done = run(tmp_path / "none.jsonl", tmp_path / "lm.arpa")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("none.jsonl: no such manifest.")


def test_bad_arguments_print_one_line(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a", "duration": 1, "text": "hello"}')
    (tmp_path / "empty.jsonl").touch()
    for arguments, message in (
        ((tmp_path / "empty.jsonl", "x"), f"{tmp_path}/empty.jsonl: no texts to train on."),
        ((tmp_path, "x.arpa"), f"{tmp_path}: a folder, not a manifest."),
        ((tmp_path / "m.jsonl", tmp_path), f"{tmp_path}: a folder, not a file to write."),
        ((tmp_path / "m.jsonl", "x", "--order", 0), "--order: 0; a whole number from 1 to 100."),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stderr) == (1, f"error: {message}\n")
