import json

import numpy as np
import pytest
import soundfile
import torch

from src.transforms.wave import recordings
from src.transforms.wave.noise import AddNoise
from src.transforms.wave.noisy_speech import NoisySpeech
from src.transforms.wave.recordings import Recordings
from src.transforms.wave.room import RoomResponse


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("a", 800), ("b", 4000)):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, size), 16000)
    return tmp_path


def test_excerpts_are_repeated_and_in_bounds(folder):
    kept = Recordings(folder, 16000)
    assert kept.lengths == [800, 4000]
    first = kept.whole(0)
    assert torch.equal(kept.excerpt(0, 0.5, 1000), torch.cat([first, first])[400:1400])
    assert torch.equal(kept.excerpt(1, 0.25, 1000), kept.whole(1)[1000:2000])


def test_large_collections_are_read_in_parts(folder, monkeypatch):
    monkeypatch.setattr(recordings, "KEPT", 1000)
    large = Recordings(folder, 16000)
    assert large.kept is None
    whole = large.whole(1)
    assert torch.equal(large.excerpt(1, 0.25, 1000), whole[1000:2000])
    assert torch.equal(large.excerpt(1, 0.99, 1000), whole[3000:])  # the last one that fits
    assert len(large.excerpt(1, 0.5, 9000)) == 9000


@pytest.mark.parametrize("most", [1000, recordings.KEPT])
def test_rows_may_be_parts_of_files(folder, monkeypatch, most):
    monkeypatch.setattr(recordings, "KEPT", most)
    rows = [
        {"audio_filepath": "b.wav", "offset": 0.05, "duration": 0.1},
        {"audio_filepath": "b.wav", "offset": 0.2, "duration": None},
    ]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, parts = Recordings(folder, 16000).whole(1), Recordings(folder / "list.jsonl", 16000)
    assert parts.lengths == [1600, 800]
    assert torch.equal(parts.whole(0), whole[800:2400])
    assert torch.equal(parts.whole(1), whole[3200:])
    assert torch.equal(parts.excerpt(0, 0.5, 400), whole[1600:2000])
    pool = NoisySpeech(str(folder / "list.jsonl")).load_noise(torch.device("cpu"))
    assert torch.equal(pool, torch.cat([whole[800:2400], whole[3200:]]))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"offset": "1"}, "list.jsonl, row 1: offset: '1'; a number from 0"),
        ({"duration": 0}, "list.jsonl, row 1: duration: 0; a number above 0"),
        ({"offset": 0.25}, "b.wav: no samples from second 0.25 on"),
        ({"duration": 9}, "b.wav: 0.25 s from second 0 on, wanted 9.00"),
    ],
)
def test_bad_parts_of_files(folder, part, message):
    row = {"audio_filepath": "b.wav"} | part
    (folder / "list.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=message):
        Recordings(folder / "list.jsonl", 16000).check()


def test_transforms_take_folders_and_manifests(folder):
    rows = [{"audio_filepath": f"{name}.wav"} for name in ("a", "b")]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch = {
        "audio": torch.sin(torch.arange(3000.0))[None],
        "audio_length": torch.tensor([3000]),
        "seed": torch.tensor([5]),
    }
    for kind in (AddNoise, RoomResponse):
        by_folder = kind(str(folder))(**batch)["audio"]
        assert not torch.equal(by_folder, batch["audio"])
        assert torch.equal(by_folder, kind(str(folder / "list.jsonl"))(**batch)["audio"])
