import json

import numpy as np
import torch

from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from src.tasks.pretraining import PretrainingTask


class Pictures:
    def image(self, name, image, step):
        self.seen = name, image, step


def finished_batch(books=2):
    torch.manual_seed(0)
    encoder = ConformerEncoder(n_features=16, layers=1, width=8, heads=2, subsampling_channels=2)
    model = NEST(encoder, BlockMask(16, 0.05), 12, books).eval()
    batch = {
        "id": ["a", "b", "c"],
        "spectrogram": torch.randn(3, 16, 96),
        "spectrogram_length": torch.tensor([60, 96, 3]),
        "seed": torch.tensor([1, 2, 3]),
    }
    with torch.no_grad():
        return batch | model(**batch)


def test_a_row_for_each_utterance():
    batch = finished_batch()
    rows = PretrainingTask().postprocess(**batch)["rows"]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [row["masked"] for row in rows] == batch["masked_tokens"].sum(1).tolist()
    hits = (batch["logits"].argmax(1) == batch["targets"]).float()
    weighted = sum(row["accuracy"] * row["masked"] for row in rows) / len(hits)
    assert abs(weighted - float(hits.mean())) < 1e-3
    assert rows[2] == {"id": "c", "masked": 0, "accuracy": 0.0, "loss": 0.0}


def test_a_picture_of_the_longest_utterance():
    pictures = Pictures()
    PretrainingTask().log_batch(pictures, 7, "val", **finished_batch())
    name, image, step = pictures.seen
    assert (name, step) == ("val/masked_tokens", 7)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10


def test_tokens_are_written_by_name(tmp_path):
    batch = finished_batch()
    PretrainingTask().save_batch(tmp_path, **batch)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]
    content = json.loads((tmp_path / "a.json").read_text())
    assert np.array(content["tokens"]).shape == (2, 8) and len(content["masked"]) == 8
