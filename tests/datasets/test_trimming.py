"""Silence, clipping and speaking rate: what is cut off or left out, and how it is remembered."""

import json
import logging
import sys

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from src.datasets import measuring
from src.datasets.building import build_dataset
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.recognition import RecognitionDataset
from src.datasets.speech_detection import EnergyDetector, SileroDetector
from src.text_encoder.characters import CharacterEncoder
from src.transforms.chain import Chain
from src.utils.audio import Recording

RATE = 8000
NOISE = 1e-3


def recording(before, speech, after, level=0.3, rate=RATE):
    """Seconds of faint noise, of a tone, and of noise."""
    draw = np.random.default_rng(0)
    audio = NOISE * draw.standard_normal(round((before + speech + after) * rate))
    time = np.arange(round(speech * rate)) / rate
    start = round(before * rate)
    audio[start : start + len(time)] += level * np.sin(2 * np.pi * 440 * time)
    return audio.astype(np.float32)


LAYOUTS = [(0.5, 1.0, 0.7), (0.0, 1.0, 0.0), (1.0, 0.5, 0.1)]  # silence, speech, silence


@pytest.fixture
def folder(tmp_path):
    """A manifest of three recordings, the last one a part of its file."""
    rows = []
    for i, layout in enumerate(LAYOUTS):
        audio = recording(*layout)
        row = {"audio_filepath": f"{i}.wav", "duration": len(audio) / RATE, "text": "aaaa"}
        if i == 2:
            audio, row["offset"] = np.concatenate([np.ones(4000), audio]), 0.5
        soundfile.write(tmp_path / f"{i}.wav", audio, RATE)
        rows.append(row)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def opened(folder, **options):
    options = {"sample_rate": RATE, **options}
    return RecognitionDataset(Manifest(folder / "m.jsonl"), **options)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("level", [0.05, 0.5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_energy_finds_the_tone(layout, level, rate):
    before, speech, _ = layout
    audio = torch.from_numpy(recording(*layout, level, rate))
    start, end = EnergyDetector().find(audio, rate)
    assert start == pytest.approx(before, abs=0.03) and start <= before
    assert end == pytest.approx(before + speech, abs=0.03) and end >= before + speech - 1e-9


def test_energy_ignores_a_click_and_silence():
    audio = recording(1.0, 1.0, 1.0)
    audio[100] = 0.5
    assert EnergyDetector().find(torch.from_numpy(audio), RATE)[0] > 0.9
    assert EnergyDetector().find(torch.zeros(RATE), RATE) is None
    noise = torch.from_numpy(recording(0, 2.0, 0, level=0.0))
    assert EnergyDetector().find(noise, RATE) == (0.0, 2.0)  # no louder part: all is kept


def test_trimmed_items_and_durations(folder, caplog):
    caplog.set_level(logging.INFO)
    whole, trimmed = opened(folder), opened(folder, trim="energy")
    for i, (before, speech, after) in enumerate(LAYOUTS):
        wanted = min(before, 0.15) + speech + min(after, 0.15)
        assert trimmed.durations[i] == pytest.approx(wanted, abs=0.05)
        audio = trimmed[i]["audio"]
        assert len(audio) == pytest.approx(trimmed.durations[i] * RATE, abs=1)
        energies = [float(one.square().sum()) for one in (audio, whole[i]["audio"])]
        assert energies[0] == pytest.approx(energies[1], rel=1e-3)
    saved = (whole.durations - trimmed.durations).sum() / 3600
    assert trimmed[0]["trimmed"] == pytest.approx(0.35, abs=0.03) and trimmed[1]["trimmed"] == 0
    message = f"trimmed silence of 2 of 3 rows, {saved:.3f} of 0.001 h; 0 rows without speech"
    assert message in caplog.text


def test_margin_of_a_detector(folder):
    none = opened(folder, trim=EnergyDetector(margin=0.0)).durations
    wide = opened(folder, trim=EnergyDetector(margin=10.0)).durations
    assert none[0] == pytest.approx(1.0, abs=0.05)
    assert np.allclose(wide, opened(folder).durations)


def test_ctc_counts_the_frames_of_what_is_left(folder):
    """`aaaa` needs 7 frames; of the third recording, 1.6 s long, 0.75 s are left."""

    def count_frames(samples):
        return samples * 6 // RATE

    options = {"text_encoder": CharacterEncoder(), "count_frames": count_frames}
    assert len(opened(folder, **options)) == 2  # 1.0 s has 6 frames
    assert len(opened(folder, trim="energy", **options)) == 1
    left = opened(folder, trim="energy", **options)
    for i in range(len(left)):
        assert count_frames(len(left[i]["audio"])) >= 7


def test_bounds_are_those_of_what_is_left(folder):
    assert len(opened(folder, min_duration=1.1)) == 2
    assert len(opened(folder, min_duration=1.1, trim="energy")) == 1
    assert len(opened(folder, min_speaking_rate=3)) == 1
    assert len(opened(folder, min_speaking_rate=3, trim="energy")) == 3


def test_speaking_rates(folder, caplog):
    caplog.set_level(logging.INFO)
    assert len(opened(folder, max_speaking_rate=2)) == 1
    assert "dropped 2 of 3 rows, 0.001 h: faster than 2 characters per second" in caplog.text
    with pytest.raises(ValueError) as error:
        opened(folder, min_speaking_rate=3, max_speaking_rate=3.5)
    assert str(error.value) == (
        f"{folder / 'm.jsonl'}: no utterances left of 3: 2 slower than 3 characters per second, "
        "1 faster than 3.5 characters per second."
    )


def test_clipped_recordings(folder, caplog):
    caplog.set_level(logging.INFO)
    loud = np.clip(recording(0.5, 1.0, 0.7, level=3.0), -1, 1)
    soundfile.write(folder / "0.wav", loud, RATE)
    dataset = opened(folder, max_clipped=0.001, trim="energy")
    assert [item["id"] for item in (dataset[0], dataset[1])] == ["1", "2"]
    reason = "clipped, more than 0.001 of the samples at full scale"
    assert f"dropped 1 of 3 rows, 0.001 h: {reason}" in caplog.text
    with pytest.raises(ValueError, match=f"no utterances left of 1: 1 {reason}"):
        opened(folder, max_clipped=0.001, limit=1)


# What is remembered -------------------------------------------------------------------------


def test_each_row_is_measured_once(folder, monkeypatch):
    measured = []

    def read(path, *arguments):
        measured.append(path.name)
        return real(path, *arguments)

    real = measuring.read_audio
    monkeypatch.setattr(measuring, "read_audio", read)
    first = opened(folder, trim="energy", limit=1)
    assert measured == ["0.wav"] and (folder / "m.jsonl.energy-30.npz").exists()
    again = opened(folder, trim="energy")
    assert sorted(measured) == ["0.wav", "1.wav", "2.wav"]
    assert opened(folder, trim=EnergyDetector(margin=0.0)).durations[0] < again.durations[0]
    assert first.durations[0] == again.durations[0] and len(measured) == 3
    opened(folder, trim=EnergyDetector(threshold_db=-20))
    assert len(measured) == 6  # another measurement
    text = (folder / "m.jsonl").read_text()
    (folder / "m.jsonl").write_text(text.replace("aaaa", "bbbb"))
    opened(folder, trim="energy")
    assert len(measured) == 9  # another manifest


def test_a_damaged_file_of_measurements_is_replaced(folder, caplog):
    wanted = opened(folder, trim="energy").durations
    path = folder / "m.jsonl.energy-30.npz"
    for damaged in (b"", b"PK\x03\x04", path.read_bytes()[:-30]):
        path.write_bytes(damaged)
        assert np.array_equal(opened(folder, trim="energy").durations, wanted)
        assert "m.jsonl.energy-30.npz: not readable; measured anew." in caplog.text
        caplog.clear()
    opened(folder, trim="energy")
    assert "measured anew" not in caplog.text


def test_the_file_of_measurements_is_written_a_few_times(folder, monkeypatch):
    rows = [{"audio_filepath": f"{i % 2}.wav", "duration": 1.0} for i in range(40)]
    write_manifest(folder / "many.jsonl", [*rows, {"audio_filepath": "x.wav", "duration": 1.0}])
    sizes = []
    monkeypatch.setattr(measuring, "CHUNK", 1)
    monkeypatch.setattr(measuring, "GROWTH", 2)
    monkeypatch.setattr(
        measuring, "write_cache", lambda path, _, known: sizes.append(known_of(known)) or path
    )
    with pytest.raises(ValueError, match="line 41: .*x.wav"):
        measuring.clipped_fractions(Manifest(folder / "many.jsonl"), skip=False)
    assert sizes == [1, 3, 7, 15, 31, 40]  # the last one because of the error


def known_of(values):
    return int((~np.isnan(values)).sum())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError("m.npz: the disk is full."), "m.npz: the disk is full."),
    ],
)
def test_where_nothing_can_be_written(folder, monkeypatch, caplog, error, reason):
    def refuse(path):
        raise error

    monkeypatch.setattr(measuring, "write_beside", refuse)
    opened(folder, trim="energy")
    assert f"could not be written ({reason}); measured each time." in caplog.text
    rows = [{"audio_filepath": "0.wav", "duration": 2.2}]
    RecognitionDataset(Manifest.from_rows(rows, folder / "none.jsonl"), trim="energy")  # in memory
    assert not list(folder.glob("*.npz"))


def test_unreadable_files(folder):
    (folder / "1.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"m.jsonl, line 2: .*1.wav: not readable"):
        opened(folder, trim="energy")
    dataset = opened(folder, trim="energy", max_clipped=0.5, on_error="skip")
    assert dataset.durations[1] == 1.0 and "1.wav" in dataset[1]["error"]


# In use -------------------------------------------------------------------------------------


def test_a_trimmed_long_recording_is_read_in_parts(folder):
    audio = opened(folder, trim="energy", window_seconds=0.6)[0]["audio"]
    assert isinstance(audio, Recording)
    assert torch.equal(audio[: len(audio)], opened(folder, trim="energy")[0]["audio"])


def test_stages_for_listening(folder):
    chain = Chain({})
    chain.keeps_stages = True
    item = opened(folder, trim="energy", instance_transforms=chain)[2]
    (first, before), (second, after) = item["audio_stages"]
    assert (first, second) == ("input", "trim")
    assert torch.equal(before, opened(folder)[2]["audio"])
    assert torch.equal(after, item["audio"])


def test_trimming_in_a_config(folder):
    node = {
        "_target_": "src.datasets.manifest_dataset.ManifestDataset",
        "manifest": str(folder / "m.jsonl"),
        "trim": {"_target_": "src.datasets.speech_detection.EnergyDetector", "margin": 0.0},
    }
    config = OmegaConf.create({"datasets": {"train": node}})
    assert build_dataset(config, "train").durations[0] == pytest.approx(1.0, abs=0.05)
    config.datasets.train.trim = "loud"
    with pytest.raises(ValueError, match=r"datasets.train: trim: 'loud'; energy or silero\.$"):
        build_dataset(config, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_clipped": 2}, "max_clipped: 2; a number from 0 to 1, or null."),
        ({"min_speaking_rate": -1}, "min_speaking_rate: -1; a number from 0 on, or null."),
        ({"max_speaking_rate": 0}, "max_speaking_rate: 0; a number above 0, or null."),
        ({"trim": "Energy"}, "trim: 'Energy'; energy or silero."),
    ],
)
def test_bad_options(folder, options, message):
    with pytest.raises(ValueError) as error:
        opened(folder, **options)
    assert str(error.value) == message


def test_bad_detectors():
    with pytest.raises(ValueError, match=r"trim.margin: -1; a number from 0 to 10\."):
        EnergyDetector(margin=-1)
    with pytest.raises(ValueError, match=r"trim.threshold_db: 0; a number from -100 to -1\."):
        EnergyDetector(threshold_db=0)
    with pytest.raises(ValueError, match=r"trim.threshold: 1.0; a number from 0.01 to 0.99\."):
        SileroDetector(threshold=1.0)


def test_missing_silero(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(ValueError, match=r"^trim: silero needs `pip install silero-vad onnx"):
        opened(folder, trim="silero")


def test_silero(corpus):
    """With the package itself: speech is found in speech, and none in a tone."""
    pytest.importorskip("silero_vad")
    threads = torch.get_num_threads()
    dataset = RecognitionDataset(Manifest(corpus / "val.jsonl"), trim=SileroDetector(margin=0.05))
    assert torch.get_num_threads() == threads
    assert dataset.durations.sum() < Manifest(corpus / "val.jsonl").durations.sum()
    assert SileroDetector().find(torch.from_numpy(recording(0.5, 1.0, 0.5)), RATE) is None
