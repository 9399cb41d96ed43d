import random
from itertools import islice

import numpy as np
import pytest
import torch

from src.datasets.base_dataset import BaseDataset
from src.datasets.loading.collate import collate
from src.datasets.loading.loaders import EvaluationLoader, LoaderOptions
from src.datasets.loading.train import IterableTrainLoader, TrainLoader, train_loader
from src.datasets.manifest import Manifest
from src.transforms.chain import Chain
from src.transforms.wave.noise import AddWhiteNoise
from src.utils.options import shown
from tests.demo import sine

DURATIONS = np.random.default_rng(0).uniform(1, 9, 203)
OPTIONS = LoaderOptions(max_seconds=30)


class Numbers:
    """Items whose audio is their index, in any epoch."""

    durations = DURATIONS

    def __len__(self):
        return len(self.durations)

    def __getitem__(self, key):
        epoch, index = key
        return {"id": f"{epoch}/{index}", "seed": index, "audio": torch.full((index + 1,), index)}


class Stream:
    """The same, as an iterator."""

    sample_rate = 10

    def __init__(self, size=20):
        self.size = size

    def iterate(self, epoch):
        for index in range(self.size):
            yield {"id": f"{epoch}/{index}", "audio": torch.ones(10 * (index % 3 + 1))}


def ids(loader, count):
    return [batch["id"] for batch in islice(loader, count)]


def keys_of(batches, epoch=0):
    return [[f"{epoch}/{index}" for index in batch] for batch in batches]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_order_and_resume_after_any_step(world, accumulate):
    """In turn, the processes have the batches of the one order, and at its end none."""
    sampler = TrainLoader(Numbers(), OPTIONS, seed=5).sampler
    epochs = [keys_of(sampler.batches(epoch), epoch) for epoch in range(3)]
    size = world * accumulate
    steps = [epoch[i : i + size] for epoch in epochs for i in range(0, len(epoch), size)]
    for rank in range(world):
        options = {"rank": rank, "world_size": world, "accumulate": accumulate, "seed": 5}
        for first in (0, 1, TrainLoader(Numbers(), OPTIONS, **options).steps(0), 12):
            loader = TrainLoader(Numbers(), OPTIONS, **options)
            ids(loader, first * accumulate)
            resumed = TrainLoader(Numbers(), OPTIONS, **options)
            resumed.load_state_dict(loader.state_dict())
            for step in steps[first : first + 2]:
                batches = list(islice(resumed, accumulate))
                wanted = step[rank::world]
                assert [b["id"] for b in batches] == wanted + [[]] * (accumulate - len(wanted))
                assert all(batch["batches_in_step"] == len(step) for batch in batches)


class Seven(Numbers):
    durations = np.full(7, 2.0)


@pytest.mark.parametrize("world", [1, 2])
def test_incomplete_batches_are_dropped_in_training_alone(world):
    options = LoaderOptions(max_seconds=6, drop_last=True)
    training = [TrainLoader(Seven(), options, rank=r, world_size=world) for r in range(world)]
    sizes = [len(batch["id"]) for loader in training for batch in islice(loader, 2)]
    assert sizes == [3] * 2 * world and training[0].steps(0) == 2 // world
    evaluation = [
        EvaluationLoader(Seven(), options, rank=r, world_size=world) for r in range(world)
    ]
    assert sorted(len(batch["id"]) for loader in evaluation for batch in loader) == [1, 3, 3]


@pytest.mark.parametrize("kind", [Numbers, Stream])
@pytest.mark.parametrize("workers", [0, 1])
def test_other_number_of_processes(kind, workers):
    """Each utterance of an epoch once, and steps of as many batches as before, or more."""
    options = LoaderOptions(max_seconds=9, max_items=4, num_workers=workers)
    options = options if kind is Stream else OPTIONS
    dataset = kind(60) if kind is Stream else kind()
    state, seen, sizes = None, [], []
    for world in (2, 3, 1, 4, 2, 5, 3):
        loaders = [train_loader(dataset, options, rank=r, world_size=world) for r in range(world)]
        for loader in loaders:
            if state:
                loader.load_state_dict(state)
        for _ in range(2):
            for _ in range(loaders[0].accumulate):
                batches = [next(loader) for loader in loaders]
                seen += [batch["id"] for batch in batches if batch["id"]]
        (state,) = {tuple(loader.state_dict().items()) for loader in loaders}
        state = dict(state)
        sizes.append(state["batches_in_step"])
        for loader in loaders:
            loader.close()
    assert sizes == [2, 3, 3, 4, 4, 5, 5]
    assert seen == ids(train_loader(dataset, options), len(seen))
    assert 2 * sum(sizes) - 5 < len(seen) <= 2 * sum(sizes)  # the last step of an epoch is short


def test_steps_left_of_an_epoch():
    loader = TrainLoader(Numbers(), OPTIONS, world_size=2, accumulate=2)
    batches = len(loader.sampler.batches(0))
    assert loader.steps(0) == loader.steps_left(0) == -(-batches // 4) == loader.plan(2)[0]
    ids(loader, 6)
    assert loader.steps_left(0) == loader.steps(0) - 3
    loader.load_state_dict({"epoch": 1, "batches": 5, "batches_in_step": 3})
    assert loader.steps_left(0) == 0 and loader.steps_left(2) == loader.steps(2)
    assert loader.steps_left(1) == -(-(len(loader.sampler.batches(1)) - 5) // 3)


def test_position_of_an_earlier_version():
    loader = TrainLoader(Numbers(), OPTIONS, world_size=2)
    loader.load_state_dict({"epoch": 1, "batch": 3})
    assert loader.state_dict() == {"epoch": 1, "batches": 6, "batches_in_step": 2}
    stream = train_loader(Stream(), OPTIONS, world_size=2)
    stream.load_state_dict({"epoch": 1, "batch": 3})
    assert stream.state_dict() == {"epoch": 1, "batches": 3, "batches_in_step": 2}


def test_order_is_reproducible():
    """The first batches and the state are frozen: a change would break every resumed run."""
    loader = TrainLoader(Numbers(), LoaderOptions(max_seconds=30, max_items=3), seed=5)
    assert ids(loader, 2) == [["0/70", "0/63", "0/29"], ["0/117", "0/119", "0/152"]]
    assert loader.state_dict() == {"epoch": 0, "batches": 2, "batches_in_step": 1}


@pytest.mark.parametrize("workers", [0, 2])
def test_position_is_that_of_the_batches_handed_out(workers):
    options = LoaderOptions(max_seconds=30, num_workers=workers)
    loader = TrainLoader(Numbers(), options, seed=1)
    wanted = ids(TrainLoader(Numbers(), OPTIONS, seed=1), 60)
    for taken in (3, 55):
        assert ids(loader, taken) == wanted[:taken]
        state = loader.state_dict()
        assert ids(loader, 4) == wanted[taken : taken + 4]  # what is read ahead doesn't count
        loader.load_state_dict(state)
        assert ids(loader, 4) == wanted[taken : taken + 4]
        loader.load_state_dict({"epoch": 0, "batches": 0, "batches_in_step": 1})
    loader.close()


def test_processes_share_an_epoch():
    loaders = [TrainLoader(Numbers(), OPTIONS, rank=rank, world_size=2) for rank in range(2)]
    steps = loaders[0].steps(0)
    seen = {name for loader in loaders for batch in ids(loader, steps) for name in batch}
    assert seen == {f"0/{i}" for i in range(203)}


@pytest.mark.parametrize("workers", [0, 2])
def test_global_random_state_is_unchanged(workers):
    def state():
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = state()
    options = LoaderOptions(max_seconds=30, num_workers=workers)
    for loader in (TrainLoader(Numbers(), options), EvaluationLoader(Numbers(), options)):
        ids(iter(loader), 3)
        loader.close()
    assert state() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_same_batches_with_any_number_of_workers(tmp_path, workers):
    rows = []
    for i in range(5):
        path = sine(tmp_path / f"{i}.wav", 8000, 1 + i / 2)
        rows.append({"audio_filepath": path.name, "duration": 1 + i / 2})
    manifest = Manifest.from_rows(rows, tmp_path / "m.jsonl")
    dataset = BaseDataset(manifest, instance_transforms=Chain({"noise": AddWhiteNoise()}), seed=5)
    loader = TrainLoader(dataset, LoaderOptions(max_seconds=5, num_workers=workers), seed=5)
    shares = loader.order.shares((0, 0))
    for batch in islice(loader, 6):
        wanted = collate([dataset[key] for key in next(shares).keys])
        assert batch["id"] == wanted["id"]
        assert torch.equal(batch["audio"], wanted["audio"])


def test_padding_fraction():
    loader = TrainLoader(Numbers(), OPTIONS)
    assert 0 < loader.padding_fraction() < 0.1


class Breaks(Numbers):
    broken = True

    def __getitem__(self, key):
        if self.broken and key[1] == 7:
            raise ValueError("7.wav: not readable.")
        return super().__getitem__(key)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_does_not_move_the_position(workers):
    options = LoaderOptions(max_seconds=30, num_workers=workers)
    wanted = ids(TrainLoader(Numbers(), options), 60)
    dataset = Breaks()
    loader = TrainLoader(dataset, options)
    seen = []
    with pytest.raises(ValueError, match=r"7.wav: not readable"):
        for batch in loader:
            seen.append(batch["id"])
    dataset.broken = False
    assert seen + ids(loader, 60 - len(seen)) == wanted
    loader.close()


# Evaluation


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_covers_every_item_once(workers):
    options = LoaderOptions(max_seconds=30, num_workers=workers)
    parts = []
    for rank in range(3):
        loader = EvaluationLoader(Numbers(), options, rank=rank, world_size=3)
        batches = list(loader)
        assert [b["id"] for b in loader] == [b["id"] for b in batches]  # again
        assert len(loader) == len(batches) in (loader.common_batches, loader.common_batches + 1)
        parts += [name for batch in batches for name in batch["id"]]
    assert sorted(parts) == sorted(f"0/{i}" for i in range(203))


def test_evaluation_starts_with_the_longest():
    loader = EvaluationLoader(Numbers(), LoaderOptions(max_seconds=5))
    (first,) = next(iter(loader))["id"]
    assert first == f"0/{DURATIONS.argmax()}"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2])
def test_evaluation_of_an_iterator(workers, world):
    options = LoaderOptions(max_seconds=6, max_items=4, num_workers=workers)
    loaders = [EvaluationLoader(Stream(), options, rank=r, world_size=world) for r in range(world)]
    assert loaders[0].common_batches == 0
    with pytest.raises(TypeError):
        len(loaders[0])
    for _ in range(2):
        parts = [list(loader) for loader in loaders]
        in_turn = [parts[k % world][k // world] for k in range(sum(map(len, parts)))]
        names = [name for batch in in_turn for name in batch["id"]]
        assert names == [f"0/{i}" for i in range(20)]


# Training on an iterator


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_training_on_an_iterator_and_resume(workers, world):
    options = LoaderOptions(max_seconds=6, max_items=4, num_workers=workers)
    whole = ids(train_loader(Stream(), options), 24)
    for rank in range(world):
        loader = train_loader(Stream(), options, rank=rank, world_size=world)
        assert isinstance(loader, IterableTrainLoader)
        assert loader.steps(0) is None and loader.padding_fraction() is None
        wanted = whole[rank::world]
        for taken in (1, 2, 5):
            assert ids(loader, taken) == wanted[:taken]
            resumed = train_loader(Stream(), options, rank=rank, world_size=world)
            resumed.load_state_dict(loader.state_dict())
            assert ids(resumed, 2) == wanted[taken : taken + 2]
            resumed.close()
            loader.load_state_dict({"epoch": 0, "batches": 0, "batches_in_step": 1})
        loader.close()


def test_batches_of_an_iterator():
    """Seconds are 1, 2, 3, 1, ...: at most 6 with padding, at most 4 items."""
    loader = train_loader(Stream(5), LoaderOptions(max_seconds=6, max_items=4), seed=3)
    first, second, third = islice(loader, 3)
    assert (first["id"], second["id"]) == (["0/0", "0/1"], ["0/2", "0/3"])
    assert first["audio_length"].tolist() == [10, 20]
    assert third["id"] == ["0/4"]
    assert len({*first["seed"].tolist(), *second["seed"].tolist(), *third["seed"].tolist()}) == 5


def test_plain_iterable_restarts_each_epoch():
    class Plain:
        sample_rate = 10

        def __iter__(self):
            return iter([{"id": "x", "audio": torch.ones(10)}])

    loader = train_loader(Plain(), LoaderOptions(max_seconds=6))
    first, second = islice(loader, 2)
    assert first["id"] == second["id"] == ["x"]
    assert first["seed"].tolist() != second["seed"].tolist()


def test_errors_of_iterators():
    once = Stream()
    once.iterate = lambda epoch: Stream(3).iterate(0) if epoch == 0 else iter(())
    with pytest.raises(ValueError, match=r"Stream: gave no items in epoch 2\."):
        ids(train_loader(once, LoaderOptions(max_seconds=6)), 20)
    for key in ("sorted_first_epoch", "drop_last"):
        with pytest.raises(ValueError, match=f"dataloader.{key}: true; set dataloader"):
            train_loader(Stream(), LoaderOptions(max_seconds=6, **{key: True}))
    with pytest.raises(ValueError, match="an utterance of 3.0 s does not fit a batch of 2 s"):
        ids(train_loader(Stream(), LoaderOptions(max_seconds=2)), 20)
    with pytest.raises(ValueError, match="object: not a dataset; it needs __getitem__"):
        train_loader(object(), OPTIONS)
    with pytest.raises(ValueError, match=r"list: has no durations"):
        train_loader([1], OPTIONS)


# Options


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("max_seconds", None, "a number above 0"),
        ("max_seconds", 0, "a number above 0"),
        ("max_seconds", "abc", "a number above 0"),
        ("max_items", -1, "a whole number above 0, or null"),
        ("max_items", 1.5, "a whole number above 0, or null"),
        ("sorted_first_epoch", "abc", "true or false"),
        ("drop_last", None, "true or false"),
        ("num_workers", -1, "a whole number from 0 to 256"),
        ("num_workers", None, "a whole number from 0 to 256"),
        ("num_workers", 10**9, "a whole number from 0 to 256"),
    ],
)
def test_bad_options(key, value, allowed):
    with pytest.raises(ValueError) as error:
        LoaderOptions.from_config({"max_seconds": 20, key: value})
    assert str(error.value) == f"dataloader.{key}: {shown(value)}; {allowed}."


def test_unknown_and_missing_options():
    with pytest.raises(ValueError, match=r"^dataloader.foo: unknown; the keys are max_seconds, "):
        LoaderOptions.from_config({"max_seconds": 20, "foo": 1})
    with pytest.raises(ValueError, match=r"^dataloader.max_seconds: missing"):
        LoaderOptions.from_config({})
