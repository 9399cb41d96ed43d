import logging
import os

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from src.datasets.base_dataset import BaseDataset
from src.datasets.loading.collate import collate
from src.datasets.loading.loaders import EvaluationLoader, LoaderOptions
from src.datasets.loading.train import TrainLoader
from src.datasets.manifest import Manifest
from src.transforms.chain import Chain
from src.transforms.wave.noise import AddWhiteNoise
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
    dataset = BaseDataset(manifest)
    item = dataset[0]
    assert list(item) == ["id", "path", "seed", "audio", "speaker"]
    assert (item["id"], item["speaker"]) == ("0", "s0")
    assert item["audio"].shape == (16000,)
    assert dataset.has_targets


def test_randomness_depends_on_seed_epoch_and_index(manifest):
    def item(seed, key):
        noisy = Chain({"noise": AddWhiteNoise()})
        return BaseDataset(manifest, instance_transforms=noisy, seed=seed)[key]["audio"]

    assert torch.equal(item(1, (3, 2)), item(1, (3, 2)))
    assert torch.equal(item(1, 2), item(1, (0, 2)))
    assert not torch.equal(item(1, (3, 2)), item(1, (4, 2)))
    assert not torch.equal(item(1, (3, 2)), item(2, (3, 2)))


def test_filters_log_dropped_rows(manifest, caplog):
    caplog.set_level(logging.INFO)
    dataset = BaseDataset(manifest, min_duration=1.2, max_duration=2.6)
    assert [row.text for row in dataset.manifest] == ["a", None, "to and fro"]
    assert "dropped 1 of 5 rows, 0.000 h: shorter than 1.2 s" in caplog.text
    assert "dropped 1 of 5 rows, 0.001 h: longer than 2.6 s" in caplog.text


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


def test_no_rows_left_raises(manifest):
    with pytest.raises(ValueError, match="no utterances left of 5"):
        BaseDataset(manifest, min_duration=100)


def test_unreadable_file_raises_or_is_skipped(manifest, tmp_path):
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: .*1.wav: not readable"):
        BaseDataset(manifest)[1]
    dataset = BaseDataset(manifest, on_error="skip")
    batch = collate([dataset[0], dataset[1], dataset[2]])
    assert batch["id"] == ["0", "2"]
    assert batch["skipped"] == 1 and "1.wav" in batch["errors"][0]


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_file_in_a_worker(manifest, tmp_path, workers, capsys):
    (tmp_path / "1.wav").write_bytes(b"RIFF")
    loader = DataLoader(
        BaseDataset(manifest), batch_size=5, collate_fn=collate, num_workers=workers
    )
    with pytest.raises(SystemExit):
        run_command(lambda: list(loader))
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path / 'm.jsonl'}, line 2: {tmp_path / '1.wav'}: not")
    assert message.count("\n") == 1


def test_truncated_file_is_unreadable(manifest, tmp_path):
    sine(tmp_path / "4.wav", 8000, 2.0)
    with pytest.raises(ValueError, match=r"4.wav: 2.00 s from second 0 on, wanted 3.00"):
        BaseDataset(manifest)[4]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("on_error", "ignore", "raise or skip"),
        ("limit", 0, "a whole number above 0, or null"),
        ("limit", -1, "a whole number above 0, or null"),
        ("limit", 1.5, "a whole number above 0, or null"),
        ("minutes", -1, "a number above 0, or null"),
        ("minutes", "abc", "a number above 0, or null"),
        ("minutes", 1e9, "a number up to 0.2"),
        ("min_duration", "abc", "a number from 0 on, or null"),
        ("max_duration", 0, "a number above 0, or null"),
        ("same_epochs", "abc", "true or false"),
    ],
)
def test_bad_options(manifest, key, value, allowed):
    with pytest.raises(ValueError) as error:
        BaseDataset(manifest, **{key: value})
    shown = "1e+09" if value == 1e9 else repr(value)
    assert str(error.value) == f"{key}: {shown}; {allowed}."


@pytest.mark.parametrize("workers", [0, 1])
def test_fifo_raises_or_is_skipped(manifest, tmp_path, workers):
    (tmp_path / "1.wav").unlink()
    os.mkfifo(tmp_path / "1.wav")
    options = LoaderOptions(max_seconds=100, num_workers=workers)
    with pytest.raises(ValueError, match=r"1.wav: a FIFO, not an audio file"):
        list(EvaluationLoader(BaseDataset(manifest), options))
    (batch,) = EvaluationLoader(BaseDataset(manifest, on_error="skip"), options)
    assert batch["skipped"] == 1 and len(batch["id"]) == 4


def test_batch_of_unreadable_files(manifest, tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.wav").write_bytes(b"RIFF")
    dataset = BaseDataset(manifest, on_error="skip")
    for loader in (EvaluationLoader, TrainLoader):
        batch = next(iter(loader(dataset, LoaderOptions(max_seconds=100))))
        assert (batch["id"], batch["skipped"], len(batch["errors"])) == ([], 5, 5)


@pytest.mark.parametrize("name", ["x" * 5000 + ".wav", "nul\0.wav"])
def test_impossible_paths(tmp_path, name):
    manifest = Manifest.from_rows([{"audio_filepath": name, "duration": 1.0}], tmp_path / "m")
    with pytest.raises(ValueError, match=r"m, line 1: .*no audio file") as error:
        BaseDataset(manifest)[0]
    assert len(str(error.value)) < 300
    assert "no audio file" in BaseDataset(manifest, on_error="skip")[0]["error"]


def test_non_finite_samples(manifest, tmp_path):
    soundfile.write(tmp_path / "0.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"line 1: .*0.wav: has samples that are not finite"):
        BaseDataset(manifest)[0]
