"""Corpora of mixtures in small trees of their published layouts, against their scripts' steps."""

import json

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from scipy.signal import resample_poly

from src.datasets.corpora.libricss import LibriCss, LibriCssConversations
from src.datasets.corpora.librimix import LibriMix
from src.datasets.corpora.sparse_librimix import SparseLibriMix
from src.datasets.corpora.wham import Wham, WhamFolder
from src.datasets.corpora.wsj0_mix import Wsj0Mix, as_matlab
from src.utils.loudness import integrated_loudness
from src.utils.segments import Segment

RATE = 16000
STEP = 1 / 32768
SPEECH = ("wsj0/si_tr_s/40n/40na010x.wav", "wsj0/si_tr_s/01e/01eo031e.wav", "wsj0/x/20l.wav")


def write(path, seconds, seed, channels=1, rate=RATE, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    soundfile.write(path, level * np.random.default_rng(seed).standard_normal(shape), rate)
    return path


def assert_equal(item, mixture, sources):
    """Within a step of 16 bits, and float32."""
    assert item["audio"].shape == mixture.shape
    assert np.abs(item["audio"].numpy() - mixture).max() < STEP + 1e-7
    assert item["sources"].shape == (len(sources), len(mixture))
    assert np.abs(item["sources"].numpy() - np.stack(sources)).max() < STEP + 1e-7


# LibriMix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mixture", ["mix_clean", "mix_both", "mix_single"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_three_speakers_and_noise_of_librimix(tmp_path, mixture, mode):
    parts = [write(tmp_path / f"speech/{k}.flac", 0.5 + k / 10, k) for k in (1, 2, 3)]
    parts.append(write(tmp_path / "wham/tr/n.wav", 1.0, 4, channels=2))
    gains = [0.6, 0.5, 0.4, 0.3]
    columns = [f"source_{k}_{part}" for k in (1, 2, 3) for part in ("path", "gain")]
    values = ["1.flac", "0.6", "2.flac", "0.5", "3.flac", "0.4"]
    header = ",".join(["mixture_ID", *columns, "noise_path", "noise_gain"])
    line = ",".join(["1_2_3", *values, "tr/n.wav", "0.3"])
    (tmp_path / "libri3mix.csv").write_text(f"{header}\n{line}\n")
    folders = (str(tmp_path / "speech"), str(tmp_path / "wham"))
    options = {"mixture": mixture, "mode": mode, "sample_rate": 8000}
    item = LibriMix(str(tmp_path / "libri3mix.csv"), *folders, **options)[0]

    read = [soundfile.read(path, always_2d=True)[0][:, 0] for path in parts]
    read[3] = read[3][: len(read[2])]  # as much as the longest utterance
    made = [resample_poly(part * gain, 8000, RATE) for part, gain in zip(read, gains, strict=True)]
    size = (min if mode == "min" else max)(map(len, made[:3]))
    made = [np.pad(part[:size], (0, max(0, size - len(part)))) for part in made]
    kept = {"mix_clean": made[:3], "mix_both": made, "mix_single": [made[0], made[3]]}[mixture]
    assert_equal(item, sum(kept), made[:1] if mixture == "mix_single" else made[:3])


# WSJ0-2mix and WSJ0-3mix ------------------------------------------------------------------

LEVELS = {"40na010x": 4.9e-4, "01eo031e": 1.01e-3, "20l": 7.8e-4}


@pytest.fixture
def wsj0(tmp_path):
    for k, path in enumerate(SPEECH):
        write(tmp_path / path, 0.5 + k / 10, k, level=0.02)
    (tmp_path / "activlev").mkdir()
    lines = [f"{name} {level:.16e}\n" for name, level in LEVELS.items()]
    (tmp_path / "activlev/activlev_tr.txt").write_text("".join(lines))
    (tmp_path / "2.txt").write_text(f"{SPEECH[0]} 1.98568 {SPEECH[1]} -1.98568\n")
    (tmp_path / "3.txt").write_text(f"{SPEECH[0]} 0.45012 {SPEECH[1]} -0.45012 {SPEECH[2]} 0\n")
    return tmp_path


@pytest.mark.parametrize("speakers", [2, 3])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_wsj0_mix_equals_the_published_script(wsj0, speakers, mode, rate):
    folders = (str(wsj0), str(wsj0 / "activlev"))
    data = Wsj0Mix(str(wsj0 / f"{speakers}.txt"), *folders, mode, sample_rate=rate)
    item = data[0]
    decibels = [1.98568, -1.98568] if speakers == 2 else [0.45012, -0.45012, 0]
    read = [soundfile.read(wsj0 / path)[0] for path in SPEECH[:speakers]]
    parts = [resample_poly(part, rate, RATE) for part in read]
    longest = max(map(len, parts))
    powers = list(LEVELS.values())
    parts = [
        np.pad(part, (0, longest - len(part))) / np.sqrt(power) * 10 ** (own / 20)
        for part, power, own in zip(parts, powers, decibels, strict=False)
    ]
    if mode == "min":
        shortest = -(-len(read[0]) * rate // RATE)
        parts = [part[:shortest] for part in parts]
    mixture = sum(parts)
    gain = max(1, np.abs(mixture).max(), *(np.abs(part).max() for part in parts)) / 0.9
    assert_equal(item, mixture / gain, [part / gain for part in parts])
    names = ["40na010x_1.9857_01eo031e_-1.9857", "40na010x_0.45012_01eo031e_-0.45012_20l_0"]
    assert item["id"] == names[speakers - 2]
    assert data.durations[0] == pytest.approx(0.5 if mode == "min" else 0.4 + speakers / 10)
    cut = Wsj0Mix(str(wsj0 / "2.txt"), *folders, mode, segment=0.25, sample_rate=rate)
    assert cut[0]["audio"].shape == (rate // 4,) and cut[0]["sources"].shape == (2, rate // 4)


def test_levels_are_written_as_matlab_does():
    values = (0.0597141, -0.0597141, 1.67532, 0.0, 12.34567, 2.0)
    assert [as_matlab(v) for v in values] == [
        "0.059714",
        "-0.059714",
        "1.6753",
        "0",
        "12.3457",
        "2",
    ]


def test_bad_lists_of_wsj0_mix(wsj0):
    path, levels = wsj0 / "bad.txt", str(wsj0 / "activlev")
    good = (wsj0 / "2.txt").read_text()
    for text, error, words in (
        (good + "wsj0/gone.wav 0 wsj0/x/20l.wav 0\n", FileNotFoundError, r"line 2: .*gone.wav: no"),
        (good.replace("-1.98568", ""), ValueError, "line 1: 3 words, wanted a path and a level"),
        (good.replace("-1.98568", "loud"), ValueError, "line 1: a level in dB is 'loud', wanted"),
        (good + good, ValueError, "line 2: mixture .* occurs twice"),
        (good + f"{SPEECH[0]} 0\n", ValueError, "line 2: 1 speakers, wanted 2 as in .*line 1"),
        ("", ValueError, "bad.txt: has no lines"),
    ):
        path.write_text(text)
        with pytest.raises(error, match=words):
            Wsj0Mix(str(path), str(wsj0), levels)
    (wsj0 / "few.txt").write_text("40na010x 1e-3\n")
    with pytest.raises(ValueError, match="line 1: no active level of 01eo031e"):
        Wsj0Mix(str(wsj0 / "2.txt"), str(wsj0), str(wsj0 / "few.txt"))
    (wsj0 / "few.txt").write_text("40na010x 0\n")
    with pytest.raises(ValueError, match="few.txt, line 1: the level is 0, wanted"):
        Wsj0Mix(str(wsj0 / "2.txt"), str(wsj0), str(wsj0 / "few.txt"))
    with pytest.raises(FileNotFoundError, match="x: no list of levels"):
        Wsj0Mix(str(wsj0 / "2.txt"), str(wsj0), str(wsj0 / "wsj0/x"))
    with pytest.raises(ValueError, match="Wsj0Mix: sample_rate: 11025; 8000 or 16000"):
        Wsj0Mix(str(wsj0 / "2.txt"), str(wsj0), levels, sample_rate=11025)


# WHAM! and WHAMR! -------------------------------------------------------------------------

NAME = "40na010x_1.9857_01eo031e_-1.9857.wav"
SCALES = {"wsjmix": [[0.7, 0.9]], "wham_speech": [0.8], "wham_noise": [0.95]}


@pytest.fixture
def wham(tmp_path):
    for k, path in enumerate(SPEECH[:2]):
        write(tmp_path / path, 0.5 + k / 10, k)
    metadata = tmp_path / "wham_noise/metadata"
    write(tmp_path / "wham_noise/tr" / NAME, 1.0, 3, channels=2)
    metadata.mkdir()
    header = "utterance_id,noise_samples_beginning_16k,noise_samples_end_16k,target_speaker1_snr_db"
    (metadata / "mix_param_meta_tr.csv").write_text(f"{header}\n{NAME},3001,2000,1.5\n")
    arrays = {
        f"scaling_{key}_{rate}_{mode}": np.array(values)
        for key, values in SCALES.items()
        for rate in ("8k", "16k")
        for mode in ("min", "max")
    }
    names = np.array([NAME], dtype=object)  # pickled, as published
    np.savez(metadata / "scaling_tr.npz", utterance_id=names, **arrays)
    text = f"output_filename,s1_path,s2_path\n{NAME},{SPEECH[0]},{SPEECH[1]}\n"
    (tmp_path / "mix_2_spk_filenames_tr.csv").write_text(text)
    return tmp_path


def wham_arguments(folder):
    return [str(folder / name) for name in ("mix_2_spk_filenames_tr.csv", "", "wham_noise")]


@pytest.mark.parametrize("mixture", ["mix_clean", "mix_both", "mix_single"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_wham_equals_the_published_script(wham, mixture, mode, rate):
    data = Wham(*wham_arguments(wham), "tr", mixture, mode, sample_rate=rate)
    item = data[0]

    def scaled(path, gain):
        samples = soundfile.read(path, always_2d=True)[0][:, 0]
        return (resample_poly(samples, 8000, RATE) if rate == 8000 else samples) * gain

    speech = [
        np.float64(np.int16(np.round(2**15 * scaled(wham / path, gain)))) / 2**15 * 0.8
        for path, gain in zip(SPEECH, SCALES["wsjmix"][0], strict=False)
    ]
    noise = scaled(wham / "wham_noise/tr" / NAME, 0.95)
    start, longest = 3001 * rate // RATE, len(speech[1])
    if mode == "min":
        speech[1] = speech[1][: len(speech[0])]
        noise = noise[start : start + len(speech[0])]
    else:
        placed = np.zeros((2, len(noise)))
        for row, part in zip(placed, speech, strict=True):
            row[start : start + longest] = np.append(part, np.zeros(longest - len(part)))
        speech = list(placed)
    sources = speech[:1] if mixture == "mix_single" else speech
    assert_equal(item, sum(sources) + (0 if mixture == "mix_clean" else noise), sources)
    assert item["id"] == NAME.removesuffix(".wav")
    assert data.durations[0] == pytest.approx(0.5 if mode == "min" else 1.0)


def test_bad_metadata_of_wham(wham):
    files, *folders = wham_arguments(wham)
    metadata = wham / "wham_noise/metadata"
    table, scaling = metadata / "mix_param_meta_tr.csv", metadata / "scaling_tr.npz"
    text = table.read_text()
    with pytest.raises(FileNotFoundError, match=r"mix_param_meta_cv.csv: no such table"):
        Wham(files, *folders, "cv")
    with pytest.raises(ValueError, match="Wham: mixture: 'mix'; mix_clean, mix_both or mix_single"):
        Wham(files, *folders, "tr", "mix")
    for was, now, words in (
        ("3001", "-1", "line 2: noise_samples_beginning_16k is -1, wanted a whole number"),
        ("40na", "41na", f"filenames_tr.csv, line 2: '{NAME}' isn't in .*mix_param_meta_tr.csv"),
        ("utterance_id", "id", "mix_param_meta_tr.csv: no column utterance_id"),
    ):
        table.write_text(text.replace(was, now))
        with pytest.raises(ValueError, match=words):
            Wham(files, *folders, "tr")
    table.write_text(text.replace("3001", "9000"))
    with pytest.raises(ValueError, match=r"_-1.9857.wav: 16000 samples, wanted 17000"):
        Wham(files, *folders, "tr")[0]
    table.write_text(text)
    pickled = {f"scaling_{key}_16k_min": np.array([NAME], dtype=object) for key in SCALES}
    for arrays, words in (
        ({"other": np.zeros(1)}, "has no array scaling_wsjmix_16k_min"),
        (pickled, "not readable as arrays of numbers .*allow_pickle"),
        ({k: np.zeros(2) for k in pickled}, r"wsjmix_16k_min is float64 \[2\], wanted .* \[1, 2\]"),
    ):
        np.savez(scaling, **arrays)
        with pytest.raises(ValueError, match=words):
            Wham(files, *folders, "tr")
    scaling.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ValueError, match="not readable as arrays"):
        Wham(files, *folders, "tr")
    (wham / "wham_noise/tr" / NAME).unlink()
    scaling.unlink()
    with pytest.raises(FileNotFoundError, match="scaling_tr.npz: no such file of gains"):
        Wham(files, *folders, "tr")


def whamr_tree(folder, rate="8k", mode="min"):
    place = folder / f"wav{rate}" / mode / "tr"
    names = [f"{kind}_{room}" for kind in ("mix_clean", "mix_single", "mix_both", "s1", "s2")
             for room in ("anechoic", "reverb")]  # fmt: skip
    for k, name in enumerate([*names, "noise"]):
        write(place / name / NAME, 0.2, k, rate=int(rate[:-1]) * 1000)
    return place


def test_all_conditions_of_whamr(tmp_path):
    place = whamr_tree(tmp_path)
    for mixture in ("mix_clean", "mix_single", "mix_both"):
        for room in ("anechoic", "reverb"):
            for targets in ("anechoic", "reverb"):
                options = {"reverberation": room, "targets": targets, "sample_rate": 8000}
                item = WhamFolder(str(tmp_path), "tr", mixture, **options)[0]
                signals = {f"{mixture}_{room}": item["audio"], f"s1_{targets}": item["sources"][0]}
                assert len(item["sources"]) == (1 if mixture == "mix_single" else 2)
                if mixture != "mix_single":
                    signals[f"s2_{targets}"] = item["sources"][1]
                for name, signal in signals.items():
                    wanted = torch.from_numpy(soundfile.read(place / name / NAME)[0]).float()
                    assert torch.equal(signal, wanted)


def test_folders_of_wham(tmp_path):
    for rate, mode in (("8k", "max"), ("16k", "min")):
        for k, name in enumerate(("mix_clean", "mix_single", "mix_both", "s1", "s2", "noise")):
            path = tmp_path / f"wav{rate}" / mode / "tt" / name / NAME
            write(path, 0.2, k, rate=int(rate[:-1]) * 1000)
    item = WhamFolder(str(tmp_path), "tt", mode="max", sample_rate=8000)[0]
    assert item["audio"].shape == (1600,) and item["sources"].shape == (2, 1600)
    assert WhamFolder(str(tmp_path), "tt")[0]["audio"].shape == (3200,)
    with pytest.raises(FileNotFoundError, match=r"wav16k/max/tt: no such folder"):
        WhamFolder(str(tmp_path), "tt", mode="max")
    words = r"mix_both_reverb: no such folder \(of mixtures there are mix_both, mix_clean, mix_si"
    with pytest.raises(FileNotFoundError, match=words):
        WhamFolder(str(tmp_path), "tt", reverberation="reverb")
    with pytest.raises(ValueError, match="reverberation: 'wet'; anechoic, reverb or null"):
        WhamFolder(str(tmp_path), "tt", reverberation="wet")
    place = whamr_tree(tmp_path)
    for name in ("s1_reverb", "s2_reverb"):
        (place / name / NAME).unlink()
        (place / name).rmdir()
    options = {"reverberation": "reverb", "targets": "reverb", "sample_rate": 8000}
    with pytest.raises(FileNotFoundError, match="s1_reverb: no such folder of sources"):
        WhamFolder(str(tmp_path), "tr", **options)


# SparseLibriMix ---------------------------------------------------------------------------


@pytest.fixture
def sparse(tmp_path):
    write(tmp_path / "test-clean/1/2/a.flac", 1.0, 1)
    write(tmp_path / "test-clean/3/4/b.flac", 0.9, 2)
    write(tmp_path / "tt/n.wav", 1.5, 3, channels=2)

    def piece(file, source, start, first, last, level, **more):
        times = {"start": start, "orig_start": first, "orig_stop": last}
        return {"file": file, "words": ["a"], "lvl": level, "source": source, **times, **more}

    mixture = {
        "mixture_name": "mix_0000001",
        "s1": [
            piece("1/2/a.flac", "s1", 0.1, 0.05, 0.5, -30.6),
            piece("1/2/a.flac", "s1", 0.9, 0.6, 0.95, -29.3),
        ],
        "s2": [piece("3/4/b.flac", "s2", 0.45, 0.2, 0.85, -32.5)],
        "noise": [piece("n.wav", "noise", 0, 0.1, 1.43, -32.0, channel=1)],
    }
    (tmp_path / "metadata.json").write_text(json.dumps([mixture]))
    return tmp_path, mixture


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_sparse_librimix_equals_the_published_script(sparse, noisy, rate):
    folder, mixture = sparse
    arguments = [str(folder / name) for name in ("metadata.json", "test-clean", "tt")]
    name = "mix_noisy" if noisy else "mix_clean"
    data = SparseLibriMix(*arguments, name, sample_rate=rate)
    sources = {}
    for source in ("s1", "s2", "noise"):
        parts = []
        for values in mixture[source]:
            path = folder / ("tt" if source == "noise" else "test-clean") / values["file"]
            bounds = {"start": int(values["orig_start"] * RATE)}
            bounds["stop"] = int(values["orig_stop"] * RATE)
            samples = soundfile.read(path, always_2d=True, **bounds)[0][:, values.get("channel", 0)]
            samples = resample_poly(samples - samples.mean(), rate, RATE)
            loudness = integrated_loudness(samples, rate, 0.1)
            samples = samples * 10 ** ((values["lvl"] - loudness) / 20)
            parts.append(np.append(np.zeros(int(values["start"] * rate)), samples))
        sources[source] = parts
    size = max(len(part) for parts in sources.values() for part in parts)
    summed = {
        source: sum(np.append(part, np.zeros(size - len(part))) for part in parts)
        for source, parts in sources.items()
    }
    total = summed["s1"] + summed["s2"] + (summed["noise"] if noisy else 0)
    assert_equal(data[0], total, [summed["s1"], summed["s2"]])
    assert data[0]["id"] == "mix_0000001" and data.durations[0] == pytest.approx(size / rate, 1e-3)
    clean = SparseLibriMix(*arguments[:2], sample_rate=rate)[0]["audio"]
    assert len(clean) == int(0.9 * rate) + int(0.35 * rate)


def test_loudness_is_close_to_torchaudios():
    noise = np.random.default_rng(0).standard_normal(3 * RATE) * 0.05
    ours = integrated_loudness(noise, RATE)
    theirs = torchaudio.functional.loudness(torch.from_numpy(noise)[None], RATE).item()
    assert ours == pytest.approx(theirs, abs=0.3)  # which designs its shelf a little differently
    assert integrated_loudness(2 * noise, RATE) - ours == pytest.approx(20 * np.log10(2))
    paused = np.append(noise, np.zeros(5 * RATE))  # the pause is left out
    assert integrated_loudness(paused, RATE) == pytest.approx(ours, abs=0.3)
    assert integrated_loudness(np.zeros(RATE), RATE) == -np.inf
    with pytest.raises(ValueError, match=r"100 samples; the loudness needs 0.4 s"):
        integrated_loudness(noise[:100], RATE)


def test_bad_metadata_of_sparse_librimix(sparse):
    folder, mixture = sparse
    arguments = [str(folder / name) for name in ("bad.json", "test-clean", "tt")]
    with pytest.raises(ValueError, match="wham: null; the folder of the noises, for mix_noisy"):
        SparseLibriMix(*arguments[:2], mixture="mix_noisy")
    good = json.dumps([mixture])
    for text, error, words in (
        ("{", ValueError, "bad.json: not JSON"),
        ("{}", ValueError, "bad.json: no list of mixtures"),
        ('[{"s1": []}]', ValueError, "mixture 1: mixture_name is null, wanted a text"),
        (good.replace('"s2": [', '"s2": [], "s3": ['), ValueError, r"s2 is \[\], wanted a list"),
        (good.replace("b.flac", "gone.flac"), FileNotFoundError, "mixture 1: .*gone.flac: no such"),
        (good.replace("-32.5", '"loud"'), ValueError, "mixture 1: lvl of s2 is 'loud', wanted"),
        (good.replace("0.85", "0.1"), ValueError, r"3/4/b.flac from 0.2 to 0.1"),
        (good.replace('"channel": 1', '"channel": -1'), ValueError, "channel of noise is -1"),
    ):
        (folder / "bad.json").write_text(text)
        with pytest.raises(error, match=words):
            SparseLibriMix(*arguments)
    soundfile.write(folder / "test-clean/3/4/b.flac", np.zeros(16000), RATE)
    (folder / "bad.json").write_text(good)
    with pytest.raises(ValueError, match=r"b.flac: silent from second 0.2 on"):
        SparseLibriMix(*arguments)[0]


# LibriCSS ---------------------------------------------------------------------------------


@pytest.fixture
def libricss(tmp_path):
    for condition, ratio in (("0S", "0.0_sil0.1_0.5"), ("OV10", "10.0_sil0.1_1.0")):
        for number in (0, 1):
            name = f"overlap_ratio_{ratio}_session{number}_actual{ratio[:4].rstrip('_s')}"
            session = tmp_path / "for_release" / condition / name
            write(session / "record/raw_recording.wav", 0.3, number, channels=7)
            write(session / "clean/mix.wav", 0.25, number)
            (session / "transcription").mkdir()
            info = "start\tend\tspeaker\tutterance\ttext\n0.05\t0.2\t1089\t1089-1-2\tHE SAID\n"
            (session / "transcription/meeting_info.txt").write_text(info)
    return tmp_path


def test_sessions_of_libricss(libricss):
    data = LibriCss(str(libricss), ["0S", "OV10"], channel=3, sample_rate=8000)
    ids = [data[i]["id"] for i in range(len(data))]
    assert ids == ["0S_session0", "0S_session1", "OV10_session0", "OV10_session1"]
    assert not data.has_targets
    item = LibriCss(str(libricss / "for_release"), ["OV10"], channel=3)[1]
    place = libricss / "for_release/OV10/overlap_ratio_10.0_sil0.1_1.0_session1_actual10.0"
    wanted = soundfile.read(place / "record/raw_recording.wav", dtype="float32")[0][:, 3]
    assert torch.equal(item["audio"], torch.from_numpy(wanted))
    assert (item["file_rate"], item["file_frames"]) == (16000, 4800)
    talk = LibriCssConversations(str(libricss), ["OV10"], channel=3)
    assert talk.has_targets and talk[1]["segments"] == [Segment("1089", 0.05, 0.2, "HE SAID")]
    assert torch.equal(talk[1]["audio"], item["audio"]) and "segments" not in item
    assert data[3]["audio"].shape == (2400,) and data[3]["file_frames"] == 4800
    assert LibriCss(str(libricss), ["0S"], signal="clean")[0]["audio"].shape == (4000,)


def test_errors_of_libricss(libricss):
    with pytest.raises(FileNotFoundError, match=r"0L: no such folder \(of conditions there are 0S"):
        LibriCss(str(libricss))
    with pytest.raises(ValueError, match="LibriCss: conditions: 'OV50'; 0L, 0S, OV10, OV20, OV30"):
        LibriCss(str(libricss), ["OV50"])
    with pytest.raises(ValueError, match="LibriCss: channel: 7; a whole number from 0 to 6"):
        LibriCss(str(libricss), ["0S"], channel=7)
    session = next((libricss / "for_release/0S").iterdir())
    info = session / "transcription/meeting_info.txt"
    info.write_text("header\n0.1\t0.2\tx\n")
    with pytest.raises(ValueError, match=r"meeting_info.txt, line 2: 3 cells, wanted start, end"):
        LibriCss(str(libricss), ["0S"])
    info.write_text("header\n0.1\tlater\tx\ty\tz\n")
    with pytest.raises(ValueError, match="line 2: 'later', wanted a number of seconds"):
        LibriCss(str(libricss), ["0S"])
    (session / "record/raw_recording.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"session.*: .*raw_recording.wav: no such audio"):
        LibriCss(str(libricss), ["0S"])
    write(session / "record/raw_recording.wav", 0.3, 0)
    info.write_text("header\n")
    broken = LibriCss(str(libricss), ["0S"], channel=1, on_error="skip")
    errors = [broken[i].get("error", "") for i in range(2)]
    assert any("1 channels; wanted channel 2" in error for error in errors)
