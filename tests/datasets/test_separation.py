"""Mixtures: made on the fly, in folders, and LibriMix."""

import csv
import json
import os

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from src.datasets.corpora.librimix import LibriMix
from src.datasets.manifest import Manifest
from src.datasets.mixtures.dynamic import DynamicMixtures
from src.datasets.mixtures.folders import MixtureFolder, Mixtures
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


def test_every_utterance_is_used_in_an_epoch(speech):
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


def test_limit_samples_the_whole_manifest(speech):
    data = DynamicMixtures(speech, segment=0.5, limit=3)
    assert [data[i]["id"][0] for i in range(3)] == ["0", "2", "4"]
    assert len(DynamicMixtures(speech, limit=100)) == 5


def test_mixture_depends_on_seed_epoch_and_index(speech):
    options = {"segment": 0.5, "sources": {"speed": Speed()}}
    data, same = DynamicMixtures(speech, **options), DynamicMixtures(speech, **options)
    other = DynamicMixtures(speech, seed=1, **options)
    assert torch.equal(data[3, 1]["audio"], same[3, 1]["audio"])
    assert not torch.equal(data[3, 1]["audio"], data[4, 1]["audio"])
    assert not torch.equal(data[3, 1]["audio"], other[3, 1]["audio"])


def test_utterances_are_cut_to_the_shortest(speech):
    item = DynamicMixtures(speech, num_speakers=3)[3]
    assert item["sources"].shape == (3, 4800)


def test_single_speaker(speech):
    item = DynamicMixtures(speech, segment=0.5, single_speaker_prob=1.0)[0]
    assert item["sources"][0].any() and not item["sources"][1].any()
    assert torch.equal(item["audio"], item["sources"][0])


def test_nothing_clips(speech):
    item = DynamicMixtures(speech, segment=0.5, low=0, high=0)[0]
    assert item["audio"].abs().max() <= 0.9 + 1e-6
    torch.testing.assert_close(item["audio"], item["sources"].sum(0))


def test_mixtures_need_speakers(speech, tmp_path):
    with pytest.raises(ValueError, match="3 speakers, too few for mixtures of 4"):
        DynamicMixtures(speech, num_speakers=4)
    with pytest.raises(ValueError, match=r"segment: 0.0; a number above 0, up to 3600, or null"):
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


def test_folder_without_sources(tmp_path):
    write(tmp_path / "x.wav", 0.5, rate=8000)
    data = MixtureFolder(str(tmp_path))
    assert not data.has_targets
    assert data[0].keys() == {"id", "path", "seed", "recording"}
    cut = MixtureFolder(str(tmp_path), segment=0.25)
    assert cut[0]["audio"].shape == (4000,) and "sources" not in cut[0]


def test_errors_of_folders(tmp_path):
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
    with pytest.raises(ValueError, match="holds mix_clean, mix_both; choose one by mixture=NAME"):
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
def test_librimix_equals_reference_recipe(librimix, mixture, mode, rate):
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


def test_missing_files_of_librimix(librimix):
    folder = librimix
    speech = str(folder / "speech")
    with pytest.raises(ValueError, match="wham: null; the folder of the noises, for mix_both"):
        LibriMix(str(folder / "meta.csv"), speech, mixture="mix_both")
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such table"):
        LibriMix(str(folder / "gone.csv"), speech)
    (folder / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv: no column mixture_ID"):
        LibriMix(str(folder / "other.csv"), speech)
    rows = (folder / "meta.csv").read_text()
    for was, now, message in (
        ("source_2_gain", "other", "bad.csv: no column source_2_gain"),
        ("noise_gain", "other", "bad.csv: no column noise_gain"),
        ("0.47", "loud", "bad.csv, line 2: source_2_gain is 'loud', wanted a number"),
    ):
        (folder / "bad.csv").write_text(rows.replace(was, now))
        with pytest.raises(ValueError, match=message):
            LibriMix(str(folder / "bad.csv"), speech, str(folder / "wham"))
    with pytest.raises(ValueError, match="sample_rate: 24000; at most 16000 Hz"):
        LibriMix(str(folder / "meta.csv"), speech, sample_rate=24000)
    write(folder / "wham/cv/n.wav", 0.5, 3)
    options = {"mixture": "mix_both", "sample_rate": 16000}
    with pytest.raises(ValueError, match=r"n.wav: 8000 samples"):
        LibriMix(str(folder / "meta.csv"), speech, str(folder / "wham"), **options)[0]
    (folder / "speech/dev/2.flac").unlink()
    with pytest.raises(FileNotFoundError, match=r"2.flac: no such audio file"):
        LibriMix(str(folder / "meta.csv"), speech)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("num_speakers", 0, "a whole number above 0"),
        ("num_speakers", 1.5, "a whole number above 0"),
        ("segment", "abc", "a number above 0, up to 3600, or null"),
        ("segment", 1e308, "a number above 0, up to 3600, or null"),
        ("low", float("nan"), "a number that is finite"),
        ("high", -60, "a number from -33 on"),
        ("single_speaker_prob", 2, "a number from 0 to 1"),
        ("limit", -1, "a whole number above 0, or null"),
    ],
)
def test_bad_options_of_dynamic_mixtures(speech, key, value, allowed):
    with pytest.raises(ValueError) as error:
        DynamicMixtures(speech, **{key: value})
    assert str(error.value) == f"{key}: {value!r}; {allowed}."


@pytest.mark.parametrize("name", ["fifo", "nan", "short"])
def test_unreadable_files_of_dynamic_mixtures(speech, tmp_path, name):
    path = tmp_path / "2.wav"
    path.unlink()
    if name == "fifo":
        os.mkfifo(path)
    else:
        value = np.nan if name == "nan" else 0.5
        size = 24000 if name == "nan" else 80
        soundfile.write(path, np.full(size, value), RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"line 3: .*2.wav: .*(FIFO|not finite|wanted 1.50)"):
        DynamicMixtures(speech)[2]
    assert "2.wav" in DynamicMixtures(speech, on_error="skip")[2]["error"]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([["a.wav", "b.wav"], 5], "line 2: sources is 5, wanted a list of paths"),
        ([["a.wav"], []], r"line 2: sources is \[\], wanted a list of paths"),
        ([["a.wav"], [3]], r"line 2: sources is \[3\], wanted"),
        ([["a.wav"], None], "line 2: 'm.wav' has no list of sources, but 1 of 2 rows have"),
        ([["a.wav"], ["a.wav", "b.wav"]], "line 2: 2 sources, wanted 1 as in .*line 1"),
    ],
)
def test_bad_lists_of_sources(tmp_path, sources, words):
    rows = [{"audio_filepath": "m.wav", "duration": 1.0, "sources": own} for own in sources]
    with pytest.raises(ValueError, match=words):
        Mixtures(Manifest.from_rows(rows, tmp_path / "m.jsonl"))


def test_sources_are_relative_to_the_manifest(tmp_path):
    for name in ("m.wav", "a.wav"):
        write(tmp_path / name, 0.5)
    row = {"audio_filepath": "m.wav", "duration": 0.5, "sources": ["a.wav"]}
    data = Mixtures(Manifest.from_rows([row], tmp_path / "m.jsonl"))
    assert data[0]["sources"].shape == (1, 8000)


def test_broken_sources_are_named(tmp_path):
    for folder in ("mix", "s1"):
        write(tmp_path / folder / "x.wav", 0.5)
    (tmp_path / "s1" / "x.wav").unlink()
    os.mkfifo(tmp_path / "s1" / "x.wav")
    with pytest.raises(ValueError, match=r"s1/x.wav: a FIFO"):
        MixtureFolder(str(tmp_path))[0]
    assert "s1/x.wav" in MixtureFolder(str(tmp_path), on_error="skip")[0]["error"]
    with pytest.raises(ValueError, match="segment: -1; a number above 0, or null"):
        MixtureFolder(str(tmp_path), segment=-1)


def test_bad_metadata_of_librimix(librimix):
    speech, path = str(librimix / "speech"), librimix / "bad.csv"
    text = (librimix / "meta.csv").read_text()
    for bad, words in (
        (text.replace("0.61", "nan"), "line 2: source_1_gain is 'nan'"),
        (text.replace("0.61", "1e308"), "line 2: source_1_gain is '1e308'"),
        (text.replace("dev/1.flac", ""), "line 2: source_1_path is ''"),
        (text.splitlines()[0] + "\n1_2,dev/1.flac\n", "line 2: source_2_path is null"),
        (text.splitlines()[0] + "\n", "has no rows"),
        (text + text.splitlines()[1] + "\n", "line 3: mixture_ID '1_2' occurs twice"),
        ("\xff", "not text in UTF-8"),
    ):
        path.write_text(bad, encoding="latin-1")
        with pytest.raises(ValueError, match=rf"bad.csv.*{words}"):
            LibriMix(str(path), speech)
    path.write_text(text.replace("1_2", "../../a b"))
    assert LibriMix(str(path), speech)[0]["id"] == ".._.._a_b"
    with pytest.raises(ValueError, match="LibriMix: mixture: 'mix'; mix_clean, mix_both or"):
        LibriMix(str(path), speech, mixture="mix")
    soundfile.write(librimix / "speech/dev/1.flac", np.zeros(0), 16000)
    with pytest.raises(ValueError, match=r"1.flac: (a header without|not readable)"):
        LibriMix(str(path), speech)
