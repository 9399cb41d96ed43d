import math

import pytest
import torch
import torchaudio

from src.transforms.features.log_mel import GUARD, LogMel
from src.transforms.features.mfcc import MFCC
from src.transforms.features.spectrogram import LogSpectrogram
from tests.golden import golden


def noise(samples=8000):
    torch.manual_seed(0)
    return 0.1 * torch.randn(1, samples), torch.tensor([samples])


def test_log_mel_equals_torchaudio():
    audio, length = noise()
    theirs = torchaudio.transforms.MelSpectrogram(
        16000,
        512,
        400,
        160,
        n_mels=64,
        norm="slaney",
        mel_scale="slaney",
        pad_mode="constant",
    )(audio)
    found = LogMel(n_mels=64, normalization="none")(audio=audio, audio_length=length)
    torch.testing.assert_close(
        found["spectrogram"], torch.log(theirs + GUARD), rtol=1e-4, atol=1e-4
    )
    assert found["spectrogram_length"].tolist() == [theirs.shape[-1]] == [51]


def test_mfcc_equals_torchaudio_on_the_same_bands():
    audio, length = noise()
    log_mel = LogMel(normalization="none")(audio=audio, audio_length=length)["spectrogram"]
    dct = torchaudio.functional.create_dct(13, 80, "ortho")
    found = MFCC(13, normalization="none")(audio, length)["spectrogram"]
    torch.testing.assert_close(found, (log_mel.transpose(1, 2) @ dct).transpose(1, 2))


def test_a_tone_lies_in_its_bin():
    audio = torch.sin(2 * math.pi * 2000 * torch.arange(16000) / 16000)[None]
    features = LogSpectrogram(normalization="none")
    found = features(audio, torch.tensor([16000]))["spectrogram"]
    assert found.shape[1] == 161
    assert (found[0, :, 5:-5].argmax(0) == 2000 * 320 / 16000).all()


@pytest.mark.parametrize("kind", ["bands", "utterance"])
def test_normalised_over_valid_frames(kind):
    audio, _ = noise(8000)
    audio = torch.nn.functional.pad(audio.repeat(2, 1), (0, 4000))
    found = LogMel(normalization=kind)(audio=audio, audio_length=torch.tensor([8000, 12000]))
    length = int(found["spectrogram_length"][0])
    own = found["spectrogram"][0, :, :length]
    axes = (1,) if kind == "bands" else (0, 1)
    torch.testing.assert_close(own.mean(axes), torch.zeros_like(own.mean(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std(axes), torch.ones_like(own.std(axes)), atol=1e-3, rtol=0)


def test_lengths_are_integer_arithmetic():
    assert [LogMel().output_length(n) for n in (0, 159, 160, 16000)] == [1, 1, 2, 101]


def test_bad_options():
    with pytest.raises(ValueError, match="longer than n_fft"):
        LogMel(n_fft=256)
    with pytest.raises(ValueError, match="'x' is none of"):
        audio, length = noise()
        LogMel(normalization="x")(audio=audio, audio_length=length)
    with pytest.raises(ValueError, match="of only 80 bands"):
        MFCC(100)


@pytest.mark.parametrize("pad_to", [0, 16])
def test_the_reference_front_end(pad_to):
    tensors, _ = golden(f"nest_mel_pad{pad_to}")
    mel = LogMel(preemphasis=0.97, symmetric_window=True, whole_hops=True, pad_to=pad_to)
    found = mel(audio=tensors["in.audio"], audio_length=tensors["in.length"])
    assert found["spectrogram"].shape == tensors["out.features"].shape
    assert torch.equal(found["spectrogram_length"], tensors["out.length"])
    for ours, theirs, length in zip(
        found["spectrogram"], tensors["out.features"], tensors["out.length"], strict=True
    ):
        limit = 1e-4 if length >= 10 else 1e-3
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)
    torch.testing.assert_close(mel.power.window, tensors["state.featurizer.window"])
    torch.testing.assert_close(mel.bands[None], tensors["state.featurizer.fb"], atol=1e-6, rtol=0)


def test_an_utterance_shorter_than_a_hop_has_no_frame():
    mel = LogMel(preemphasis=0.97, symmetric_window=True, whole_hops=True, pad_to=16)
    found = mel(audio=torch.randn(2, 400), audio_length=torch.tensor([400, 159]), id=["swallowed"])
    assert found["spectrogram_length"].tolist() == [2, 0]
    assert found["spectrogram"].shape == (2, 80, 16)
    assert found["spectrogram"].isfinite().all() and not found["spectrogram"][1].any()


def test_the_noisy_form_has_the_same_front_end():
    mel = LogMel(normalization="utterance", f_max=4000)
    audio, noisy, length = torch.randn(1, 1600), torch.randn(1, 1600), torch.tensor([1600])
    found = mel(audio=audio, audio_length=length, noisy_audio=noisy)
    alone = mel(audio=noisy, audio_length=length)
    assert torch.equal(found["noisy_spectrogram"], alone["spectrogram"])
    assert not torch.equal(found["noisy_spectrogram"], found["spectrogram"])
    unchanged = mel(audio=audio, audio_length=length, noisy_audio=audio)
    assert unchanged["noisy_spectrogram"] is unchanged["spectrogram"]
