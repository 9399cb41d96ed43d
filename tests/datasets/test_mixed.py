import json
import logging
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from src.datasets.base_dataset import BaseDataset
from src.datasets.building import build_dataset
from src.datasets.loading.loaders import EvaluationLoader, LoaderOptions
from src.datasets.loading.train import TrainLoader
from src.datasets.manifest import Manifest
from src.datasets.mixed import MixedDataset
from src.datasets.recognition import RecognitionDataset
from src.text_encoder.characters import CharacterEncoder
from src.transforms.chain import Chain
from src.transforms.wave.noise import AddWhiteNoise
from src.utils.checkpoint import read_tensors
from tests.demo import SMALL, composed, sine
from train import train

OPTIONS = LoaderOptions(max_seconds=30)


class Corpus:
    """Items that tell in which epoch they were asked for."""

    def __init__(self, durations, has_targets=True):
        self.durations, self.has_targets = np.array(durations, float), has_targets

    def __len__(self):
        return len(self.durations)

    def __getitem__(self, key):
        epoch, index = key
        return {"id": str(index), "epoch": epoch, "audio": torch.ones(index + 1)}


DRAW = np.random.default_rng(0)
LARGE, SMALLER = Corpus(DRAW.uniform(1, 9, 400)), Corpus(DRAW.uniform(1, 4, 50))


def mixed(weights=(1, 1), **options):
    names = dict(zip(("large", "small"), weights, strict=True))
    return MixedDataset({"large": LARGE, "small": SMALLER}, names, **options)


def seconds_of(dataset, keys):
    """Seconds of each corpus."""
    total = Counter()
    for key in keys:
        index = key % len(dataset)
        total["large" if index < 400 else "small"] += dataset.durations[index]
    return total


@pytest.mark.parametrize(
    ("weights", "fraction"), [((1, 1), 0.5), ((3, 1), 0.75), ((0.1, 0.9), 0.1)]
)
def test_fractions_of_epochs_and_batches(weights, fraction):
    dataset = mixed(weights)
    for epoch in range(3):
        parts = seconds_of(dataset, dataset.draw(epoch))
        assert parts.total() == pytest.approx(dataset.durations.sum(), rel=0.1)
        assert parts["large"] / parts.total() == pytest.approx(fraction, abs=0.05)
    loader = TrainLoader(dataset, OPTIONS)
    fractions = []
    for batch in loader.sampler.batches(0):
        parts = seconds_of(dataset, batch)
        assert len(batch) * max(dataset.durations[i % len(dataset)] for i in batch) <= 30
        fractions.append(parts["large"] / parts.total())
    assert np.mean(fractions) == pytest.approx(fraction, abs=0.05)
    assert loader.padding_fraction() < 0.15


def test_natural_weights_draw_each_utterance_once_in_an_epoch():
    dataset = mixed((LARGE.durations.sum(), SMALLER.durations.sum()))
    for epoch in range(2):
        assert sorted(dataset.draw(epoch)) == list(range(450))
    assert dataset[1, 3]["epoch"] == 1
    assert not np.array_equal(dataset.draw(0), dataset.draw(1))


def test_every_utterance_is_drawn_before_any_is_again():
    dataset = mixed((2, 1), hours=0.1)
    drawn = np.concatenate([dataset.draw(epoch) for epoch in range(20)]) % len(dataset)
    for first, size in ((0, 400), (400, 50)):
        own = drawn[(drawn >= first) & (drawn < first + size)]
        for start in range(0, len(own) - size, size):
            assert len(set(own[start : start + size])) == size


def test_repetitions_have_other_ids_and_epochs():
    dataset = mixed((1, 1))
    seen = Counter()
    for epoch in range(3):
        items = [dataset[epoch, index] for index in dataset.draw(epoch)]
        assert len({item["id"] for item in items}) == len(items)
        seen.update((item["id"].partition("~")[0], item["epoch"]) for item in items)
    assert max(seen.values()) == 1  # never the same utterance with the same random numbers
    assert {name.partition(".")[0] for name, _ in seen} == {"large", "small"}
    assert dataset[0, 450 + 401]["id"] == "small.1~1"


def test_evaluation_reads_each_utterance_once():
    names = [name for batch in EvaluationLoader(mixed(), OPTIONS) for name in batch["id"]]
    assert len(names) == len(set(names)) == len(mixed()) == 450


def ids(loader, count):
    return [batch["id"] for batch in islice(loader, count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_from_any_position(workers):
    options = LoaderOptions(max_seconds=30, num_workers=workers)

    def make():
        return TrainLoader(mixed((1, 2)), options, seed=3)

    loader = make()
    steps = loader.steps(0)
    wanted = ids(loader, steps + 8)
    loader.close()
    for taken in (0, 5, steps, steps + 3):
        resumed = make()
        resumed.load_state_dict(
            {"epoch": taken // steps, "batches": taken % steps, "batches_in_step": 1}
        )
        assert ids(resumed, 5) == wanted[taken : taken + 5]
        resumed.close()


def test_limit_and_same_epochs():
    dataset = mixed(limit=4, same_epochs=True)
    assert len(dataset) == 8
    assert np.array_equal(dataset.draw(0), dataset.draw(3))
    assert dataset[3, 1]["epoch"] == 0


def test_hours_and_fractions_are_logged(caplog):
    caplog.set_level(logging.INFO)
    corpora = {"a": Corpus([3600.0] * 3), "b": Corpus([1800.0] * 2), "c": Corpus([1.0])}
    MixedDataset(corpora, {"a": 1, "b": 3, "c": None}, hours=4)
    assert [record.getMessage() for record in caplog.records] == [
        "corpus a: 3.000 h, 3 utterances; 25.0 % of an epoch: 1.000 h, each utterance 0.33 times",
        "corpus b: 1.000 h, 2 utterances; 75.0 % of an epoch: 3.000 h, each utterance 3.00 times",
    ]


@pytest.fixture
def manifests(tmp_path):
    """Two manifests whose recordings have the same names."""
    for name in ("a", "b"):
        rows = []
        for i in range(3):
            path = sine(tmp_path / name / f"{i}.wav", 8000, 1 + i / 2)
            rows.append({"audio_filepath": path.name, "duration": 1 + i / 2, "text": "one"})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / name / "m.jsonl").write_text(text)
    return tmp_path


def test_items_of_recognition_and_without_texts(manifests):
    def corpus(name, **options):
        return RecognitionDataset(Manifest(manifests / name / "m.jsonl"), **options)

    noisy = {"instance_transforms": Chain({"noise": AddWhiteNoise()})}
    for options in ({"text_encoder": CharacterEncoder()}, {}):
        both = {
            name: corpus(name, seed=number, **noisy, **options) for number, name in enumerate("ab")
        }
        dataset = MixedDataset(both, {"a": 1, "b": 1})
        items = [dataset[i] for i in range(6)]
        assert [item["id"] for item in items] == ["a.0", "a.1", "a.2", "b.0", "b.1", "b.2"]
        assert ("tokens" in items[0]) == bool(options) and dataset.has_targets
        assert not torch.equal(items[0]["audio"], items[3]["audio"])
        assert not torch.equal(dataset[0, 1]["audio"], dataset[0, 1 + 6]["audio"])


def test_unreadable_files_are_skipped(manifests):
    (manifests / "b" / "0.wav").write_bytes(b"RIFF")
    corpora = {n: BaseDataset(Manifest(manifests / n / "m.jsonl"), on_error="skip") for n in "ab"}
    dataset = MixedDataset(corpora, {"a": 1, "b": 1})
    assert list(dataset[3]) == ["error"]


class Endless:
    def iterate(self, epoch):
        yield {}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights: no corpus; a weight above 0 for each, e.g. {demo: 1, own: 2}."),
        ({"a": None}, "weights: no corpus; a weight above 0 for each, e.g. {demo: 1, own: 2}."),
        ({"a": 0}, "weights.a: 0; a number above 0, or null."),
        ({"a": 1, "b": -1}, "weights.b: -1; a number above 0, or null."),
        ({"a": "much"}, "weights.a: 'much'; a number above 0, or null."),
        ({"a b": 1}, "weights: 'a b'; names of letters, digits, '_' and '-'."),
        ({"a": 1, "b": 1}, "weights: 'b' has no targets, but 'a' has; all or none."),
        ({"a": 1, "endless": 1}, "weights.endless: Endless has no length; it can't be mixed."),
    ],
)
def test_bad_weights(weights, message):
    corpora = {"a": Corpus([1.0]), "b": Corpus([1.0], has_targets=False), "endless": Endless()}
    with pytest.raises(ValueError) as error:
        MixedDataset(corpora, weights)
    assert str(error.value) == message


def node(manifests, **weights):
    kind = "src.datasets.manifest_dataset.ManifestDataset"
    own = {n: {"_target_": kind, "manifest": str(manifests / n / "m.jsonl")} for n in "ab"}
    train_set = {"_target_": "src.datasets.mixed.MixedDataset", "weights": weights}
    return OmegaConf.create({"datasets": {"train": train_set, "other": train_set, **own}})


def test_built_of_the_config(manifests):
    dataset = build_dataset(node(manifests, a=1, b=1), "train", seed=3, sample_rate=8000)
    assert [corpus.sample_rate for corpus in dataset.corpora] == [8000, 8000]
    assert len({dataset.seed, *(corpus.seed for corpus in dataset.corpora)}) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0}, "config, datasets.train.weights.a: 0; a number above 0, or null."),
        (
            {},
            "config, datasets.train.weights: no corpus; a weight above 0 for each, "
            "e.g. {demo: 1, own: 2}.",
        ),
        ({"c": 1}, "config, datasets.train.weights: no 'c', only train, other, a, b."),
        (
            {"train": 1},
            "config, datasets.train.weights: 'train'; a dataset that isn't mixed itself.",
        ),
        (
            {"other": 1},
            "config, datasets.train.weights: 'other'; a dataset that isn't mixed itself.",
        ),
    ],
)
def test_bad_nodes(manifests, weights, message):
    with pytest.raises(ValueError) as error:
        build_dataset(node(manifests, **weights), "train", seed=3)
    assert str(error.value) == message


def test_weights_that_are_no_mapping(manifests):
    config = node(manifests)
    config.datasets.train.weights = ["a", "b"]
    with pytest.raises(ValueError, match=r"weights: \['a', 'b'\]; a mapping of datasets to their"):
        build_dataset(config, "train")


def options_of(corpus, folder, *overrides):
    """The experiment on the demo speech and a manifest, here of the demo's validation set."""
    own = [f"datasets.{name}.manifest={corpus / 'val.jsonl'}" for name in ("own", "val", "test")]
    own += ["datasets=mixed", f"datasets.demo.folder={corpus}", f"run_dir={folder}", "device=cpu"]
    return [*own, "writer=nothing", "dataloader.num_workers=0", "report.audio=none", *overrides]


def test_a_resumed_run_has_the_same_weights(corpus, tmp_path):
    options = [*SMALL, "trainer.monitor=null", "trainer.test_on=[]", "trainer.validate_on=[]"]
    options += ["datasets.train.weights.own=2", "trainer.steps_per_epoch=5"]

    def run(folder, *more):
        train(composed("asr_deepspeech2", *options_of(corpus, folder, *options, *more)), list(more))
        return read_tensors(folder / "last" / "model.safetensors")

    whole = run(tmp_path / "whole", "trainer.epochs=2", "scheduler=constant")
    run(tmp_path / "cut", "trainer.epochs=1", "scheduler=constant")
    resumed = run(tmp_path / "cut", "trainer.epochs=2", f"trainer.resume_from={tmp_path / 'cut'}")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_pretraining_on_a_mixture(corpus, tmp_path):
    small = [f"model.encoder.{key}=2" for key in ("num_layers", "num_heads")]
    options = ["debug=smoke", "model.encoder.d_model=16", *small]
    values = train(composed("ssl_nest", *options_of(corpus, tmp_path / "r", *options)))
    assert values["test/masked_fraction"] > 0
