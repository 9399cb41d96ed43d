"""Loudness and noise reduction, alone and as the choice `cleaning` of an experiment."""

import math
import sys
from types import SimpleNamespace

import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from scripts.export import make_form
from src.building import build_chain
from src.datasets.manifest import Manifest
from src.run import load_run
from src.transforms.chain import Chain, apply_to_item
from src.transforms.wave.cleaning import Loudness, NoiseReduction, measure_loudness
from tests.demo import SMALL, composed, experiment
from train import train


def tone(seconds, level, rate=48000, frequency=997.0):
    return level * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
@pytest.mark.parametrize("level", [1.0, 0.1, 0.001])
def test_loudness_of_a_tone(rate, level):
    """BS.1770: a tone of 997 Hz at full scale has -3.01 LUFS."""
    wanted = -3.01 + 20 * math.log10(level)
    assert measure_loudness(tone(2, level, rate), rate) == pytest.approx(wanted, abs=0.2)


def test_pauses_do_not_count():
    loud = tone(2, 0.1)
    with_pauses = torch.cat([torch.zeros(96000), loud, torch.zeros(96000)])
    wanted = measure_loudness(loud, 48000)
    assert measure_loudness(with_pauses, 48000) == pytest.approx(wanted, abs=1)  # else -4.8


def test_short_audio_and_silence():
    assert measure_loudness(tone(0.1, 0.1), 48000) == pytest.approx(-23.01, abs=0.5)
    assert measure_loudness(torch.ones(1), 48000) is not None
    for silence in (torch.zeros(48000), torch.zeros(0)):
        assert measure_loudness(silence, 48000) is None
        assert torch.equal(Loudness(sample_rate=48000).clean(silence), silence)


@pytest.mark.parametrize("level", [0.9, 0.1, 0.01])
def test_all_get_the_same_loudness(level):
    audio = Loudness(-20.0, 48000).clean(tone(1, level))
    assert measure_loudness(audio, 48000) == pytest.approx(-20, abs=0.05)


def test_gain_has_bounds():
    transform = Loudness(0.0, 48000)
    assert transform.clean(tone(1, 0.5)).abs().max() == pytest.approx(1.0, abs=1e-6)
    quiet = tone(1, 1e-4)
    assert torch.allclose(Loudness(-23.0, 48000, max_gain_db=20.0).clean(quiet), 10 * quiet)


def test_sources_are_scaled_with_their_mixture():
    item = {
        "seed": 0,
        "audio": tone(1, 0.1),
        "sources": torch.stack([tone(1, 0.04), tone(1, 0.06)]),
    }
    after = apply_to_item(Chain({"loudness": Loudness(-30.0, 48000)}), item)
    assert torch.allclose(after["sources"].sum(0), after["audio"], atol=1e-6)
    assert not torch.allclose(after["audio"], item["audio"])


# Noise reduction ----------------------------------------------------------------------------


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    with pytest.raises(ValueError, match=r"NoiseReduction: needs `pip install noisereduce`\."):
        NoiseReduction()


def test_what_the_package_is_given(monkeypatch):
    given = {}

    def reduce_noise(y, **options):
        given.update(options)
        return 0.5 * y

    monkeypatch.setitem(sys.modules, "noisereduce", SimpleNamespace(reduce_noise=reduce_noise))
    transform = NoiseReduction(8000, strength=0.5, stationary=True)
    audio = torch.ones(2, 3000)
    cleaned = transform(audio=audio, audio_length=torch.tensor([2500, 1000]))["audio"]
    assert given == {"sr": 8000, "prop_decrease": 0.5, "stationary": True}
    assert (cleaned[0, :2500] == 0.5).all() and not cleaned[0, 2500:].any()
    assert (cleaned[1, :1000] == 1).all() and not cleaned[1, 1000:].any()  # too short


def test_noise_is_reduced():
    """With the package itself."""
    pytest.importorskip("noisereduce")
    torch.manual_seed(0)
    noisy = 0.01 * torch.randn(32000)
    noisy[8000:16000] += 0.3 * torch.randn(8000)
    cleaned = NoiseReduction(16000).clean(noisy)
    assert cleaned.dtype == torch.float32 and len(cleaned) == 32000
    before, after = (audio[20000:].square().mean() for audio in (noisy, cleaned))
    assert 10 * torch.log10(before / after) > 6


# In an experiment ---------------------------------------------------------------------------


def test_where_cleaning_comes():
    config = composed("asr_deepspeech2", "cleaning=loudness", "transforms=asr")
    names = {
        (kind, use): list(build_chain(config, kind, use))
        for kind in ("instance", "batch")
        for use in ("train", "inference")
    }
    assert names["instance", "train"] == ["loudness", "speed"]
    assert names["batch", "inference"] == ["loudness", "features"]
    assert "loudness" not in names["batch", "train"] + names["instance", "inference"]
    config.trainer.show_stages = "all"
    assert build_chain(config, "instance", "train").keeps_stages
    assert not build_chain(config, "batch", "train").keeps_stages


def test_a_list_of_choices():
    config = composed("asr_deepspeech2", "cleaning=[noise_reduction,loudness]")
    assert list(config.cleaning) == ["noise_reduction", "loudness"]
    assert list(composed("asr_deepspeech2").cleaning) == []


def test_the_item_keeps_the_stages():
    chain = Chain({"loudness": Loudness(-30.0, 48000), "same": torch.nn.Identity()})
    del chain["same"]
    chain.keeps_stages = True
    item = apply_to_item(chain, {"seed": 0, "audio": tone(1, 0.1)})
    (first, before), (second, after) = item["audio_stages"]
    assert (first, second) == ("input", "loudness")
    assert torch.equal(before, tone(1, 0.1)) and torch.equal(after, item["audio"])


@pytest.fixture(scope="module")
def cleaned(corpus, tmp_path_factory):
    """A run with normalised loudness, and what it logged to be heard."""
    folder = tmp_path_factory.mktemp("cleaned") / "run"
    options = [*SMALL, "cleaning=loudness", "debug=augment", "trainer.epochs=1"]
    options += ["writer=tensorboard", "+features.normalization=none"]
    train(experiment("asr_deepspeech2", corpus, folder, *options))
    return folder


def test_cleaned_audio_is_heard(cleaned):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(cleaned / "tensorboard"))
    events.Reload()
    names = sorted(events.Tags()["audio"])
    assert names[:2] == ["transforms/audio_0_input", "transforms/audio_1_loudness"]


def test_a_loaded_run_cleans(cleaned, corpus):
    """What it says doesn't depend on the level of the recording."""
    system = load_run(cleaned, device="cpu")
    audio, rate = soundfile.read(Manifest(corpus / "val.jsonl")[0].audio_filepath, dtype="float32")
    outputs = [
        system.evaluation_step(system.batch_of((torch.from_numpy(audio) * gain, rate)))["log_probs"]
        for gain in (1.0, 0.2)
    ]
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"transforms.batch.inference.loudness: needs the whole"):
        system.stream()


def test_a_cleaned_run_is_not_exported(cleaned):
    with pytest.raises(ValueError, match=r"cleaning.loudness can't be exported\.$"):
        make_form(load_run(cleaned, device="cpu"), cleaned, False)


def test_cleaning_of_a_resumed_run_is_its_own(cleaned):
    from src.config import resume_config

    config = OmegaConf.create({"cleaning": {"loudness": {"target_lufs": -23}}})
    with pytest.raises(ValueError, match="a run is resumed with its own cleaning"):
        resume_config(config, ["cleaning.loudness.target_lufs=-20"])
