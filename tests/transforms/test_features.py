import math

import pytest
import torch
import torchaudio

from src.transforms.features.log_mel import LOG_OFFSET, LogMel
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
    result = LogMel(n_mels=64, normalization="none")(audio=audio, audio_length=length)
    torch.testing.assert_close(
        result["spectrogram"], torch.log(theirs + LOG_OFFSET), rtol=1e-4, atol=1e-4
    )
    assert result["spectrogram_length"].tolist() == [theirs.shape[-1]] == [51]


def test_mfcc_equals_torchaudio_on_the_same_bands():
    audio, length = noise()
    log_mel = LogMel(normalization="none")(audio=audio, audio_length=length)["spectrogram"]
    dct = torchaudio.functional.create_dct(13, 80, "ortho")
    result = MFCC(13, normalization="none")(audio, length)["spectrogram"]
    torch.testing.assert_close(result, (log_mel.transpose(1, 2) @ dct).transpose(1, 2))


def test_tone_is_in_expected_bin():
    audio = torch.sin(2 * math.pi * 2000 * torch.arange(16000) / 16000)[None]
    features = LogSpectrogram(normalization="none")
    result = features(audio, torch.tensor([16000]))["spectrogram"]
    assert result.shape[1] == 161
    assert (result[0, :, 5:-5].argmax(0) == 2000 * 320 / 16000).all()


@pytest.mark.parametrize("kind", ["per_feature", "all_features"])
def test_normalised_over_valid_frames(kind):
    audio, _ = noise(8000)
    audio = torch.nn.functional.pad(audio.repeat(2, 1), (0, 4000))
    result = LogMel(normalization=kind)(audio=audio, audio_length=torch.tensor([8000, 12000]))
    length = int(result["spectrogram_length"][0])
    own = result["spectrogram"][0, :, :length]
    axes = (1,) if kind == "per_feature" else (0, 1)
    torch.testing.assert_close(own.mean(axes), torch.zeros_like(own.mean(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std(axes), torch.ones_like(own.std(axes)), atol=1e-3, rtol=0)


def test_lengths_use_integer_arithmetic():
    assert [LogMel().output_length(n) for n in (0, 159, 160, 16000)] == [1, 1, 2, 101]


@pytest.mark.parametrize("pad_to", [0, 16])
def test_equals_reference_front_end(pad_to):
    tensors, _ = golden(f"nest_mel_pad{pad_to}")
    mel = LogMel(preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=pad_to)
    result = mel(audio=tensors["in.audio"], audio_length=tensors["in.length"])
    assert result["spectrogram"].shape == tensors["out.features"].shape
    assert torch.equal(result["spectrogram_length"], tensors["out.length"])
    for ours, theirs, length in zip(
        result["spectrogram"], tensors["out.features"], tensors["out.length"], strict=True
    ):
        limit = 1e-4 if length >= 10 else 1e-3
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)
    torch.testing.assert_close(mel.power.window, tensors["state.featurizer.window"])
    torch.testing.assert_close(
        mel.filterbank[None], tensors["state.featurizer.fb"], atol=1e-6, rtol=0
    )


def test_utterance_shorter_than_hop_has_no_frames():
    mel = LogMel(preemphasis=0.97, symmetric_window=True, drop_last_frame=True, pad_to=16)
    result = mel(audio=torch.randn(2, 400), audio_length=torch.tensor([400, 159]), id=["swallowed"])
    assert result["spectrogram_length"].tolist() == [2, 0]
    assert result["spectrogram"].shape == (2, 80, 16)
    assert result["spectrogram"].isfinite().all() and not result["spectrogram"][1].any()


def test_noisy_audio_has_same_features():
    mel = LogMel(normalization="all_features", f_max=4000)
    audio, noisy, length = torch.randn(1, 1600), torch.randn(1, 1600), torch.tensor([1600])
    result = mel(audio=audio, audio_length=length, noisy_audio=noisy)
    alone = mel(audio=noisy, audio_length=length)
    assert torch.equal(result["noisy_spectrogram"], alone["spectrogram"])
    assert not torch.equal(result["noisy_spectrogram"], result["spectrogram"])
    unchanged = mel(audio=audio, audio_length=length, noisy_audio=audio)
    assert unchanged["noisy_spectrogram"] is unchanged["spectrogram"]
