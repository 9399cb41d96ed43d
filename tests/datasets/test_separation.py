"""Mixtures: made on the fly, in folders, and LibriMix."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from src.datasets.dynamic_mixtures import DynamicMixtures
from src.datasets.librimix import LibriMix
from src.datasets.manifest import Manifest
from src.datasets.mixtures import MixtureFolder
from src.transforms.wave.speed import Speed

RATE = 16000


def write(path, seconds, seed=0, rate=RATE, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    soundfile.write(path, samples, rate)
    return samples


@pytest.fixture
def speech(tmp_path):
    rows = []
    for number, (speaker, seconds) in enumerate(
        [("a", 1.0), ("a", 2.0), ("b", 1.5), ("c", 0.3), ("c", 3.0)]
    ):
        write(tmp_path / f"{number}.wav", seconds, number, level=0.01 * (number + 1))
        rows.append({"audio_filepath": f"{number}.wav", "duration": seconds, "speaker": speaker})
    path = tmp_path / "speech.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Manifest(path)


def level_of(audio):
    return 20 * torch.log10(audio[audio != 0].square().mean().sqrt()).item()


def test_an_epoch_begins_with_each_utterance(speech):
    data = DynamicMixtures(speech, segment=0.5, low=-30, high=-26)
    assert len(data) == 5 and data.durations.tolist() == [0.5] * 5
    speakers = ["a", "a", "b", "c", "c"]
    for i in range(5):
        item = data[i]
        assert item["audio"].shape == (8000,) and item["sources"].shape == (2, 8000)
        torch.testing.assert_close(item["audio"], item["sources"].sum(0))
        first, second = (int(part) for part in item["id"].split("_"))
        assert first == i and speakers[first] != speakers[second]
        for source in item["sources"]:
            assert -30.5 < level_of(source) < -25.5


def test_a_limit_takes_from_all_over_the_manifest(speech):
    data = DynamicMixtures(speech, segment=0.5, limit=3)
    assert [data[i]["id"][0] for i in range(3)] == ["0", "2", "4"]
    assert len(DynamicMixtures(speech, limit=100)) == 5


def test_the_draw_follows_from_seed_epoch_and_index(speech):
    options = {"segment": 0.5, "sources": {"speed": Speed()}}
    data, same = DynamicMixtures(speech, **options), DynamicMixtures(speech, **options)
    other = DynamicMixtures(speech, seed=1, **options)
    assert torch.equal(data[3, 1]["audio"], same[3, 1]["audio"])
    assert not torch.equal(data[3, 1]["audio"], data[4, 1]["audio"])
    assert not torch.equal(data[3, 1]["audio"], other[3, 1]["audio"])


def test_whole_utterances_end_with_the_shortest(speech):
    item = DynamicMixtures(speech, speakers=3)[3]
    assert item["sources"].shape == (3, 4800)


def test_a_single_speaker(speech):
    item = DynamicMixtures(speech, segment=0.5, single_share=1.0)[0]
    assert item["sources"][0].any() and not item["sources"][1].any()
    assert torch.equal(item["audio"], item["sources"][0])


def test_nothing_clips(speech):
    item = DynamicMixtures(speech, segment=0.5, low=0, high=0)[0]
    assert item["audio"].abs().max() <= 0.9 + 1e-6
    torch.testing.assert_close(item["audio"], item["sources"].sum(0))


def test_mixtures_need_speakers(speech, tmp_path):
    with pytest.raises(ValueError, match="3 speakers, too few for mixtures of 4"):
        DynamicMixtures(speech, speakers=4)
    with pytest.raises(ValueError, match="no number of seconds"):
        DynamicMixtures(speech, segment=0.0)
    path = tmp_path / "nobody.jsonl"
    path.write_text(json.dumps({"audio_filepath": "0.wav", "duration": 1.0}) + "\n")
    with pytest.raises(ValueError, match=r"nobody.jsonl, line 1: no speaker"):
        DynamicMixtures(Manifest(path))


@pytest.mark.parametrize("inner", ["", "audio"])
@pytest.mark.parametrize("name", ["mix", "mix_clean", "mix_both"])
def test_folders(tmp_path, inner, name):
    for k, folder in enumerate([name, "s1", "s2", "s3"]):
        for file in ("x.wav", "y.flac"):
            write(tmp_path / inner / folder / file, 0.5, seed=k)
    data = MixtureFolder(str(tmp_path))
    assert data.has_targets and [data[i]["id"] for i in range(2)] == ["x", "y"]
    assert data[0]["sources"].shape == (3, 8000)
    cut = MixtureFolder(str(tmp_path), segment=0.25)
    assert cut[0]["audio"].shape == (4000,) and cut[0]["sources"].shape == (3, 4000)


def test_a_folder_of_mixtures_only(tmp_path):
    write(tmp_path / "x.wav", 0.5, rate=8000)
    data = MixtureFolder(str(tmp_path))
    assert not data.has_targets
    assert data[0].keys() == {"id", "path", "seed", "recording"}
    cut = MixtureFolder(str(tmp_path), segment=0.25)
    assert cut[0]["audio"].shape == (4000,) and "sources" not in cut[0]


def test_faults_of_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        MixtureFolder(str(tmp_path / "nowhere"))
    write(tmp_path / "mix_clean" / "x.wav", 0.5)
    write(tmp_path / "s1" / "x.wav", 0.5)
    (tmp_path / "s2").mkdir()
    with pytest.raises(ValueError, match=r"x.wav: its source .*s2/x.wav is missing"):
        MixtureFolder(str(tmp_path))
    write(tmp_path / "s2" / "x.wav", 0.4)
    with pytest.raises(ValueError, match=r"s2/x.wav: 6400 samples at 16000 Hz, its mixture"):
        MixtureFolder(str(tmp_path))[0]
    write(tmp_path / "mix_both" / "x.wav", 0.5)
    with pytest.raises(ValueError, match="mix_clean, mix_both is wanted"):
        MixtureFolder(str(tmp_path))


@pytest.fixture
def librimix(tmp_path):
    write(tmp_path / "speech/dev/1.flac", 1.3, 1)
    write(tmp_path / "speech/dev/2.flac", 0.9, 2)
    write(tmp_path / "wham/cv/n.wav", 0.7, 3)
    row = {
        "mixture_ID": "1_2",
        "source_1_path": "dev/1.flac",
        "source_1_gain": 0.61,
        "source_2_path": "dev/2.flac",
        "source_2_gain": 0.47,
        "noise_path": "cv/n.wav",
        "noise_gain": 0.53,
    }
    with (tmp_path / "meta.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, row)
        table.writeheader()
        table.writerow(row)
    return tmp_path


def published(folder, mixture, mode, rate):
    """The recipe step by step, written to 16 bits as it is written there, and read again."""
    files = ("speech/dev/1.flac", "speech/dev/2.flac", "wham/cv/n.wav")
    *as_read, background = (soundfile.read(folder / file)[0] for file in files)
    longest = max(map(len, as_read))
    window = np.hanning(16001)
    up, down = window[:8001], window[:8001][::-1]
    whole = background
    while len(whole) < longest:
        seam = [whole[len(whole) - 8001 + i] * down[i] + background[i] * up[i] for i in range(8001)]
        whole = np.concatenate([whole[:-8001], seam, background[8001:]])
    parts = [as_read[0] * 0.61, as_read[1] * 0.47, whole[:longest] * 0.53]
    parts = [resample_poly(part, rate, 16000) for part in parts]
    size = (min if mode == "min" else max)(map(len, parts))
    parts = [np.pad(part[:size], (0, max(0, size - len(part)))) for part in parts]
    wanted = {"mix_clean": parts[:2], "mix_both": parts, "mix_single": [parts[0], parts[2]]}
    path = folder / "written.wav"
    soundfile.write(path, sum(wanted[mixture]), rate)
    return soundfile.read(path)[0]


@pytest.mark.parametrize("mixture", ["mix_clean", "mix_both", "mix_single"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_librimix_is_as_published(librimix, mixture, mode, rate):
    folder = librimix
    options = {"mixture": mixture, "mode": mode, "sample_rate": rate}
    data = LibriMix(
        str(folder / "meta.csv"), str(folder / "speech"), str(folder / "wham"), **options
    )
    item = data[0]
    wanted = published(folder, mixture, mode, rate)
    assert item["id"] == "1_2" and len(item["audio"]) == len(wanted)
    assert np.abs(item["audio"].numpy() - wanted).max() < 1 / 32768 + 1e-7  # a step, and float32
    assert item["sources"].shape == (1 if mixture == "mix_single" else 2, len(wanted))
    if mixture == "mix_clean":
        torch.testing.assert_close(item["audio"], item["sources"].sum(0))


def test_librimix_asks_for_what_it_needs(librimix):
    folder = librimix
    speech = str(folder / "speech")
    with pytest.raises(ValueError, match="needs the folder of the noises"):
        LibriMix(str(folder / "meta.csv"), speech, mixture="mix_both")
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such file"):
        LibriMix(str(folder / "gone.csv"), speech)
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv: no column mixture_ID"):
        LibriMix(str(folder / "other.csv"), speech)
    rows = (folder / "meta.csv").read_text()
    for was, now, message in (
        ("source_2_gain", "other", "bad.csv: no column source_2_gain"),
        ("noise_gain", "other", "bad.csv: no column noise_gain"),
        ("0.47", "loud", "bad.csv, line 2: a gain is no number"),
    ):
        (folder / "bad.csv").write_text(rows.replace(was, now))
        with pytest.raises(ValueError, match=message):
            LibriMix(str(folder / "bad.csv"), speech, str(folder / "wham"))
    with pytest.raises(ValueError, match="24000 Hz"):
        LibriMix(str(folder / "meta.csv"), speech, sample_rate=24000)
    write(folder / "wham/cv/n.wav", 0.5, 3)
    options = {"mixture": "mix_both", "sample_rate": 16000}
    with pytest.raises(ValueError, match=r"n.wav: 8000 samples"):
        LibriMix(str(folder / "meta.csv"), speech, str(folder / "wham"), **options)[0]
    (folder / "speech/dev/2.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"2.flac: no such audio file"):
        LibriMix(str(folder / "meta.csv"), speech)
