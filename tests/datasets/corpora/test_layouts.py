"""Corpora in their published layouts: small trees, downloads, and clear errors."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate

from scripts.train_subwords import main as train_subwords
from src.datasets.corpora import golos, mls, open_stt, speech_commands, tedlium
from src.datasets.corpora.an4 import AN4
from src.datasets.corpora.gigaspeech import GigaSpeech
from src.datasets.corpora.golos import Golos
from src.datasets.corpora.mls import MultilingualLibriSpeech
from src.datasets.corpora.open_stt import OpenSTT
from src.datasets.corpora.speech_commands import SpeechCommands
from src.datasets.corpora.speechocean import SpeechOcean762
from src.datasets.corpora.tedlium import TedLium
from src.datasets.corpora.voxforge import VoxForge
from src.datasets.splitting import position
from tests.demo import composed
from train import train

FORMATS = {".sph": ("NIST", "PCM_16"), ".opus": ("OGG", "OPUS")}


def sound(path, seconds=1.0):
    """A file with a rising tone, in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(path.suffix, seconds))


@cache
def encoded(ending, seconds):
    time = np.arange(round(16000 * seconds)) / 16000
    wave = 0.3 * np.sin(2 * np.pi * 300 * (time + time**2))
    format, subtype = FORMATS.get(ending, (ending[1:].upper(), None))
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format=format, subtype=subtype)
    return file.getvalue()


def lines(path, *texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def found(low, high, name):
    """The first of the names NAME0, NAME1, ... whose hash lies in a range."""
    names = (name.format(i) for i in count())
    return next(one for one in names if low <= position(one, 0) < high)


def make_mls(folder):
    place = folder / "mls_polish_opus"
    for split in ("train", "dev", "test"):
        sound(place / split / "audio" / "12" / "34" / "12_34_000000.opus", 1.2)
        lines(place / split / "transcripts.txt", f"12_34_000000\tjeden {split}")
        lines(place / split / "segments.txt", "12_34_000000\thttp://archive.org/a.mp3\t10.5\t11.7")


def make_tedlium(folder):
    place = folder / "TEDLIUM_release-3"
    for name in ("legacy/dev", "legacy/test", "data"):
        sound(place / name / "sph" / "Ann_2016.sph", 4.0)
        lines(
            place / name / "stm" / "Ann_2016.stm",
            ";; comment",
            "Ann_2016 1 inter_segment_gap 0 0.5 <o,,unknown> ignore_time_segment_in_scoring",
            "Ann_2016 1 Ann_2016 0.50 2.00 <o,f0,female> it 's <unk> a talk(2) {NOISE} get 'em",
            "Ann_2016 1 Ann_2016 2.00 2.50 <o,f0,female> <unk>",
            "Ann_2016 1 Ann_2016 2.50 4.05 <o,f0,female> the end",
        )


def make_gigaspeech(folder):
    segment = {"speaker": "N/A", "subsets": ["{XL}", "{XS}"], "begin_time": 1, "end_time": 2.25}
    texts = ("FOUR O'CLOCK <COMMA> SAID WE <PERIOD>", "<MUSIC>", "<PERIOD>")
    parts = [segment | {"text_tn": text} for text in texts]
    dev = segment | {"text_tn": "DEV", "subsets": ["{DEV}"], "begin_time": 0.5, "end_time": 1.0}
    test = segment | {"text_tn": "TEST", "subsets": ["{TEST}"], "speaker": "Ben"}
    audios = [{"aid": f"P{i}", "path": f"audio/p/P{i}.opus", "segments": parts} for i in range(2)]
    audios[1] = audios[1] | {"segments": [dev, test]}
    for audio in audios:
        sound(folder / audio["path"], 3.0)
    whole = {"dataset": "GigaSpeech", "audios": audios, "version": "v1"}
    (folder / "GigaSpeech.json").write_text(json.dumps(whole, indent=1))


SENTENCES = [found(0.0, 0.005, "вал {}"), *(found(0.1 * i, 1.0, "да {}") for i in range(1, 5))]


def make_golos(folder):
    for name in ("train_opus", "test_opus/crowd", "test_opus/farfield"):
        texts = SENTENCES if name == "train_opus" else ["купи iPhone за 5 рублей", "ещё ёж"]
        place = folder / "golos_opus" / name
        rows = []
        for i, text in enumerate(texts):
            sound(place / "files" / f"{i}.opus", 3.0)
            rows.append({"id": str(i), "audio_filepath": f"files/{i}.opus"})
            rows[-1] |= {"duration": 3.0, "text": text}
        lines(place / "manifest.jsonl", *(json.dumps(row, ensure_ascii=False) for row in rows))
        lines(place / "10min.jsonl", json.dumps(rows[1], ensure_ascii=False))


def make_open_stt(folder):
    for name in ("radio_2", "asr_calls_2_val"):
        sound(folder / name / "0" / "a1" / "b2c3.opus", 1.5)
        lines(folder / name / "0" / "a1" / "b2c3.txt", "да нет")
        path = f"{name}/0/a1/b2c3"
        lines(folder / "manifests" / f"{name}.csv", f"{path}.wav,{path}.txt,1.5")


SPEAKERS = {
    "train": found(0.1, 1.0, "Ann{}"),
    "val": found(0.0, 0.05, "Val{}"),
    "test": found(0.05, 0.1, "Tess{}"),
}


def make_voxforge(folder):
    for ending, speaker in zip(("wav", "flac", "wav"), SPEAKERS.values(), strict=True):
        session = folder / f"{speaker}-20080318-kdl"
        sound(session / ending / f"a0001.{ending}")
        prompts = ("mfc/a0001\tО+н НЕ ответил", "mfc/a0002 NOT RECORDED", "mfc/a0001")
        lines(session / "etc" / "PROMPTS", *(f"{session.name}/{prompt}" for prompt in prompts))
    (folder / "broken" / "etc").mkdir(parents=True)
    (folder / "broken" / "etc" / "PROMPTS").write_bytes(b"a0001 \xff\n")


OCEAN = {"train": found(0.1, 1.0, "{:04d}"), "val": found(0.0, 0.1, "{:04d}")}


def make_speechocean(folder):
    scores = {}
    for split, speakers in (("train", list(OCEAN.values())), ("test", ["0003"])):
        names = {speaker: f"0{speaker}0011" for speaker in speakers}
        for speaker, name in names.items():
            sound(folder / "WAVE" / f"SPEAKER{speaker}" / f"{name}.WAV")
            scores[name] = {"accuracy": 8, "total": 9, "words": []}
        for file, value in (
            ("wav.scp", "{1}\tWAVE/SPEAKER{0}/{1}.WAV"),
            ("text", "{1}\tWE CALL IT BEAR"),
            ("utt2spk", "{1}\t{0}"),
            ("spk2age", "{0}\t6"),
            ("spk2gender", "{0}\tm"),
        ):
            lines(folder / split / file, *(value.format(*pair) for pair in names.items()))
    lines(folder / "resource" / "scores.json", json.dumps(scores))


FASH = {"train": found(0.1, 1.0, "fash{}"), "val": found(0.0, 0.1, "mval{}")}


def make_an4(folder):
    for split, audio, speakers, line in (
        ("train", "an4_clstk", list(FASH.values()), "<s> YES H </s> (an1-{}-b)"),
        ("test", "an4test_clstk", ["fcaw"], "YES H (an1-{}-b)"),
    ):
        for speaker in speakers:
            sound(folder / "an4" / "wav" / audio / speaker / f"an1-{speaker}-b.sph")
        path = folder / "an4" / "etc" / f"an4_{split}.transcription"
        lines(path, *(line.format(speaker) for speaker in speakers))


def make_speech_commands(folder):
    place = folder / "speech_commands_v0.02"
    for word in ("yes", "no", "bed", "_background_noise_"):
        for speaker in ("a1", "b2", "c3"):
            sound(place / word / f"{speaker}_nohash_0.wav")
    lines(place / "validation_list.txt", "yes/b2_nohash_0.wav", "bed/b2_nohash_0.wav")
    lines(place / "testing_list.txt", "no/c3_nohash_0.wav", "yes/c3_nohash_0.wav")


@dataclass
class Layout:
    """A corpus: how its tree is made, the arguments of its class, and rows that it must have.

    Attributes:
        make: writes the tree to a folder.
        kind: the class.
        splits: arguments -> (text, speaker, offset, duration, language) of its rows.
        damage: file to change -> (content or None to remove it, words of the error).
        wrong: arguments -> words of the error.
    """

    make: object
    kind: type
    splits: list
    damage: dict = field(default_factory=dict)
    wrong: list = field(default_factory=list)


COMMANDS = {"labels": ["yes", "no"]}
LAYOUTS = {
    "mls": Layout(
        make_mls,
        MultilingualLibriSpeech,
        [
            ({"language": "polish", "split": split}, [(f"jeden {split}", "12", 0, 1.2, "pl")])
            for split in ("train", "dev", "test")
        ],
        {
            "mls_polish_opus/train/transcripts.txt": ("x", "line 1: 'x', wanted an utterance"),
            "mls_polish_opus/train/segments.txt": ("x\ty", "line 1: .*, wanted four columns"),
            "mls_polish_opus/train/audio/12/34/12_34_000000.opus": (None, "no such audio file"),
        },
        [
            ({"language": "russian", "split": "train"}, "language: 'russian'; dutch, english, "),
            ({"language": "polish", "split": "val"}, "split: 'val'; train, dev or test"),
            (
                {"language": "german", "split": "dev", "download": False},
                "has no dev/transcripts.txt, and no mls_german_opus/dev/transcripts.txt",
            ),
        ],
    ),
    "tedlium": Layout(
        make_tedlium,
        TedLium,
        [
            (
                {"split": split},
                [
                    ("it's a talk get 'em", "Ann_2016", 0.5, 1.5, "en"),
                    ("the end", "Ann_2016", 2.5, 1.5, "en"),
                ],
            )
            for split in ("train", "dev", "test")
        ],
        {
            "TEDLIUM_release-3/data/stm/Ann_2016.stm": ("A 1 A x y z", "'x', wanted a number of"),
            "TEDLIUM_release-3/data/sph/Ann_2016.sph": (None, "no such audio file"),
        },
        [({"split": "dev-clean"}, "split: 'dev-clean'; train, dev or test")],
    ),
    "gigaspeech": Layout(
        make_gigaspeech,
        GigaSpeech,
        [
            ({"subset": "XS"}, [("four o'clock said we", None, 1, 1.25, "en")]),
            ({"subset": "DEV"}, [("dev", None, 0.5, 0.5, "en")]),
            ({"subset": "TEST"}, [("test", "Ben", 1, 1.25, "en")]),
        ],
        {
            "GigaSpeech.json": ('{"audios": [{"aid": "A", ', "not whole, or not JSON"),
            "audio/p/P0.opus": (None, "P0.opus: no such audio file"),
        },
        [({"subset": "dev"}, "subset: 'dev'; XS, S, M"), ({"subset": "S"}, "no utterances left")],
    ),
    "golos": Layout(
        make_golos,
        Golos,
        [
            ({"split": "train"}, [(text, None, 0, 3, None) for text in SENTENCES[1:]]),
            ({"split": "train", "subset": "10min"}, [(SENTENCES[1], None, 0, 3, None)]),
            ({"split": "val"}, [(SENTENCES[0], None, 0, 3, None)]),
            (
                {"split": "test_crowd"},
                [("купи iPhone за 5 рублей", None, 0, 3, None), ("ещё ёж", None, 0, 3, None)],
            ),
        ],
        {"golos_opus/train_opus/manifest.jsonl": (None, "no such manifest")},
        [({"split": "dev"}, "split: 'dev'"), ({"split": "val", "subset": "1h"}, "subset: '1h'")],
    ),
    "open_stt": Layout(
        make_open_stt,
        OpenSTT,
        [
            ({"name": name, "download": False}, [("да нет", None, 0, 1.5, "ru")])
            for name in ("radio_2", "asr_calls_2_val")
        ],
        {
            "manifests/radio_2.csv": ("a.wav,b.txt", "line 1: duration is null"),
            "radio_2/0/a1/b2c3.txt": (None, "no such transcript"),
            "radio_2/0/a1/b2c3.opus": (None, "b2c3.wav: no such audio file"),
        },
        [({"name": "radio_9", "download": False}, "radio_9.csv: no such manifest")],
    ),
    "voxforge": Layout(
        make_voxforge,
        VoxForge,
        [
            (
                {"split": split, "language": "ru"},
                [("он не ответил", speaker, 0, 1, "ru")],
            )
            for split, speaker in SPEAKERS.items()
        ],
        {},
        [
            ({"split": "train", "language": "fr"}, "language: 'fr'; en or ru"),
            ({"split": "dev"}, "split: 'dev'; val, test or train"),
        ],
    ),
    "speechocean762": Layout(
        make_speechocean,
        SpeechOcean762,
        [
            ({"split": split}, [("we call it bear", speaker, 0, 1, "en")])
            for split, speaker in (OCEAN | {"test": "0003"}).items()
        ],
        {
            "train/utt2spk": (None, "no such file"),
            "train/wav.scp": ("000010011 sox x |", "is a command, which is not executed"),
            "resource/scores.json": ("[]", "wanted a JSON object"),
        },
        [({"split": "dev"}, "split: 'dev'; train, val or test")],
    ),
    "an4": Layout(
        make_an4,
        AN4,
        [
            ({"split": split}, [("yes h", speaker, 0, 1, "en")])
            for split, speaker in (FASH | {"test": "fcaw"}).items()
        ],
        {
            "an4/etc/an4_train.transcription": ("YES (x)", "wanted a text and .utterance-speaker"),
            f"an4/wav/an4_clstk/{FASH['train']}/an1-{FASH['train']}-b.sph": (None, "no such audio"),
        },
        [({"split": "dev"}, "split: 'dev'; train, val or test")],
    ),
    "speech_commands": Layout(
        make_speech_commands,
        SpeechCommands,
        [
            (COMMANDS | {"split": split}, [(word, speaker, 0, 1, "en") for word, speaker in rows])
            for split, rows in {
                "train": [("no", "a1"), ("no", "b2"), ("yes", "a1")],
                "val": [("yes", "b2")],
                "test": [("no", "c3"), ("yes", "c3")],
            }.items()
        ],
        {
            "speech_commands_v0.02/testing_list.txt": (None, "has no testing_list.txt; complete"),
            "speech_commands_v0.02/validation_list.txt": (None, "no such text file"),
        },
        [(COMMANDS | {"split": "dev"}, "split: 'dev'; train, val or test")],
    ),
}


def opened(layout, folder, arguments):
    return layout.kind(folder=str(folder), **arguments)


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layout(name, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    for arguments, wanted in layout.splits * 2:  # the second time from the index
        dataset = opened(layout, tmp_path, arguments)
        rows = [
            (row.text, row.speaker, row.offset, row.duration, row.lang) for row in dataset.manifest
        ]
        assert rows == wanted
        for i, row in enumerate(wanted):
            assert len(dataset[i]["audio"]) == pytest.approx(16000 * row[3], abs=160)


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, one in LAYOUTS.items() for path in one.damage]
)
def test_damaged_tree(name, path, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    content, words = layout.damage[path]
    (tmp_path / path).unlink()
    if content is not None:
        lines(tmp_path / path, content)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as error:
        opened(layout, tmp_path, layout.splits[0][0])
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize(
    ("name", "number"), [(name, i) for name, one in LAYOUTS.items() for i in range(len(one.wrong))]
)
def test_what_is_not_there(name, number, tmp_path):
    layout = LAYOUTS[name]
    layout.make(tmp_path)
    arguments, words = layout.wrong[number]
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        opened(layout, tmp_path, arguments)


@pytest.mark.parametrize("name", ["gigaspeech", "open_stt", "voxforge", "speechocean762", "an4"])
def test_empty_folder(name, tmp_path):
    layout = LAYOUTS[name]
    with pytest.raises(FileNotFoundError, match=r"no such|no sessions"):
        opened(layout, tmp_path, layout.splits[0][0])
    assert not list(tmp_path.rglob("*.jsonl"))


def packed(web, folder, inside, name):
    """A tar archive of a folder, and its MD5 and SHA-256."""
    with tarfile.open(web / name, "w:gz" if name.endswith("gz") else "w") as tar:
        tar.add(folder / inside, inside)
    data = (web / name).read_bytes()
    return hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["mls", "tedlium", "golos", "speech_commands"])
def published(request, tmp_path, server, monkeypatch):
    """A corpus on the server: its layout, and a function that publishes another checksum."""
    layout, web, made = LAYOUTS[request.param], tmp_path / "web", tmp_path / "made"
    layout.make(made)
    if request.param == "mls":
        md5, _ = packed(web, made, "mls_polish_opus", "mls_polish_opus.tar.gz")
        monkeypatch.setattr(mls, "URL", server.url)

        def publish(checksum):
            listed = ("0" * 32 + "  mls_lm.tar.gz", f"{checksum}  mls_polish_opus.tar.gz")
            lines(web / "md5sum.txt", *listed)

        publish(md5)
        return layout, publish
    modules = {"tedlium": tedlium, "golos": golos, "speech_commands": speech_commands}
    module = modules[request.param]
    inside, name = module.ARCHIVE.folder, module.ARCHIVE.name
    md5, sha256 = packed(web, made, inside, name)

    def publish(checksum):
        url = f"{server.url}/{name}"
        monkeypatch.setattr(module, "ARCHIVE", replace(module.ARCHIVE, url=url, checksum=checksum))

    publish(md5 if module is golos else sha256)
    return layout, publish


def test_broken_download_is_resumed(published, tmp_path, server):
    layout, _ = published
    data = tmp_path / "data"
    server.handler.cut_offs = 1
    with pytest.raises(ValueError, match=r"connection closed after .* run again to resume"):
        opened(layout, data, layout.splits[0][0])
    for arguments, wanted in layout.splits:
        assert len(opened(layout, data, arguments)) == len(wanted)
    assert sum(1 for asked in server.handler.asked if asked) == 1  # the rest of the archive, once
    assert len(list(data.iterdir())) == 1


def test_wrong_checksum(published, tmp_path):
    layout, publish = published
    publish("0" * 32)
    with pytest.raises(ValueError, match=r"damaged: (MD5|SHA-256) \w+, expected 0000"):
        opened(layout, tmp_path / "data", layout.splits[0][0])
    assert not list((tmp_path / "data").iterdir())


def test_missing_archive(published, tmp_path):
    layout, _ = published
    for path in (tmp_path / "web").glob("*.t*gz"):
        path.unlink()
    (tmp_path / "web" / "golos_opus.tar").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="could not be downloaded .HTTP Error 404"):
        opened(layout, tmp_path / "data", layout.splits[0][0])


def test_list_without_the_checksum(tmp_path, server, monkeypatch):
    monkeypatch.setattr(mls, "URL", server.url)
    own = {"folder": str(tmp_path / "data"), "language": "polish", "split": "dev"}
    with pytest.raises(ValueError, match=r"md5sum.txt: could not be read .HTTP Error 404"):
        MultilingualLibriSpeech(**own)
    lines(tmp_path / "web" / "md5sum.txt", "x mls_dutch.tar.gz")
    with pytest.raises(ValueError, match=r"md5sum.txt: has no checksum of mls_polish_opus.tar.gz"):
        MultilingualLibriSpeech(**own)


def test_part_of_a_corpus(tmp_path):
    make_mls(tmp_path)
    (tmp_path / "mls_polish_opus" / "train" / "transcripts.txt").unlink()
    with pytest.raises(ValueError, match=r"has no train/transcripts.txt; complete or remove"):
        opened(LAYOUTS["mls"], tmp_path, {"language": "polish", "split": "train"})


def test_archives_of_sessions(tmp_path, caplog):
    make_voxforge(tmp_path / "made")
    data = tmp_path / "data"
    data.mkdir()
    names = [f"{speaker}-20080318-kdl" for speaker in SPEAKERS.values()]
    packed(data, tmp_path / "made", names[0], f"{names[0]}.tgz")
    assert len(VoxForge(str(data), "train", "ru")) == 1
    assert "2 prompts left out" in caplog.text
    packed(data, tmp_path / "made", names[1], f"{names[1]}.tgz")  # one more, later
    assert len(VoxForge(str(data), "val", "ru")) == 1
    (data / "x.tgz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"x.tgz: not a readable archive"):
        VoxForge(str(data), "train", "ru")


def test_scores_are_in_the_rows(tmp_path):
    make_speechocean(tmp_path)
    extra = SpeechOcean762(str(tmp_path), "test").manifest[0].extra
    assert (extra["accuracy"], extra["total"], extra["age"], extra["gender"]) == (8, 9, "6", "m")


def test_raw_audio(tmp_path):
    make_an4(tmp_path)
    path = next(tmp_path.rglob("*fcaw-b.sph"))
    path.rename(path.with_suffix(".raw"))
    with pytest.raises(ValueError, match=r"fcaw-b.raw: audio without a header; use an4_sphere"):
        AN4(str(tmp_path), "test")


def test_long_list_of_recordings(tmp_path, monkeypatch):
    make_gigaspeech(tmp_path)
    for size in (7, 40, 1000):  # entries that begin and end within a block, and don't
        monkeypatch.setattr("src.datasets.corpora.gigaspeech.BLOCK", size)
        (tmp_path / "DEV.jsonl").unlink(missing_ok=True)
        assert len(GigaSpeech(str(tmp_path), "DEV")) == 1


def test_russian_recipe(tmp_path, monkeypatch):
    make_golos(tmp_path)
    own = [f"datasets.train.folder={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    own += ["model=quartznet_demo", "model.encoder.block_defaults.out_channels=16", "device=cpu"]
    own += ["writer=nothing", "precision='no'", "trainer.test_on=[test_farfield]"]
    metrics = train(composed("asr_russian", "debug=smoke", *own))
    assert metrics["test_farfield/WER"] > 0

    manifest = tmp_path / "golos_opus" / "test_opus" / "crowd" / "manifest.jsonl"
    words = ["train_subwords", manifest, tmp_path / "m", "--size", "40", "--language", "ru"]
    words += ["--fold-yo", "--latin", "transliterate"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    train_subwords()
    own = ["text_encoder=russian_subwords", f"text_encoder.model={tmp_path / 'm'}"]
    encoder = instantiate(composed("asr_russian", *own).text_encoder)
    ids = encoder.encode("Купи iPhone за 5 рублей, ещё!")
    assert encoder.decode(ids) == "купи ифоне за пять рублей еще"


def test_parts_of_open_stt_are_downloaded(tmp_path, server, monkeypatch):
    made, web = tmp_path / "made", tmp_path / "web"
    make_open_stt(made)
    (web / "archives").mkdir(parents=True)
    shutil.copytree(made / "manifests", web / "manifests")
    name = "asr_calls_2_val"
    archive, _ = packed(web / "archives", made, name, f"{name}.tar.gz")
    table = hashlib.md5((web / "manifests" / f"{name}.csv").read_bytes()).hexdigest()
    lines(web / "md5sum.lst", f"{archive} archives/{name}.tar.gz", f"{table} manifests/{name}.csv")
    monkeypatch.setattr(open_stt, "URL", server.url)
    monkeypatch.setattr(open_stt, "CHECKSUMS", f"{server.url}/md5sum.lst")
    data = tmp_path / "data"
    with pytest.raises(ValueError, match=r"md5sum.lst: has no checksum of radio_9.csv"):
        OpenSTT("radio_9", str(data))
    assert not data.exists()
    server.handler.cut_offs = 1
    with pytest.raises(ValueError, match=r"tar.gz: could not be downloaded .* run again to resume"):
        OpenSTT(name, str(data))
    assert [row.text for row in OpenSTT(name, str(data)).manifest] == ["да нет"]
    (web / "md5sum.lst").unlink()
    assert len(OpenSTT(name, str(data))) == 1  # nothing is asked for again
