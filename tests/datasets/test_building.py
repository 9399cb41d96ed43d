"""Datasets that evaluations describe themselves."""

import pytest
from omegaconf import OmegaConf

from src.config import inference_config
from src.datasets.building import name_datasets

MANIFEST = {"_target_": "src.datasets.manifest_dataset.ManifestDataset", "manifest": "test.jsonl"}


def named(evaluations, **datasets):
    config = OmegaConf.create({"evaluations": evaluations, "datasets": datasets})
    name_datasets(config)
    return OmegaConf.to_container(config)


def test_manifests_are_read_as_the_test_set_is():
    config = named({"a": {"dataset": "a.jsonl"}}, test=MANIFEST | {"limit": 2})
    assert config["datasets"]["a"] == MANIFEST | {"limit": 2, "manifest": "a.jsonl"}
    assert config["evaluations"]["a"]["dataset"] == "a"
    demo = {"_target_": "src.datasets.demo.corpus.DemoSpeech", "split": "test"}
    assert named({"a": {"dataset": "a.jsonl"}}, test=demo)["datasets"]["a"] == MANIFEST | {
        "manifest": "a.jsonl"
    }
    mixtures = {
        "_target_": "src.datasets.demo.corpus.DemoMixtures",
        "split": "test",
        "num_speakers": 3,
    }
    assert named({"a": {"dataset": "a.jsonl"}}, test=mixtures)["datasets"]["a"] == {
        "_target_": "src.datasets.mixtures.dynamic.DynamicMixtures",
        "num_speakers": 3,
        "manifest": "a.jsonl",
    }
    assert named({"a": {"dataset": "a.jsonl"}})["datasets"]["a"]["manifest"] == "a.jsonl"


def test_names_and_mappings():
    config = named({"a": {"dataset": "test"}, "b": {"dataset": MANIFEST}, "c": None}, test=MANIFEST)
    assert config["evaluations"] == {"a": {"dataset": "test"}, "b": {"dataset": "b"}, "c": None}
    assert config["datasets"] == {"test": MANIFEST, "b": MANIFEST}


def test_names_that_are_taken_and_datasets_without_manifests():
    with pytest.raises(ValueError, match="evaluations.test.dataset: there is a dataset 'test'"):
        named({"test": {"dataset": "a.jsonl"}}, test=MANIFEST)
    folder = {"_target_": "src.datasets.mixtures.folders.MixtureFolder", "dir": "a"}
    with pytest.raises(ValueError, match="MixtureFolder reads no manifest; give a mapping"):
        named({"a": {"dataset": "a.jsonl"}}, test=folder)
    with pytest.raises(ValueError, match="config, evaluations.a.dataset"):
        named({"a": {"dataset": {"limit": 2}}}, test=MANIFEST)


def test_datasets_of_an_inference_replace_those_of_the_same_name():
    run = OmegaConf.create({"datasets": {"test": MANIFEST, "val": MANIFEST}})
    other = {"_target_": "src.datasets.custom_dir.CustomDir", "dir": "a"}
    changes = OmegaConf.create({"datasets": {"test": other, "new": MANIFEST, "val": {"limit": 1}}})
    merged = OmegaConf.to_container(inference_config(run, changes))
    assert merged["datasets"] == {"test": other, "new": MANIFEST, "val": MANIFEST | {"limit": 1}}


def test_datasets_of_an_inference_are_those_of_the_evaluations_of_their_names():
    evaluations = {name: {"dataset": "train", "metrics": {}} for name in ("test", "val", "new")}
    run = OmegaConf.create({"datasets": {"train": MANIFEST}, "evaluations": evaluations})
    given = {"datasets": {"test": MANIFEST, "val": {"limit": 1}, "new": MANIFEST}}
    given["evaluations"] = {"new": {"dataset": "val"}}
    merged = inference_config(run, OmegaConf.create(given)).evaluations
    assert merged.test == {"metrics": {}}
    assert merged.val.dataset == "train" and merged.new.dataset == "val"
