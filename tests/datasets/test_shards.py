import io
import json
import shutil
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from src.datasets import shards
from src.datasets.corpora.forms import placed
from src.datasets.loading.loaders import LoaderOptions
from src.datasets.loading.train import TrainLoader
from src.datasets.manifest import Manifest, write_manifest
from src.datasets.manifest_dataset import ManifestDataset
from src.datasets.shard_index import expand, index_shards
from src.datasets.shards import ShardOptions, write_shards
from src.utils.audio import read_audio, recordings_in
from src.utils.audio_files import full_duration
from src.utils.byte_ranges import Remote
from tests.demo import sine
from tests.programs import call_script
from tests.range_server import range_server

QUICK = Remote(attempts=2, timeout=5, wait=0.01)
SMALL = 0.06  # megabytes, of which three utterances make a shard


def noise(path, seconds=0.5, subtype="PCM_16", rate=16000, channels=1, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(len(path.name))
    samples = draw.uniform(-0.5, 0.5, (round(rate * seconds), channels))
    soundfile.write(path, samples, rate, subtype=subtype, **options)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Eight files, two of one name, one with a dot in it and one with two utterances."""
    folder = tmp_path_factory.mktemp("corpus")
    names = ["a/1.wav", "b/1.wav", "a/2.5.wav", "a/3.flac", "a/4.wav", "a/5.wav", "a/6.wav"]
    rows = [
        {"audio_filepath": str(noise(folder / name).relative_to(folder)), "duration": 0.5}
        for name in names
    ]
    noise(folder / "long.flac", 1.5, "PCM_24")
    rows += [
        {"audio_filepath": "long.flac", "offset": start, "duration": 0.5} for start in (0, 0.75)
    ]
    for i, row in enumerate(rows):
        row |= {"text": f"text {i} ё", "speaker": f"s{i % 2}", "mine": i}
    write_manifest(folder / "all.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """Its shards; not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "shards"
    write_shards(Manifest(corpus / "all.jsonl"), folder, ShardOptions(megabytes=SMALL))
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(made, tmp_path / "copy")


def audio(manifest):
    return [
        read_audio(row.audio_filepath, 16000, row.offset, row.duration)
        for row in Manifest(manifest)
    ]


def test_shards_hold_what_the_files_do(corpus, made):
    files, own = Manifest(corpus / "all.jsonl"), Manifest(made / "manifest.jsonl")
    assert sorted(path.name for path in made.iterdir()) == [
        *(f"audio_{i}.tar" for i in range(4)),
        "manifest.jsonl",
    ]
    pairs = zip(audio(corpus / "all.jsonl"), audio(made / "manifest.jsonl"), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert [row.text for row in own] == [row.text for row in files]
    assert own[2].extra == {"mine": 2, "shard_id": 0}
    names = [row.audio_filepath.name for row in own]
    assert names[2:4] == ["2_5@3.wav", "3.flac"] and len(set(names)) == len(names)
    assert str(own[3].audio_filepath) == f"{made}/audio_1.tar/3.flac"


def test_shards_are_tar_files_of_samples(corpus, made):
    with tarfile.open(made / "audio_1.tar") as tar:
        names = tar.getnames()
        assert names == [
            f"{i}.{kind}" for i in "345" for kind in (("wav", "flac")[i == "3"], "json")
        ]
        assert tar.extractfile("3.flac").read() == (corpus / "a" / "3.flac").read_bytes()
        values = json.load(tar.extractfile("3.json"))
        assert values["text"] == "text 3 ё" and values["mine"] == 3


@pytest.mark.parametrize(("format", "suffix"), [("flac", ".flac"), ("opus", ".opus")])
def test_formats(corpus, tmp_path, format, suffix):
    write_shards(Manifest(corpus / "all.jsonl"), tmp_path / "out", ShardOptions(format=format))
    rows = list(Manifest(tmp_path / "out" / "manifest.jsonl"))
    assert {row.audio_filepath.suffix for row in rows} == {suffix}
    pairs = zip(
        audio(corpus / "all.jsonl"), audio(tmp_path / "out" / "manifest.jsonl"), strict=True
    )
    for files, own in pairs:
        assert len(files) == len(own)
        assert (
            torch.equal(files, own)
            if format == "flac"
            else torch.corrcoef(torch.stack([files, own]))[0, 1] > 0.5
        )


@pytest.mark.parametrize(
    ("name", "options", "format", "found"),
    [
        ("x.wav", {"subtype": "PCM_U8"}, "flac", ("FLAC", "PCM_S8")),
        ("x.wav", {"subtype": "FLOAT"}, "flac", ("FLAC", "PCM_24")),
        ("x.wav", {"subtype": "FLOAT"}, None, ("WAV", "FLOAT")),
        ("x.ogg", {"subtype": "VORBIS"}, None, ("FLAC", "PCM_16")),
        ("x.wav", {"rate": 11025, "channels": 2}, "opus", ("OGG", "OPUS")),
    ],
)
def test_what_is_cut_out_of_a_file(tmp_path, name, options, format, found):
    path = noise(tmp_path / name, 1.0, **options)
    row = {"audio_filepath": name, "offset": 0.25, "duration": 0.5}
    manifest = Manifest.from_rows([row], tmp_path / "m.jsonl")
    write_shards(manifest, tmp_path / "out", ShardOptions(format=format))
    [row] = Manifest(tmp_path / "out" / "manifest.jsonl")
    with soundfile.SoundFile(io.BytesIO(row.audio_filepath.read_bytes())) as file:
        assert (file.format, file.subtype) == found
        assert file.channels == options.get("channels", 1)
    own, whole = read_audio(row.audio_filepath, 16000), read_audio(path, 16000, 0.25, 0.5)
    assert abs(len(own) - len(whole)) <= 2
    if format != "opus":
        torch.testing.assert_close(own, whole, atol=2**-15, rtol=0)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_an_mp3_that_is_shorter_than_its_header_tells(tmp_path, offset):
    path = noise(tmp_path / "x.mp3", 4.0, "MPEG_LAYER_III")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    row = {"audio_filepath": "x.mp3", "offset": offset, "duration": full_duration(path) - offset}
    assert row["duration"] > 3
    manifest = Manifest.from_rows([row], tmp_path / "m.jsonl")
    write_shards(manifest, tmp_path / "out", ShardOptions(format="flac"))
    [row] = Manifest(tmp_path / "out" / "manifest.jsonl")
    assert 1 < row.duration < 3
    assert len(audio(tmp_path / "out" / "manifest.jsonl")[0]) == round(16000 * row.duration)
    row = {"audio_filepath": "x.mp3", "offset": 3.5, "duration": 0.5}
    manifest = Manifest.from_rows([row], tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="m.jsonl, line 1: .*x.mp3: no samples from second 3.5"):
        write_shards(manifest, tmp_path / "other", ShardOptions(format="flac"))


def test_channels_that_a_format_does_not_have(tmp_path):
    noise(tmp_path / "x.wav", channels=16)
    row = {"audio_filepath": "x.wav", "duration": 0.5}
    manifest = Manifest.from_rows([row], tmp_path / "m.jsonl")
    message = "m.jsonl, line 1: FLAC of PCM_16 can't hold 16 channels at 16000 Hz .Format not rec"
    with pytest.raises(ValueError, match=message):
        write_shards(manifest, tmp_path / "out", ShardOptions(format="flac"))


def test_shards_of_shards(made, tmp_path):
    options = ShardOptions(format="flac", address="s3://bucket/x/")
    write_shards(Manifest(made / "manifest.jsonl"), tmp_path / "out", options)
    rows = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["shard"] == "s3://bucket/x/audio_0.tar" and len(rows) == 9


def test_an_interrupted_call_is_continued(corpus, made, tmp_path, monkeypatch):
    manifest, out = Manifest(corpus / "all.jsonl"), tmp_path / "out"
    options, write = ShardOptions(megabytes=SMALL), shards.write_member

    def stop(file, name, data):
        if name == "4.wav":
            raise KeyboardInterrupt
        return write(file, name, data)

    monkeypatch.setattr(shards, "write_member", stop)
    with pytest.raises(KeyboardInterrupt):
        write_shards(manifest, out, options)
    left = sorted(path.name for path in out.iterdir())
    assert left == ["audio_0.tar", "unfinished.json", "unfinished_0.jsonl"]
    rows = [manifest.values(i) for i in range(9)]
    other = Manifest.from_rows([rows[0] | {"text": "else"}, *rows[1:]], corpus / "all.jsonl")
    for given, own in ((manifest, ShardOptions(megabytes=1)), (other, options)):
        with pytest.raises(ValueError, match="unfinished shards of another manifest or with other"):
            write_shards(given, out, own)
    monkeypatch.setattr(shards, "write_member", write)
    before = (out / "audio_0.tar").stat().st_mtime_ns

    def stop_at_the_end(path, missing_ok=False, unlink=Path.unlink):
        if path.name == "unfinished.json":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", stop_at_the_end)
        write_shards(manifest, out, options)
    assert (out / "manifest.jsonl").exists()
    assert write_shards(manifest, out, options) == 4
    assert (out / "audio_0.tar").stat().st_mtime_ns == before
    for path in made.iterdir():  # equal bytes
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert len(list(out.iterdir())) == len(list(made.iterdir()))
    with pytest.raises(FileExistsError, match="manifest.jsonl: exists; choose another folder"):
        write_shards(manifest, out, options)


def test_rows_that_no_shard_can_hold(tmp_path):
    sine(tmp_path / "a.wav", seconds=0.5)
    (tmp_path / "b.wav").write_text("nothing")
    for row, kind, message in (
        ({"audio_filepath": "c.wav"}, FileNotFoundError, "m.jsonl, line 1: .*c.wav: no such audio"),
        ({"audio_filepath": "b.wav"}, ValueError, "line 1: .*b.wav: not readable as audio"),
        ({"audio_filepath": "a.wav"}, ValueError, "line 1: .*a.wav: lasts 0.50 s, 0.50 s less"),
        ({"audio_filepath": "a.wav", "sources": ["a.wav"]}, ValueError, "has `sources`"),
    ):
        manifest = Manifest.from_rows([row | {"duration": 1.0}], tmp_path / "m.jsonl")
        with pytest.raises(kind, match=message):
            write_shards(manifest, tmp_path / "out", ShardOptions())
        assert not list((tmp_path / "out").glob("audio*"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(FileExistsError, match="other: exists and isn't empty"):
        write_shards(manifest, tmp_path / "other", ShardOptions())


# Existing shards -----------------------------------------------------------------------------


def indexed(shards, out, manifests=(), remote=QUICK):
    write_manifest(
        out, index_shards([str(one) for one in shards], [*map(str, manifests)], out, remote)
    )
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_index_of_webdataset(made, copy):
    rows = indexed(expand([f"{copy}/audio_{{0..3}}.tar"]), copy / "w.jsonl")
    known = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    assert rows == [
        {k: v for k, v in row.items() if k not in ("mine", "shard_id")} for row in known
    ]


def test_samples_of_other_endings(tmp_path, caplog):
    sound = noise(tmp_path / "x.sph", format="NIST").read_bytes()
    shard = tar_of(tmp_path / "x.tar", a__sph=sound, b__xyz=sound, b__txt=b"hi", c__cls=b"1")
    [row] = indexed([shard], tmp_path / "w.jsonl")
    assert (row["audio_filepath"], row["duration"]) == ("a.sph", 0.5)
    assert "x.tar: 2 samples have no file of a known ending" in caplog.text
    assert "left out, e.g. b.xyz." in caplog.text


def test_index_of_nemo(made, copy):
    """One manifest with shard_id, or one for each shard; as NeMo makes them, with -sub1."""
    known = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    theirs = [
        {k: v for k, v in row.items() if k == "shard_id" or "shard" not in k} for row in known
    ]
    again = {**theirs[3], "audio_filepath": "3-sub1.flac", "offset": 0.25, "duration": 0.25}
    write_manifest(copy / "tarred.json", [*reversed(theirs), again])
    rows = indexed(expand([str(copy)]), copy / "n.jsonl", [copy / "tarred.json"])
    assert len(rows) == 10
    assert [row for row in rows if "offset" not in row and row["mine"] == 3] == [known[3]]
    part = next(row for row in rows if row["audio_filepath"] == "3-sub1.flac")
    assert part["shard_offset"] == known[3]["shard_offset"] and part["offset"] == 0.25
    assert len(audio(copy / "n.jsonl")) == 10
    for shard in range(4):
        own = [row | {"shard_id": None} for row in theirs if row["shard_id"] == shard]
        write_manifest(copy / f"manifest_{shard}.json", own)
    manifests = expand([f"{copy}/manifest__OP_0..3_CL_.json"])
    assert len(indexed(expand([str(copy)]), copy / "m.jsonl", manifests)) == 9


def test_nemo_rows_that_are_not_in_the_shards(made, copy):
    row = {"audio_filepath": "none.wav", "duration": 1, "shard_id": 1}
    write_manifest(copy / "t.json", [row])
    with pytest.raises(
        ValueError, match=r"t.json, line 1: none.wav isn't in the shard .*audio_1.tar"
    ):
        indexed(expand([str(copy)]), copy / "n.jsonl", [copy / "t.json"])
    write_manifest(copy / "t.json", [row | {"shard_id": 4}])
    with pytest.raises(ValueError, match="line 1: shard_id is 4, wanted one of the shards 0 to 3"):
        indexed(expand([str(copy)]), copy / "n.jsonl", [copy / "t.json"])
    assert not (copy / "n.jsonl").exists()


def tar_of(path, **members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name.replace("__", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_damaged_shards(made, copy, tmp_path):
    whole = (made / "audio_1.tar").read_bytes()
    row = json.loads((made / "manifest.jsonl").read_text().splitlines()[4])
    inside, header = row["shard_offset"] + 10, row["shard_offset"] - 512
    shard, out = copy / "audio_1.tar", copy / "w.jsonl"
    for data, message in (
        (whole[:inside], "audio_1.tar: (truncated within 4.wav|no tar file, or damaged)"),
        (whole[:header], f"audio_1.tar: truncated; has no end mark after byte {header}"),
        (
            whole[:header] + b"x" * 512 + whole[header + 512 :],
            f"audio_1.tar: damaged at byte {header}",
        ),
        (b"x" * 2000, "audio_1.tar: no tar file, or damaged"),
        (b"", "audio_1.tar: no tar file, or damaged"),
        (b"\x1f\x8b" + bytes(600), "audio_1.tar: compressed"),
    ):
        shard.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            indexed([shard], out)
        assert not out.exists()
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="audio_1.tar: no such file"):
        indexed([shard], out)


def test_bad_samples(tmp_path):
    wav, path = sine(tmp_path / "a.wav", seconds=0.2).read_bytes(), tmp_path / "x.tar"
    for members, message in (
        ({"a__wav": b"nothing"}, "x.tar/a.wav: not readable as audio"),
        ({"a__wav": wav, "a__json": b"[1]"}, "x.tar/a.json: not a JSON object"),
        ({"a__wav": wav, "a__json": b'{"text": 5}'}, "x.tar/a.wav: text is 5"),
        ({"a__wav": wav, "a__txt": b"\xff"}, "x.tar/a.txt: not UTF-8"),
        ({"a__wav": wav, "a__s1__wav": wav}, "several audio files .a.wav, a.s1.wav."),
    ):
        with pytest.raises(ValueError, match=message):
            indexed([tar_of(path, **members)], tmp_path / "w.jsonl")
    members = {"a__cls": b"1", "b__wav": wav, "b__txt": b" hi\n", "b__json": b'{"speaker": 7}'}
    [row] = indexed([tar_of(path, **members)], tmp_path / "w.jsonl")
    assert (row["text"], row["speaker"], row["duration"]) == ("hi", "7", 0.2)
    assert row["shard_crc32"] == zlib.crc32(wav)


def test_manifest_in_another_folder(made, tmp_path):
    """As split_manifest.py writes it."""
    rows = [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]
    write_manifest(tmp_path / "m.jsonl", [placed(row, tmp_path, made) for row in rows])
    assert len(audio(tmp_path / "m.jsonl")) == 9
    assert placed(rows[0], made.parent, made)["shard"] == "shards/audio_0.tar"
    assert placed(rows[0] | {"shard": "s3://b/a.tar"}, tmp_path, made)["shard"] == "s3://b/a.tar"
    [first, *_] = recordings_in(tmp_path / "m.jsonl", 16000)  # of noise, e.g.
    assert len(first[:]) == 8000


def test_names_of_an_archive_are_never_paths(tmp_path):
    wav = sine(tmp_path / "secret.wav", seconds=0.2).read_bytes()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.wav")
        tar.addfile(link)
        for name in ("../../outside.wav", str(tmp_path / "secret.flac")):
            info = tarfile.TarInfo(name)
            info.size = len(wav)
            tar.addfile(info, io.BytesIO(wav))
    rows = indexed([tmp_path / "x.tar"], tmp_path / "w.jsonl")
    assert [row["audio_filepath"] for row in rows] == [
        "../../outside.wav",
        f"{tmp_path}/secret.flac",
    ]
    assert all(len(own) == 3200 for own in audio(tmp_path / "w.jsonl"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.wav", "w.jsonl", "x.tar"]


def test_patterns(tmp_path):
    assert expand(["a_{08..11}.tar"]) == ["a_08.tar", "a_09.tar", "a_10.tar", "a_11.tar"]
    assert expand(["s3://b/{x,y}_{0..1}"]) == [f"s3://b/{a}_{i}" for a in "xy" for i in "01"]
    for name in ("a_10.tar", "a_9.tar"):
        (tmp_path / name).touch()
    assert expand([str(tmp_path)]) == [f"{tmp_path}/a_9.tar", f"{tmp_path}/a_10.tar"]
    for patterns, message in ((["{3..1}"], "no ascending range"), (["a", "a"], "a: named 2 times")):
        with pytest.raises(ValueError, match=message):
            expand(patterns)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no .tar files"):
        expand([str(tmp_path / "empty")])


# Reading -------------------------------------------------------------------------------------


def loaded(dataset, workers=0):
    """The ids of an epoch and the sums of their samples, in order."""
    loader = TrainLoader(dataset, LoaderOptions(1.2, num_workers=workers))
    batches = [next(loader) for _ in range(loader.steps(0))]
    loader.close()
    return [
        (id, float(a.sum()))
        for batch in batches
        for id, a in zip(batch["id"], batch["audio"], strict=True)
    ]


def test_an_epoch_is_that_of_the_files(corpus, made, tmp_path):
    """Globally shuffled, with workers, from a disk and over the network."""
    files = loaded(ManifestDataset(str(corpus / "all.jsonl")))
    with range_server(made) as server:
        rows = indexed([f"{server.url}/audio_{i}.tar" for i in range(4)], tmp_path / "web.jsonl")
        assert rows[0]["shard"] == f"{server.url}/audio_0.tar"
        remote = Remote(cache=str(tmp_path / "cache"))
        web = loaded(ManifestDataset(str(tmp_path / "web.jsonl"), remote=remote), workers=2)
        asked = len(server.asked)
        assert loaded(ManifestDataset(str(tmp_path / "web.jsonl"), remote=remote)) == web
        assert len(server.asked) == asked
    own = loaded(ManifestDataset(str(made / "manifest.jsonl")))
    assert web == own
    assert [value for _, value in own] == [value for _, value in files]
    assert {"3", "4", "5", "6"} <= {id for id, _ in own} & {id for id, _ in files}


def test_changed_shard_is_named_with_its_sample(copy):
    row = json.loads((copy / "manifest.jsonl").read_text().splitlines()[4])
    path = copy / "audio_1.tar"
    data = bytearray(path.read_bytes())
    data[row["shard_offset"] + 100] ^= 1
    path.write_bytes(data)
    dataset = ManifestDataset(str(copy / "manifest.jsonl"))
    with pytest.raises(
        ValueError, match=r"line 5: 4.wav in the shard .*audio_1.tar: changed or dam"
    ):
        dataset[4]
    assert dataset[5]["id"] == "5"
    path.write_bytes(data[: row["shard_offset"] + 100])
    with pytest.raises(ValueError, match=r"line 5: 4.wav in the shard .*audio_1.tar: ends after"):
        dataset[4]
    path.unlink()  # in the middle of an epoch
    with pytest.raises(ValueError, match=r"line \d: .* in the shard .*audio_1.tar: no such file"):
        loaded(dataset, workers=1) and dataset[4]
    skipping = ManifestDataset(str(copy / "manifest.jsonl"), on_error="skip")
    assert "4.wav in the shard" in skipping[4]["error"]


def test_store_that_fails_stops_even_where_bad_files_are_skipped(made, tmp_path):
    with range_server(made) as server:
        indexed([f"{server.url}/audio_0.tar"], tmp_path / "web.jsonl")
        dataset = ManifestDataset(str(tmp_path / "web.jsonl"), on_error="skip", remote=QUICK)
        server.failures = [503]
        assert dataset[0]["id"] == "1_1"
        server.failures = [503] * 2
        with pytest.raises(
            OSError, match=r"1.*wav in the shard http.*audio_0.tar: could not be read"
        ):
            dataset[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shard": 5}, "shard is 5, wanted the path or address"),
        ({"shard": "ftp://host/a.tar"}, "ftp://host/a.tar: ftp:// is unknown; a path, or http"),
        ({"shard": "a.tar"}, "shard_offset is null, wanted a whole number from 0"),
        ({"shard": "a.tar", "shard_offset": 1, "shard_size": 0}, "shard_size is 0, wanted"),
        ({"shard": "a.tar", "shard_offset": 1, "shard_size": True}, "shard_size is true, wanted"),
        (
            {"shard": "a.tar", "shard_offset": 1, "shard_size": 1, "shard_crc32": -1},
            "shard_crc32 is -1",
        ),
    ],
)
def test_bad_rows(tmp_path, values, message):
    with pytest.raises(ValueError, match=f"line 1: {message}"):
        Manifest.from_rows([{"audio_filepath": "a", "duration": 1} | values], tmp_path / "m.jsonl")


def test_scripts(corpus, tmp_path):
    out = tmp_path / "out"
    done = call_script("make_shards", corpus / "all.jsonl", out, "--format=flac", "--no-json")
    assert done.stdout == f"{out}/manifest.jsonl: 9 utterances in 1 shards\n"
    done = call_script("make_shards", corpus / "all.jsonl", out, code=1)
    assert done.stderr == f"error: {out}/manifest.jsonl: exists; choose another folder.\n"
    made = call_script("index_shards", out / "w.jsonl", out).stdout
    assert made == f"{out}/w.jsonl: 9 utterances, 0.00 hours in 1 shards\n"
    done = call_script("index_shards", out / "w.jsonl", out, code=1)
    assert done.stderr == f"error: {out}/w.jsonl: exists; --replace replaces it.\n"
    done = call_script("check_manifest", out / "w.jsonl")
    assert "0 of 9 rows are bad" in done.stderr
