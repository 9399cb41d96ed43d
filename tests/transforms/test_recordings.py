import json

import numpy as np
import pytest
import soundfile
import torch

from src.transforms.wave import recordings
from src.transforms.wave.noise import AddNoise
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
