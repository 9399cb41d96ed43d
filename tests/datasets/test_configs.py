"""The groups of datasets, composed with the least that they refer to."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from src.datasets.demo.corpus import DemoSpeech
from tests.demo import CONFIGS


def composed(folder, defaults, *overrides):
    """A config that starts with `noise: null`, as every experiment's does."""
    (folder / "start.yaml").write_text("noise: null\nmodel: {speakers: 2, num_speakers: 2}\n")
    (folder / "mine.yaml").write_text(f"defaults: [start, {{datasets: {defaults}}}, _self_]\n")
    path = f"hydra.searchpath=[file://{CONFIGS}]"
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("mine", overrides=[path, *overrides])


@pytest.mark.parametrize("group", ["demo", "demo_mixtures"])
def test_noise_of_the_demo_datasets(tmp_path, group):
    config = composed(tmp_path, group)
    assert config.noise == "data/demo_speech/noise.jsonl"
    config = composed(tmp_path, group, "datasets.train.folder=X")
    assert (config.noise, config.datasets.test.folder) == ("X/noise.jsonl", "X")
    assert composed(tmp_path, group, "noise=null").noise is None


def test_other_datasets_have_no_noise(tmp_path):
    config = composed(tmp_path, "demo", "datasets=manifest", "datasets.train.manifest=m.jsonl")
    assert config.noise is None
    assert list(config.datasets) == ["train", "val", "test"]
    config = composed(tmp_path, "manifest", "datasets=demo", "datasets.train.folder=X")
    assert config.noise == "X/noise.jsonl"


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "datasets").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_group_has_datasets_of_known_classes(tmp_path, path):
    config = composed(tmp_path, path.stem)
    for dataset in config.datasets.values():
        assert dataset._target_.startswith("src.datasets.")


def test_a_dataset_of_the_group(tmp_path, corpus):
    config = composed(tmp_path, "demo", f"datasets.train.folder={corpus}")
    assert isinstance(instantiate(config.datasets.val), DemoSpeech)
