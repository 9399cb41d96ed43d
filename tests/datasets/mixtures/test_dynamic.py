"""Mixtures as they happen in rooms: times, reverberation, noise, microphones, codecs."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from src.datasets.loading.collate import collate
from src.datasets.manifest import Manifest
from src.datasets.mixtures.dynamic import DynamicMixtures
from src.datasets.mixtures.rooms import RecordedRooms, SimulatedRooms, reverberated
from src.datasets.mixtures.timeline import Timeline, total
from src.transforms.wave.band import BandLimit
from src.transforms.wave.clipping import Clipping
from src.transforms.wave.codec import Codec
from src.transforms.wave.noise import AddNoise
from src.transforms.wave.speed import Speed
from src.utils.random import generator

RATE = 8000
LENGTHS = {"a": [0.5, 0.8], "b": [0.7], "c": [0.4, 0.9], "d": [0.6]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Utterances of four speakers, two rooms, of which one has three places, and noise."""
    place, rng = tmp_path_factory.mktemp("rooms"), np.random.default_rng(0)
    rows = []
    for speaker, lengths in LENGTHS.items():
        for k, seconds in enumerate(lengths):
            # Never zero, so that times can be read from the mixtures.
            samples = rng.choice([-1, 1], round(seconds * RATE)) * rng.uniform(0.05, 0.2)
            soundfile.write(place / f"{speaker}{k}.wav", samples, RATE)
            row = {"audio_filepath": f"{speaker}{k}.wav", "duration": seconds, "speaker": speaker}
            rows.append(json.dumps(row))
    (place / "speech.jsonl").write_text("\n".join(rows) + "\n")
    for name, peak in (("hall/1", 90), ("hall/2", 70), ("hall/3", 10), ("office/1", 40)):
        response = 0.1 * rng.standard_normal(800) * np.exp(-np.arange(800) / 100)
        response[:peak], response[peak] = 0, -0.9
        (place / "rooms" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / "rooms" / f"{name}.wav", response, RATE, subtype="FLOAT")
    (place / "noise").mkdir()
    soundfile.write(place / "noise/n.wav", 0.1 * rng.standard_normal(2 * RATE), RATE)
    return place


def mixtures(folder, **options):
    return DynamicMixtures(Manifest(folder / "speech.jsonl"), sample_rate=RATE, **options)


def in_rooms(folder, **options):
    """Everything at once."""
    everything = {
        "num_speakers": 3,
        "min_speakers": 1,
        "segment": 0.8,
        "timeline": Timeline(max_turns=2),
        "room": RecordedRooms(str(folder / "rooms"), RATE),
        "noises": {"noise": AddNoise(str(folder / "noise"), sample_rate=RATE)},
        "microphone": {"band": BandLimit(50, 300, 2000, 3800, sample_rate=RATE)},
        "distortions": {"clipping": Clipping(p=0.5), "codec": Codec(sample_rate=RATE, p=0.5)},
    }
    return mixtures(folder, **everything | options)


# Times ------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0.0, 0.3, 1.0])
def test_overlap_of_neighbours(overlap):
    timeline = Timeline(overlap, overlap, pause_prob=0)
    lengths = [2.0, 3.0, 1.0, 1.5]
    for seed in range(5):
        draw = generator(seed)
        starts = timeline.draw_starts(draw, [0, 1, 2, 3], lengths)
        for k in range(3):
            ends = [start + length for start, length in zip(starts, lengths, strict=True)]
            shared = min(ends[k], ends[k + 1]) - max(starts[k], starts[k + 1])
            assert shared == pytest.approx(overlap * min(lengths[k], lengths[k + 1]))


def test_pauses_and_turns():
    timeline = Timeline(pause_prob=1, min_pause=0.2, max_pause=0.4, max_turns=3)
    order = timeline.draw_order(generator(1), 3)
    assert set(order) == {0, 1, 2} and max(order.count(k) for k in range(3)) > 1
    starts = timeline.draw_starts(generator(2), order, [1.0] * len(order))
    pauses = np.diff(starts) - 1
    assert (pauses >= 0.2).all() and (pauses < 0.4).all()
    assert total(starts, [1.0] * len(order)) <= timeline.longest(3, 1.0)
    alone = Timeline(1, 1, pause_prob=0).draw_starts(generator(3), [0, 1, 0], [2.0, 1.0, 3.0])
    assert alone[2] >= 2  # nobody speaks over themselves


@pytest.mark.parametrize("segment", [0.5, 3.0, None])
def test_times_in_mixtures(folder, segment):
    timeline = Timeline(0.5, 0.5, pause_prob=0)
    data = mixtures(folder, segment=segment, timeline=timeline)
    for i in range(len(data)):
        item = data[i]
        spoken = item["sources"] != 0
        shorter = spoken.sum(1).min().item()
        assert (spoken[0] & spoken[1]).sum().item() == pytest.approx(0.5 * shorter, abs=2)
        whole = spoken.any(0).sum().item()
        if segment is None:
            assert abs(whole - len(item["audio"])) <= 2
            assert len(item["audio"]) / RATE <= data.durations[i]
        else:
            assert len(item["audio"]) == round(segment * RATE)
            assert segment > 1 or abs(whole - len(item["audio"])) <= 2  # shortened to fit
        assert item["num_speakers"] == 2
        torch.testing.assert_close(item["audio"], item["sources"].sum(0))


def test_turns_are_of_their_speaker(folder):
    data = mixtures(folder, timeline=Timeline(0, 0, pause_prob=1, max_turns=3))
    sizes = [data[i]["sources"].count_nonzero(1).tolist() for i in range(len(data))]
    assert max(max(size) for size in sizes) > 0.9 * RATE  # more than the longest utterance
    names = [data[i]["id"].split("_") for i in range(len(data))]
    for own, speakers in zip(sizes, names, strict=True):
        for size, name in zip(own, speakers, strict=True):
            lengths = [round(seconds * RATE) for seconds in LENGTHS[name[0]]]
            sums = {a + b + c for a in (0, *lengths) for b in (0, *lengths) for c in lengths}
            assert size in sums


# Numbers of speakers ----------------------------------------------------------------------


def test_one_to_all_speakers(folder):
    data = mixtures(folder, num_speakers=3, min_speakers=1, segment=0.5)
    counts = []
    for epoch in range(4):
        for i in range(len(data)):
            item = data[epoch, i]
            counts.append(item["num_speakers"])
            silent = item["sources"].abs().amax(1) == 0
            assert item["sources"].shape == (3, 4000)
            assert silent.tolist() == [k >= counts[-1] for k in range(3)]
            assert len(item["id"].split("_")) == counts[-1]
            torch.testing.assert_close(item["audio"], item["sources"].sum(0))
    assert min(counts.count(k) for k in (1, 2, 3)) >= 3
    batch = collate([data[0], data[1]])
    assert batch["num_speakers"].tolist() == [data[0]["num_speakers"], data[1]["num_speakers"]]
    assert mixtures(folder, segment=0.5, single_speaker_prob=1)[0]["num_speakers"] == 1


# Rooms ------------------------------------------------------------------------------------


def test_reverberation_keeps_the_delay():
    source, response = torch.zeros(100), torch.zeros(60)
    source[10] = 1.0
    response[30], response[35], response[58] = -0.5, 0.2, 0.1
    heard, direct = reverberated(source, response, RATE)
    wanted = torch.zeros(len(heard))
    wanted[10], wanted[15] = -0.5, 0.2  # 2.5 ms around the peak
    torch.testing.assert_close(direct, wanted, atol=1e-6, rtol=0)
    wanted[38] = 0.1
    torch.testing.assert_close(heard, wanted, atol=1e-6, rtol=0)


def test_targets_in_rooms(folder):
    room = RecordedRooms(str(folder / "rooms"), RATE)
    options = {"segment": 0.5, "room": room, "low": -30, "high": -30}
    dry, wet = mixtures(folder, **options), mixtures(folder, targets="reverberant", **options)
    plain = mixtures(folder, segment=0.5)
    for i in range(3):
        assert torch.equal(dry[i]["audio"], wet[i]["audio"])
        torch.testing.assert_close(wet[i]["audio"], wet[i]["sources"].sum(0))
        late = (wet[i]["sources"] - dry[i]["sources"]).square().sum()
        assert 0.01 < late / dry[i]["sources"].square().sum() < 1
        assert dry[i]["id"] == plain[i]["id"]
        level = 10 * torch.log10(wet[i]["sources"][0].square().sum() / 4000)
        assert level < -29.9  # of what is heard, where it isn't silent


def test_places_are_in_one_room(folder):
    room = RecordedRooms(str(folder / "rooms"), RATE)
    paths = room.recordings.paths
    kept = [room.recordings.whole(index) for index in range(len(paths))]
    seen = set()
    for seed in range(12):
        drawn = room.draw(generator(seed), 3)
        which = [next(k for k, r in enumerate(kept) if torch.equal(r, own)) for own in drawn]
        rooms = {paths[k].parent.name for k in which}
        assert len(rooms) == 1 and len(set(which)) == (3 if rooms == {"hall"} else 1)
        seen |= rooms
    assert seen == {"hall", "office"}


def test_errors_of_rooms(folder):
    room = RecordedRooms(str(folder / "rooms"), RATE)
    words = r"1.wav: a room response of 0.10 s, longer than a segment of 0.09 s"
    with pytest.raises(ValueError, match=words):
        mixtures(folder, segment=0.09, room=room)
    with pytest.raises(ValueError, match=r"room.sample_rate: 16000; 8000, that of the mixtures"):
        mixtures(folder, room=RecordedRooms(str(folder / "rooms")))
    with pytest.raises(FileNotFoundError, match="nowhere: no such manifest"):
        RecordedRooms(str(folder / "nowhere"))
    with pytest.raises(ValueError, match=r"RecordedRooms.*source: null|RecordedRooms, source"):
        RecordedRooms(None)
    with pytest.raises(ValueError, match="targets: 'wet'; dry or reverberant"):
        mixtures(folder, targets="wet")
    with pytest.raises(ValueError, match="min_speakers: 3; a whole number from 1 to 2, or null"):
        mixtures(folder, min_speakers=3)
    with pytest.raises(ValueError, match=r"timeline.max_overlap: 1.5; a number from 0 to 1"):
        Timeline(max_overlap=1.5)
    with pytest.raises(ValueError, match=r"timeline.max_overlap: 0.1; a number from 0.5 to 1"):
        Timeline(0.5, 0.1)


def test_simulated_rooms(folder):
    pytest.importorskip("pyroomacoustics")
    options = {"max_size": (4.0, 4.0, 3.0), "max_rt60": 0.2, "max_order": 3, "sample_rate": RATE}
    room = SimulatedRooms(**options)
    first, second = room.draw(generator(0), 2)
    again = SimulatedRooms(**options).draw(generator(0), 2)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert not torch.equal(first[:100], second[:100]) and first.dtype == torch.float32
    item = mixtures(folder, segment=0.5, room=room)[0]
    assert item["num_speakers"] == 2 and item["audio"].isfinite().all()
    with pytest.raises(ValueError, match=r"max_rt60: 0.2 s, longer than a segment of 0.1 s"):
        mixtures(folder, segment=0.1, room=room)
    with pytest.raises(ValueError, match="SimulatedRooms, max_size: a|SimulatedRooms, max_size: 1"):
        SimulatedRooms(max_size=(1.0, 4.0, 3.0))
    with pytest.raises(ValueError, match=r"min_size: \[3\]; length, width and height"):
        SimulatedRooms(min_size=[3])


def test_simulated_rooms_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(ValueError, match="SimulatedRooms: needs `pip install pyroomacoustics`"):
        SimulatedRooms()


# Noise, microphones, codecs ---------------------------------------------------------------


def test_noise_is_in_the_mixture_alone(folder):
    noise = AddNoise(str(folder / "noise"), 10, 10, sample_rate=RATE)
    item = mixtures(folder, segment=0.5, noises={"noise": noise})[0]
    speech = item["sources"].sum(0)
    added = (item["audio"] - speech).square().sum()
    assert 10 * torch.log10(speech.square().sum() / added).item() == pytest.approx(10, abs=1e-3)


def test_a_microphone_filters_targets_alike(folder):
    band = BandLimit(300, 400, 2500, 3000, sample_rate=RATE)
    plain = mixtures(folder, segment=0.5)[0]
    item = mixtures(folder, segment=0.5, microphone={"band": band})[0]
    torch.testing.assert_close(item["audio"], item["sources"].sum(0), atol=1e-6, rtol=1e-4)
    spectra = [torch.fft.rfft(one["audio"]).abs() for one in (plain, item)]
    assert (spectra[1][:50] < 0.2 * spectra[0][:50].max()).all()  # below 100 Hz
    torch.testing.assert_close(spectra[1][400:1000], spectra[0][400:1000], rtol=0.3, atol=1.0)
    with pytest.raises(ValueError, match="speed: 4000 samples became .*a mixture keeps its length"):
        mixtures(folder, segment=0.5, microphone={"speed": Speed(factors=[0.5])})[0]


def test_distortions_are_in_the_mixture_alone(folder):
    options = {"segment": 0.5, "low": 0, "high": 0}
    plain = mixtures(folder, **options)[0]
    item = mixtures(folder, **options, distortions={"clipping": Clipping(0.3, 0.3)})[0]
    assert torch.equal(item["sources"], plain["sources"])
    assert item["audio"].abs().max() == pytest.approx(0.27, rel=1e-3)
    codec = {"codec": Codec(["mp3"], sample_rate=RATE)}
    coded = mixtures(folder, **options, distortions=codec)[0]
    assert coded["audio"].shape == plain["audio"].shape
    assert not torch.equal(coded["audio"], plain["audio"])


# Reproducibility --------------------------------------------------------------------------


def test_same_in_any_process_and_order(folder):
    data = in_rooms(folder)
    wanted = [data[3, i] for i in range(len(data))]
    keys = [(3, i) for i in range(len(data))]
    loader = DataLoader(in_rooms(folder), sampler=keys, batch_size=None, num_workers=2)
    for own, other in zip(wanted, loader, strict=True):
        assert own.keys() == other.keys() and own["id"] == other["id"]
        assert torch.equal(own["audio"], other["audio"])
        assert torch.equal(own["sources"], other["sources"])
        assert own["num_speakers"] == other["num_speakers"]
    late = in_rooms(folder)[3, 4]  # as after a resume
    assert torch.equal(late["audio"], wanted[4]["audio"])
    assert not torch.equal(data[4, 4]["audio"], wanted[4]["audio"])
    assert not torch.equal(in_rooms(folder, seed=1)[3, 4]["audio"], wanted[4]["audio"])
    assert all(item["audio"].shape == (6400,) for item in wanted)
