from src.datasets.manifest import write_manifest
from src.datasets.manifest_dataset import ManifestDataset
from tests.demo import sine


def test_paths_are_relative_to_the_manifest(tmp_path):
    sine(tmp_path / "audio" / "a.wav", 8000, 0.5)
    write_manifest(tmp_path / "m.jsonl", [{"audio_filepath": "audio/a.wav", "duration": 0.5}])
    dataset = ManifestDataset(str(tmp_path / "m.jsonl"), sample_rate=16000)
    assert len(dataset) == 1
    assert dataset[0]["path"] == str(tmp_path / "audio" / "a.wav")
    assert dataset[0]["audio"].shape == (8000,)
