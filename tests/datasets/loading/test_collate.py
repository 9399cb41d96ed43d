import torch

from src.datasets.loading.collate import collate


def test_pads_last_axis_and_adds_lengths():
    items = [
        {
            "id": "a",
            "seed": 2**62,
            "audio": torch.ones(3),
            "sources": torch.ones(2, 3),
            "text": "x",
        },
        {"id": "b", "seed": 1, "audio": torch.ones(1), "sources": torch.ones(2, 1)},
    ]
    batch = collate(items)
    assert batch["audio"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["sources"].shape == (2, 2, 3)
    assert batch["audio_length"].tolist() == batch["sources_length"].tolist() == [3, 1]
    assert batch["audio_length"].dtype == torch.int64
    assert batch["seed"].tolist() == [2**62, 1]
    assert (batch["id"], batch["skipped"]) == (["a", "b"], 0)


def test_only_errors():
    batch = collate([{"error": "a.wav: broken"}])
    assert batch == {"id": [], "skipped": 1, "errors": ["a.wav: broken"]}


def test_keys_of_some_items_are_dropped():
    batch = collate([{"id": "a", "text": "x"}, {"id": "b"}])
    assert "text" not in batch
