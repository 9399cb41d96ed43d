import logging

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from src.datasets.base_dataset import BaseDataset
from src.datasets.collate import collate
from src.datasets.manifest import Manifest
from src.datasets.samplers import BatchStream, DurationBatchSampler
from src.text_encoder.characters import CharacterEncoder
from src.transforms.chain import Chain
from src.transforms.wave.noise import AddNoise
from src.utils.entry import run_command
from tests.demo import sine

TEXTS = ["hello", "a", None, "to and fro", "aaaa"]


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for i, text in enumerate(TEXTS):
        path = sine(tmp_path / f"{i}.wav", 8000, 1 + i / 2)
        row = {"audio_filepath": path.name, "duration": 1 + i / 2, "speaker": f"s{i}"}
        rows.append(row | ({"text": text} if text is not None else {}))
    return Manifest.from_rows(rows, tmp_path / "m.jsonl")


def test_item(manifest):
    item = BaseDataset(manifest, text_encoder=CharacterEncoder())[0]
    assert item["id"] == "0"
    assert item["audio"].shape == (16000,)
    assert item["text"] == "hello"
    assert item["tokens"].tolist() == [10, 7, 14, 14, 17]
    assert item["speaker"] == "s0"


def test_without_text(manifest):
    dataset = BaseDataset(manifest)
    assert dataset.has_targets
    assert "tokens" not in dataset[0]
    assert not BaseDataset(manifest, text_encoder=CharacterEncoder()).has_targets


def test_random_state_follows_seed_epoch_and_index(manifest):
    def item(seed, key):
        noisy = Chain({"noise": AddNoise()})
        return BaseDataset(manifest, instance_transforms=noisy, seed=seed)[key]["audio"]

    assert torch.equal(item(1, (3, 2)), item(1, (3, 2)))
    assert torch.equal(item(1, 2), item(1, (0, 2)))
    assert not torch.equal(item(1, (3, 2)), item(1, (4, 2)))
    assert not torch.equal(item(1, (3, 2)), item(2, (3, 2)))


@pytest.mark.parametrize("workers", [0, 2])
def test_same_batches_with_any_number_of_workers(manifest, workers):
    dataset = BaseDataset(manifest, instance_transforms=Chain({"noise": AddNoise()}), seed=5)
    stream = BatchStream(DurationBatchSampler(dataset.durations, 5.0, seed=5))
    loader = DataLoader(dataset, batch_sampler=stream, collate_fn=collate, num_workers=workers)
    batches = iter(loader)
    found = [next(batches) for _ in range(6)]
    keys = iter(stream)
    for batch in found:
        wanted = collate([dataset[key] for key in next(keys)])
        assert batch["id"] == wanted["id"]
        assert torch.equal(batch["audio"], wanted["audio"])


def test_filters_say_what_they_drop(manifest, caplog):
    caplog.set_level(logging.INFO)
    options = {"min_duration": 1.2, "max_duration": 2.6, "max_text_length": 3}
    dataset = BaseDataset(manifest, **options)
    assert [row.text for row in dataset.manifest] == ["a", None]
    assert "dropped 1 of 5 rows, 0.000 h: shorter than 1.2 s" in caplog.text
    assert "longer than 2.6 s" in caplog.text
    assert "dropped 1 of 5 rows, 0.001 h: text longer than 3 characters" in caplog.text


def test_filter_for_ctc_counts_repeats(manifest):
    """`aaaa` needs 4 + 3 frames; three seconds give that many at 7 / 3 frames a second."""

    def frames(rate):
        return lambda samples: (samples * rate / 16000).astype(np.int64)

    encoder = CharacterEncoder()
    for rate, kept in ((7.01 / 3, True), (6.5 / 3, False)):
        found = BaseDataset(manifest, text_encoder=encoder, count_frames=frames(rate))
        assert ("aaaa" in [row.text for row in found.manifest]) == kept


def test_limit(manifest):
    assert [row.text for row in BaseDataset(manifest, limit=2).manifest] == ["hello", "a"]
    assert len(BaseDataset(manifest, limit=100)) == 5


def test_ids_are_unique_and_safe(tmp_path):
    paths = ["a/x.wav", "b/x.flac", "c d/y:1.wav", "c d/y?1.wav", "z.1.wav", "long.wav"]
    rows = [{"audio_filepath": path, "duration": 1.0} for path in [*paths, "long.wav"]]
    rows[-1]["offset"] = 7.5
    dataset = BaseDataset(Manifest.from_rows(rows, tmp_path / "m"), min_duration=1)
    ids = [dataset.item_id(row, i) for i, row in enumerate(dataset.manifest)]
    assert ids == ["x@1", "x@2", "y_1@3", "y_1@4", "z.1", "long@6", "long@7"]
    limited = BaseDataset(Manifest.from_rows(rows, tmp_path / "m"), limit=1)
    assert limited.item_id(limited.manifest[0], 0) == "x@1"  # whatever else is left out


def test_part_of_a_file(tmp_path):
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "a.wav", time, 16000, subtype="FLOAT")
    row = {"audio_filepath": "a.wav", "duration": 0.25, "offset": 0.5}
    audio = BaseDataset(Manifest.from_rows([row], tmp_path / "m"))[0]["audio"]
    np.testing.assert_allclose(audio.numpy(), time[8000:12000], atol=1e-7)


def test_nothing_left(manifest):
    with pytest.raises(ValueError, match="no utterances left of 5"):
        BaseDataset(manifest, min_duration=100)


def test_broken_file_stops_or_is_counted(manifest, tmp_path):
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: .*1.wav: not readable"):
        BaseDataset(manifest)[1]
    dataset = BaseDataset(manifest, on_error="skip")
    batch = collate([dataset[0], dataset[1], dataset[2]])
    assert batch["id"] == ["0", "2"]
    assert batch["skipped"] == 1 and "1.wav" in batch["errors"][0]


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_file_is_one_sentence_from_a_worker(manifest, tmp_path, workers, capsys):
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    loader = DataLoader(
        BaseDataset(manifest), batch_size=5, collate_fn=collate, num_workers=workers
    )
    with pytest.raises(SystemExit):
        run_command(lambda: list(loader))
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / 'm.jsonl'}, line 2: {tmp_path / '1.wav'}: not")
    assert message.count("\n") == 1


def test_truncated_file_is_a_broken_one(manifest, tmp_path):
    sine(tmp_path / "4.wav", 8000, 2.0)
    with pytest.raises(ValueError, match=r"4.wav: 2.00 s from second 0 on, wanted 3.00"):
        BaseDataset(manifest)[4]


def test_bad_option(manifest):
    with pytest.raises(ValueError, match="on_error 'ignore' is neither raise nor skip"):
        BaseDataset(manifest, on_error="ignore")


def test_unknown_character_is_named(tmp_path):
    path = sine(tmp_path / "a.wav")
    row = {"audio_filepath": str(path), "duration": 1.0, "text": "привет"}
    dataset = BaseDataset(
        Manifest.from_rows([row], tmp_path / "m"), text_encoder=CharacterEncoder()
    )
    with pytest.raises(ValueError, match="'п' is not in the vocabulary"):
        dataset[0]
