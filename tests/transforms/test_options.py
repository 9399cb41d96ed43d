"""Bad options: one sentence with the argument, the value and the values allowed."""

import re

import pytest
from torch import nn

from src.transforms.chain import Chain
from src.transforms.features.log_mel import LogMel
from src.transforms.features.mfcc import MFCC
from src.transforms.features.spectrogram import LogSpectrogram
from src.transforms.spectrogram.spec_augment import SpecAugment
from src.transforms.spectrogram.warp import FrequencyWarp, TimeWarp
from src.transforms.wave.band import BandLimit
from src.transforms.wave.cleaning import Loudness, NoiseReduction
from src.transforms.wave.clipping import Clipping
from src.transforms.wave.codec import Codec
from src.transforms.wave.dither import Dither
from src.transforms.wave.gain import Gain
from src.transforms.wave.low_sample_rate import LowSampleRate
from src.transforms.wave.noise import AddNoise, AddWhiteNoise
from src.transforms.wave.noisy_speech import NoisySpeech
from src.transforms.wave.pitch import Pitch
from src.transforms.wave.room import RoomResponse
from src.transforms.wave.speed import Speed

NAN = float("nan")
BAD = [
    (Gain, {"p": 2}, "Gain, p: 2; a number from 0 to 1."),
    (Gain, {"p": [0.5]}, "Gain, p: [0.5]; a number from 0 to 1."),
    (Gain, {"p": True}, "Gain, p: true; a number from 0 to 1."),
    (Gain, {"p": NAN}, "Gain, p: nan; a number from 0 to 1."),
    (Gain, {"min_gain_db": "6"}, "Gain, min_gain_db: '6'; a number from -100 to 100."),
    (Gain, {"min_gain_db": 20}, "Gain, min_gain_db: 20; at most max_gain_db, which is 10.0."),
    (Clipping, {"min_threshold": 0}, "Clipping, min_threshold: 0; a number above 0, up to 1."),
    (Codec, {"codecs": []}, "Codec, codecs: []; some of vorbis, opus, mp3, gsm, ulaw, alaw."),
    (
        Codec,
        {"codecs": ["flac"]},
        "Codec, codecs: 'flac'; vorbis, opus, mp3, gsm, ulaw or alaw.",
    ),
    (Codec, {"max_compression": 1}, "Codec, max_compression: 1; a number from 0 to 0.98."),
    (
        Codec,
        {"sample_rate": 11025},
        "Codec, sample_rate: 11025; for opus one of 8000, 12000, 16000, 24000, 48000 Hz.",
    ),
    (Loudness, {"target_lufs": 3}, "Loudness, target_lufs: 3; a number from -70 to 0."),
    (Loudness, {"max_gain_db": -1}, "Loudness, max_gain_db: -1; a number from 0 to 100."),
    (NoiseReduction, {"strength": 2}, "NoiseReduction, strength: 2; a number from 0 to 1."),
    (NoiseReduction, {"stationary": 1}, "NoiseReduction, stationary: 1; true or false."),
    (Speed, {"factors": []}, "Speed, factors: []; a list of numbers, not empty."),
    (Speed, {"factors": 0.9}, "Speed, factors: 0.9; a list of numbers, not empty."),
    (Speed, {"factors": [1, -1]}, "Speed, factors[1]: -1; a number from 0.1 to 10."),
    (Pitch, {"max_semitones": [1, 2]}, "Pitch, max_semitones: [1, 2]; a number from -24 to 24."),
    (LowSampleRate, {"sample_rates": [0]}, "sample_rates[0]: 0; a whole number from 1 to 16000."),
    (LowSampleRate, {"sample_rates": []}, "sample_rates: []; a list of rates in Hz, not empty."),
    (BandLimit, {"min_low_cutoff": 0}, "min_low_cutoff: 0; a number above 0, up to 16000."),
    (
        Codec,
        {"codecs": ["mp3"], "sample_rate": 6000},
        "for mp3 one of 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000 Hz.",
    ),
    (Dither, {"amplitude": -1}, "Dither, amplitude: -1; a number from 0 to 1."),
    (AddWhiteNoise, {"min_snr_db": 40}, "min_snr_db: 40; at most max_snr_db, which is 30.0."),
    (
        AddNoise,
        {"manifest": 5},
        "AddNoise, manifest: 5; the path of a manifest or a folder, or null.",
    ),
    (
        AddNoise,
        {"manifest": ""},
        "AddNoise, manifest: ''; the path of a manifest or a folder, or null.",
    ),
    (RoomResponse, {"min_rt60": 0}, "RoomResponse, min_rt60: 0; a number from 0.001 to 20."),
    (NoisySpeech, {"p": 2.0}, "NoisySpeech, p: 2.0; a number from 0 to 1."),
    (NoisySpeech, {"max_segments": 0}, "max_segments: 0; a whole number above 0."),
    (NoisySpeech, {"max_speakers": 1.5}, "max_speakers: 1.5; a whole number above 0."),
    (NoisySpeech, {"min_mix_fraction": 0}, "min_mix_fraction: 0; a number above 0, up to 1."),
    (NoisySpeech, {"min_mix_fraction": 0.8}, "0.8; at most max_mix_fraction, which is 0.5."),
    (SpecAugment, {"n_time_masks": -1}, "SpecAugment, n_time_masks: -1; a whole number from 0 on."),
    (SpecAugment, {"freq_mask_param": [8]}, "freq_mask_param: [8]; a whole number from 0 on."),
    (SpecAugment, {"time_fraction": 5}, "SpecAugment, time_fraction: 5; a number from 0 to 1."),
    (TimeWarp, {"min_factor": 0}, "TimeWarp, min_factor: 0; a number from 0.1 to 10."),
    (FrequencyWarp, {"max_factor": 1e30}, "max_factor: 1e+30; a number from 0.1 to 10."),
    (LogMel, {"n_fft": 256}, "features, win_length: 400; a whole number from 1 to 256."),
    (LogMel, {"n_mels": 0}, "features, n_mels: 0; a whole number above 0."),
    (LogMel, {"hop_length": [160]}, "features, hop_length: [160]; a whole number above 0."),
    (LogMel, {"f_max": 9000}, "features, f_max: 9000; a number above 0, up to 8000, or null."),
    (LogMel, {"f_min": 8001}, "features, f_min: 8001; a number from 0 to 8000."),
    (
        LogMel,
        {"normalization": "bands"},
        "features, normalization: 'bands'; per_feature, all_features or none.",
    ),
    (LogSpectrogram, {"normalization": 1}, "normalization: 1; per_feature, all_features or none."),
    (MFCC, {"n_mfcc": 100}, "features, n_mfcc: 100; a whole number from 1 to 80."),
]


@pytest.mark.parametrize(("kind", "options", "message"), BAD)
def test_bad_value(kind, options, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        kind(**options)


def test_chain_rejects_other_objects():
    with pytest.raises(ValueError, match=r"transforms, noise: 5; a transform .* or null\."):
        Chain({"noise": 5})


def test_null_removes_a_transform():
    assert list(Chain({"gain": None, "other": nn.Identity()})) == ["other"]
