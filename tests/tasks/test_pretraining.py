import json

import numpy as np
import torch

from src.tasks.pretraining import PretrainingTask


class Images:
    def image(self, name, image, step):
        self.logged = name, image, step


def finished_batch(num_codebooks=2):
    draw = torch.Generator().manual_seed(0)
    masked = torch.rand(3, 12, generator=draw) < 0.5
    lengths = torch.tensor([8, 12, 1])
    masked &= torch.arange(12) < lengths[:, None]
    masked[2] = False
    tokens = torch.randint(0, 7, (3, num_codebooks, 12), generator=draw)
    return {
        "id": ["a", "b", "c"],
        "spectrogram": torch.randn(3, 16, 96, generator=draw),
        "spectrogram_length": 8 * lengths,
        "ssl_mask": masked.repeat_interleave(8, dim=1),
        "ssl_mask_length": 8 * lengths,
        "tokens": tokens,
        "tokens_length": lengths,
        "masked_tokens": masked,
        "logits": torch.randn(int(masked.sum()), 7, num_codebooks, generator=draw),
        "targets": tokens.transpose(1, 2)[masked],
    }


def test_rows_count_the_masked_tokens():
    batch = finished_batch()
    rows = PretrainingTask().postprocess(**batch)["rows"]
    assert rows == [{"masked": count} for count in batch["masked_tokens"].sum(1).tolist()]
    assert rows[2] == {"masked": 0}


def test_image_of_the_longest_utterance():
    writer = Images()
    PretrainingTask().show(writer, 7, "val", **finished_batch())
    name, image, step = writer.logged
    assert (name, step) == ("val/masked_tokens", 7)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10


def test_predictions_are_those_of_the_shown_utterance(monkeypatch):
    batch, shown = finished_batch(), {}

    def image(spectrogram, ssl_mask, tokens, masked, predictions):
        shown.update(locals())
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr("src.tasks.pretraining.masked_tokens_image", image)
    batch["logits"] = torch.nn.functional.one_hot(batch["targets"], 7).transpose(1, 2).float()
    PretrainingTask().show(Images(), 7, "val", **batch)
    assert torch.equal(shown["predictions"], shown["tokens"][shown["masked"]])
    assert shown["spectrogram"].shape == (16, 96) and shown["ssl_mask"].shape == (96,)


def test_tokens_are_written_by_name(tmp_path):
    batch = finished_batch()
    PretrainingTask().save(tmp_path, **batch)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json", "c.json"]
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["tokens"] == batch["tokens"][0, :, :8].tolist()
    assert content["masked"] == batch["masked_tokens"][0, :8].int().tolist()
