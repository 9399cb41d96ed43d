"""Every transform: an item gets the same alone, beside others, twice, and on its own seed."""

import importlib
import inspect
import json
import pkgutil

import pytest
import torch
from torch import nn

import src.transforms
from src.transforms.base import RandomTransform
from src.transforms.chain import Chain, apply_to_item
from src.transforms.wave.cleaning import Cleaning
from tests.demo import sine

OPTIONS = {
    "AddNoise": [{"manifest": "noise.jsonl"}],
    "AddWhiteNoise": [{}],
    "Gain": [{}],
    "Clipping": [{}],
    "Codec": [{"codecs": ["vorbis", "opus", "mp3", "gsm", "ulaw", "alaw"]}],
    "Loudness": [{"sample_rate": 8000}],
    "BandLimit": [{}],
    "LowSampleRate": [{"sample_rates": [4000, 6000, 8000, 11025]}],
    "Speed": [{"factors": [0.8, 0.9, 1.1, 1.25]}],
    "Pitch": [{}],
    "RoomResponse": [{}, {"manifest": "noise.jsonl"}],
    "SpecAugment": [{"time_fraction": 0.4}, {"time_masks_per_frame": 0.04, "time_fraction": 0.2}],
    "FrequencyWarp": [{"min_factor": 1.05, "max_factor": 1.2}],
    "TimeWarp": [{"min_factor": 1.1, "max_factor": 1.3}],
    "LogMel": [
        *({"normalization": kind} for kind in ("per_feature", "all_features", "none")),
        {"preemphasis": 0.97, "symmetric_window": True, "drop_last_frame": True, "pad_to": 16},
    ],
    "LogSpectrogram": [{}],
    "MFCC": [{}],
}
# NoisySpeech takes from an item's neighbours, Dither changes every item, Views repeats them,
# NoiseReduction needs a package: they have own tests.
OTHERS = ("RandomTransform", "Warp", "Chain", "PowerSpectrogram", "Cleaning")
OTHERS += ("NoisySpeech", "Dither", "Views", "NoiseReduction")
LENGTHS = [9000, 16000, 1000, 16000]


def classes():
    for module in pkgutil.walk_packages(src.transforms.__path__, "src.transforms."):
        result = importlib.import_module(module.name)
        for name, kind in inspect.getmembers(result, inspect.isclass):
            own = kind.__module__ == module.name and issubclass(kind, nn.Module)
            if own and name not in OTHERS:
                yield name, kind


CASES = [(kind, options) for name, kind in classes() for options in OPTIONS[name]]


@pytest.fixture
def make(tmp_path):
    sine(tmp_path / "noise.wav", seconds=0.3)
    row = {"audio_filepath": "noise.wav", "duration": 0.3}
    (tmp_path / "noise.jsonl").write_text(json.dumps(row) + "\n")

    def build(kind, options):
        options = dict(options)
        if "manifest" in options:
            options["manifest"] = str(tmp_path / options["manifest"])
        return Chain({"it": kind(**options)})

    return build


def items(key, seed=0):
    torch.manual_seed(0)
    for i, length in enumerate(LENGTHS):
        frames = length if key == "audio" else length // 160
        shape = (frames,) if key == "audio" else (64, frames)
        yield {"id": str(i), "seed": i + seed, key: 0.1 * torch.randn(shape)}


def batch_of(result, key):
    longest = max(item[key].shape[-1] for item in result)
    return {
        "id": [item["id"] for item in result],
        "seed": torch.tensor([item["seed"] for item in result]),
        key: torch.stack(
            [nn.functional.pad(item[key], (0, longest - item[key].shape[-1])) for item in result]
        ),
        f"{key}_length": torch.tensor([item[key].shape[-1] for item in result]),
    }


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_independent_of_batch_and_deterministic(make, kind, options):
    chain = make(kind, options)
    key = getattr(kind, "key", "audio")
    out = key if issubclass(kind, RandomTransform | Cleaning) else "spectrogram"
    result = list(items(key))
    together = chain(**batch_of(result, key))
    again = make(kind, options)(**batch_of(result, key))
    assert torch.equal(together[out], again[out])
    assert together[f"{out}_length"].dtype == torch.int64
    for i, item in enumerate(result):
        length = int(together[f"{out}_length"][i])
        alone = apply_to_item(chain, item)[out]
        if not options.get("pad_to"):
            assert alone.shape[-1] == length
        alone = alone[..., :length]
        torch.testing.assert_close(together[out][i][..., :length], alone, rtol=1e-4, atol=1e-5)
        assert not together[out][i][..., length:].any()


@pytest.mark.parametrize(
    ("kind", "options"), [case for case in CASES if issubclass(case[0], RandomTransform)]
)
def test_depends_on_seed_and_name(make, kind, options):
    key = kind.key
    chain = make(kind, options)
    batch = batch_of(list(items(key)), key)
    first = chain(**batch)[key]
    if "manifest" not in options or kind.__name__ != "RoomResponse":  # which has one response
        other = chain(**batch_of(list(items(key, seed=99)), key))[key]
        assert first.shape != other.shape or not torch.equal(first, other)
        renamed = Chain({"another": chain["it"]})(**batch)[key]
        assert first.shape != renamed.shape or not torch.equal(first, renamed)
    never = kind(p=0.0)(**batch)
    assert never == {}
    with pytest.raises(ValueError, match=f"{kind.__name__}, p: 2; a number from 0 to 1"):
        kind(p=2)
