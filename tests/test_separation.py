"""Separation as whole runs: resume, processes, inference, scripts."""

import csv
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch

from src.interop import load_clearervoice
from src.run import load_run
from src.utils.files import read_jsonl
from tests.demo import ROOT, composed, experiment, inference, run_script
from tests.programs import call_script, run_in_processes
from tests.test_train import (
    assert_same_weights,
    assert_stops_change_nothing,
    weights,
)
from train import train

SMALL = [
    "model.d_model=8",
    "model.num_layers=1",
    "model.kernel_size=64",
    "datasets.train.segment=0.5",
    "dataloader.max_seconds=2",
    "trainer.epochs=2",
    "trainer.steps_per_epoch=2",
]


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("separation") / "run"
    os.chdir(ROOT)
    return folder, train(experiment("separation_mossformer2", corpus, folder, *SMALL))


def test_stopped_after_every_step_equals_uninterrupted(corpus, tmp_path):
    options = [*SMALL, "trainer.accumulate=2"]
    assert_stops_change_nothing("separation_mossformer2", corpus, tmp_path, *options)


def test_two_processes_one_run(corpus, tmp_path):
    command = ["train.py", "-cn=separation_mossformer2", f"datasets.train.folder={corpus}"]
    command += [f"runs={tmp_path}", "writer=nothing", "device=cpu", *SMALL]
    command += ["trainer.log_every_steps=1"]
    run_in_processes(2, *command)
    (folder,) = (tmp_path / "separation_mossformer2").iterdir()
    rows = read_jsonl(folder / "metrics.jsonl")
    assert any("train/lr_linear" in row for row in rows)  # of the second optimizer
    two = {k: v for k, v in rows[-1].items() if k.startswith("test/")}
    one = inference("separation", folder)
    assert {key: one[key] for key in two} == pytest.approx(two, rel=1e-5)


def test_inference_gives_the_metrics_of_training(trained):
    folder, expected = trained
    metrics = inference("separation", folder)
    for name in ("loss", "SI-SDR", "SI-SDRi"):
        assert metrics[f"test/{name}"] == expected[f"test/{name}"]
    assert np.isfinite(metrics["test/SDRi"])
    lines = (folder / "inference" / "test.tsv").read_text().splitlines()
    header = lines[0].split("\t")
    assert header[:4] == ["id", "SI-SDR", "SI-SDRi", "SDRi"]
    activity = ["energy_1", "active_1", "energy_2", "active_2", "num_active", "num_speakers"]
    assert header[-6:] == activity
    for k in (1, 2):
        written = list((folder / "inference" / "test" / f"s{k}").glob("*.wav"))
        assert len(written) == len(lines) - 1
    assert (folder / "inference" / "test.png").read_bytes()[:4] == b"\x89PNG"


def write(path, seconds, rate, channels=1, seed=0, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (round(seconds * rate), channels)
    soundfile.write(path, level * np.random.default_rng(seed).standard_normal(size), rate)
    return path


def test_recordings_of_any_format(trained, tmp_path):
    folder = tmp_path / "mine"
    write(folder / "stereo.wav", 20.01, 11025, channels=2)
    write(folder / "silence.flac", 1.0, 48000, level=0)
    write(folder / "short.wav", 0.0006, 16000)  # 5 samples for the model
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    inference("separation", trained[0], *data, f"output={tmp_path / 'out'}")
    for path in folder.iterdir():
        wanted = soundfile.info(path)
        for k in (1, 2):
            estimate = tmp_path / "out" / "test" / f"s{k}" / f"{path.stem}.wav"
            info = soundfile.info(estimate)
            assert (info.frames, info.samplerate) == (wanted.frames, wanted.samplerate)
            assert soundfile.read(estimate)[0].any() == (path.stem != "silence")
    (folder / "stereo.wav").unlink()
    inference("separation", trained[0], *data, f"output={tmp_path / 'out'}")
    written = {path.stem for path in (tmp_path / "out" / "test").rglob("*.wav")}
    assert written == {"silence", "short"}, "files of an earlier evaluation are removed"


def test_broken_recordings_are_skipped_on_request(trained, tmp_path):
    folder = tmp_path / "mine"
    write(folder / "good.wav", 0.5, 8000)
    (folder / "text.wav").write_text("no audio")
    soundfile.write(folder / "nan.wav", np.full(4000, np.nan), 8000, subtype="FLOAT")
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    output = tmp_path / "out"
    with pytest.raises(ValueError, match=r"text.wav: not readable"):
        inference("separation", trained[0], *data, f"output={output}")
    inference("separation", trained[0], *data, f"output={output}", "+datasets.test.on_error=skip")
    assert {path.name for path in (output / "test").rglob("*.*")} == {"good.wav"}


def test_limited_test_split_and_replacement_of_earlier_results(trained, tmp_path):
    output = tmp_path / "out"
    inference("separation", trained[0], "+datasets.test.limit=2", f"output={output}")
    assert len((output / "test.tsv").read_text().splitlines()) == 3
    write(tmp_path / "mine" / "a.wav", 0.5, 8000)
    (tmp_path / "mine" / "text.wav").write_text("no audio")
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={tmp_path / 'mine'}"]
    with pytest.raises(ValueError, match=r"text.wav: not readable"):
        inference("separation", trained[0], *data, f"output={output}")
    assert len((output / "test.tsv").read_text().splitlines()) == 3, "the earlier results are whole"
    assert len(list((output / "test").rglob("*.wav"))) == 4 and (output / "metrics.json").exists()
    (tmp_path / "mine" / "text.wav").unlink()
    inference("separation", trained[0], *data, f"output={output}")
    assert {path.name for path in (output / "test").rglob("*.*")} == {"a.wav"}
    with pytest.raises(ValueError, match=r"config: datasets.test.dir=... must be given"):
        inference("separation", trained[0], "datasets=custom_dir_separation", f"output={output}")


def test_any_number_of_voices(corpus, tmp_path):
    options = [*SMALL, "model.num_speakers=2", "trainer.epochs=1"]
    config = experiment("separation_mossformer2_any", corpus, tmp_path / "run", *options)
    expected = train(config)
    metrics = inference("separation", tmp_path / "run")
    for name in ("loss", "SI-SDR_1", "SI-SDRi_2", "speaker_count_1", "silent_level"):
        assert metrics[f"test/{name}"] == expected[f"test/{name}"]
    assert "test/silent_level_2" not in metrics and "test/SI-SDRi_1" not in metrics
    with (tmp_path / "run/inference/test.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["num_speakers"] for row in rows} == {"1", "2"}
    for row in rows:
        assert (row["silent_level"] != "") == (row["num_speakers"] == "1")
        right = row["num_active"] == row["num_speakers"]
        assert float(row["speaker_count"]) == right
    right = np.mean([float(row["speaker_count"]) for row in rows])
    assert metrics["test/speaker_count"] == pytest.approx(right)


def test_enhancement_of_own_recordings(corpus, tmp_path):
    run = tmp_path / "run"
    responses = write(tmp_path / "rooms" / "a" / "x.wav", 0.1, 8000).parents[1]
    options = [*SMALL, "trainer.epochs=1", "trainer.log_every_steps=1", "loss.weights.spectral=2"]
    options += ["+rooms@datasets.train.room=recorded", f"datasets.train.room.source={responses}"]
    metrics = train(experiment("enhancement_mossformer2", corpus, run, *options))
    row = next(row for row in read_jsonl(run / "metrics.jsonl") if "train/spectral" in row)
    parts = row["train/si_sdr"] + 2 * row["train/spectral"]
    assert row["train/loss"] == pytest.approx(parts, rel=1e-4)
    assert metrics["test/loss"] > metrics["test/spectral"] > 0
    evaluated = inference("separation", run, f"output={tmp_path / 'known'}")
    assert np.isfinite(evaluated["test/SI-SDRi"]) and "test/leakage" not in evaluated
    folder = tmp_path / "mine"
    write(folder / "a.wav", 17.0, 16000)  # longer than a window
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    inference("separation", run, *data, f"output={tmp_path / 'out'}")
    (written,) = (tmp_path / "out" / "test").rglob("*.wav")
    assert written.parent.name == "s1" and soundfile.info(written).frames == 17 * 16000


def test_rooms_and_noise(corpus, tmp_path):
    room = "{_target_: src.transforms.wave.room.RoomResponse, sample_rate: 8000}"
    noise = f"{{_target_: src.transforms.wave.noise.AddNoise, manifest: {corpus}/noise.jsonl"
    options = [*SMALL, "trainer.epochs=1", f"+datasets.train.sources.room={room}"]
    options += [f"+transforms.batch.train.noise={noise}, sample_rate: 8000}}"]
    metrics = train(experiment("separation_mossformer2", corpus, tmp_path / "r", *options))
    assert np.isfinite(metrics["test/SI-SDRi"])


def test_mixtures_in_rooms(corpus, tmp_path):
    rooms = [write(tmp_path / k / "a" / "x.wav", 0.1, 8000).parents[1] for k in ("old", "new")]
    options = [*SMALL, "trainer.epochs=1", "datasets=room_mixtures"]
    for split in ("train", "val", "test"):
        options.append(f"datasets.{split}.manifest={corpus}/val.jsonl")
    options += [f"datasets.train.room.source={rooms[0]}", "+rooms@datasets.test.room=recorded"]
    options += [f"datasets.test.room.source={rooms[1]}"]
    options += [f"datasets.train.noises.noise.manifest={corpus}/noise.jsonl"]
    options += [f"run_dir={tmp_path / 'run'}", "writer=nothing", "device=cpu"]
    config = composed("separation_mossformer2", *options)
    assert config.datasets.val.room.source == str(rooms[0])
    assert np.isfinite(train(config)["test/SI-SDRi"])


def test_validation_with_more_sources_ends_before_the_first_step(tmp_path):
    for name, count in (("tr", 2), ("cv", 3)):
        for part in ("mix", *(f"s{k + 1}" for k in range(count))):
            write(tmp_path / name / part / "x.wav", 0.5, 8000)
    options = [option for option in SMALL if "segment" not in option]
    options += ["datasets=mixture_folders", "trainer.epochs=1", f"run_dir={tmp_path / 'run'}"]
    options += [f"datasets.{k}.dir={tmp_path / v}" for k, v in (("train", "tr"), ("val", "cv"))]
    options += [f"datasets.test.dir={tmp_path / 'tr'}", "writer=nothing", "device=cpu"]
    with pytest.raises(ValueError, match=r"^val: The model separates 2 speakers .* have 3"):
        train(composed("separation_mossformer2", *options))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_recorded_rooms_are_tested_after_simulated_ones(tmp_path):
    recorded = "{_target_: src.datasets.mixtures.rooms.RecordedRooms, source: F, sample_rate: 8000}"
    options = ["datasets=room_mixtures", "rooms@datasets.train.room=simulated"]
    options += [f"datasets.{split}.manifest=M" for split in ("train", "val", "test")]
    options += ["datasets.train.noises=null", f"datasets.test.room={recorded}"]
    datasets = composed("separation_mossformer2", *options).datasets
    assert set(datasets.test.room) == {"_target_", "source", "sample_rate"}
    assert datasets.val.room == datasets.train.room != datasets.test.room


def test_three_speakers_in_folders(tmp_path):
    folder = tmp_path / "mine"
    parts = [write(folder / f"s{k}" / "x.wav", 0.5, 8000, seed=k) for k in (1, 2, 3)]
    (folder / "mix").mkdir()
    soundfile.write(folder / "mix" / "x.wav", sum(soundfile.read(p)[0] for p in parts), 8000)
    options = [option for option in SMALL if "segment" not in option]
    options += ["model.num_speakers=3", "trainer.epochs=1", "datasets=mixture_folders"]
    options += [f"datasets.{split}.dir={folder}" for split in ("train", "val", "test")]
    options += [f"run_dir={tmp_path / 'run'}", "writer=nothing", "device=cpu"]
    metrics = train(composed("separation_mossformer2", *options))
    assert np.isfinite(metrics["test/SI-SDRi"])


def test_score_separation_script(trained, tmp_path):
    folder = tmp_path / "mine"
    parts = [write(folder / f"s{k}" / "x.wav", 1.0, 16000, seed=k) for k in (1, 2)]
    mixture = sum(soundfile.read(path)[0] for path in parts)
    (folder / "mix").mkdir()
    soundfile.write(folder / "mix" / "x.wav", mixture, 16000)
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    inference("separation", trained[0], *data, f"output={tmp_path / 'out'}")
    assert soundfile.info(tmp_path / "out/test/s1/x.wav").frames == 16000
    printed = call_script("score_separation", folder, tmp_path / "out" / "test").stdout
    assert "1 mixtures of 2 speakers" in printed and "SI-SDRi" in printed
    swapped = tmp_path / "swapped"
    shutil.copytree(folder / "s1", swapped / "s2")
    shutil.copytree(folder / "s2", swapped / "s1")
    printed = call_script("score_separation", folder, swapped).stdout
    assert float(printed.split("SI-SDR ")[1].split()[0]) > 60
    for k in (1, 2):
        samples = soundfile.read(swapped / f"s{k}" / "x.wav")[0]
        soundfile.write(swapped / f"s{k}" / "x.flac", samples, 16000)
        (swapped / f"s{k}" / "x.wav").unlink()
        write(folder / f"s{k}" / "silent.wav", 0.5, 16000, level=0)
    write(folder / "mix" / "silent.wav", 0.5, 16000, level=0)
    for k in (1, 2):
        write(swapped / f"s{k}" / "silent.wav", 0.5, 16000, level=0)
    done = call_script("score_separation", folder, swapped)
    assert float(done.stdout.split("SI-SDR ")[1].split()[0]) > 60
    assert "silent.wav: all references are silent, skipped" in done.stderr
    (swapped / "s1" / "x.flac").unlink()
    write(swapped / "s1" / "x.wav", 0.5, 16000)
    done = call_script("score_separation", folder, swapped, code=1)
    assert "x.wav: 8000 samples at 16000 Hz, its reference" in done.stderr
    done = call_script("score_separation", tmp_path, swapped, code=1)
    assert done.stderr == f"error: {tmp_path}: no s1/ in it.\n"


def test_load_run(trained):
    separate = load_run(trained[0])
    streams = separate(0.1 * torch.randn(20 * 8000), 8000)
    assert streams.shape == (2, 20 * 8000)
    assert streams.isfinite().all()
    assert separate(torch.randn(500), 8000).shape == (2, 500)


def test_plot_attention(trained, tmp_path):
    audio = write(tmp_path / "x.wav", 2.0, 8000)
    run_script("plot_attention", trained[0], audio, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    short = write(tmp_path / "short.wav", 0.005, 8000)  # a frame that isn't filled
    done = call_script("plot_attention", trained[0], short, tmp_path / "a.png")
    assert ", 0.00 to 0.00 s" in done.stdout
    long = write(tmp_path / "long.wav", 20.0, 8000)  # longer than a window of the task
    call_script("plot_attention", trained[0], long, tmp_path / "a.png", "--group", 18)
    done = call_script(
        "plot_attention", trained[0], audio, tmp_path / "a.png", "--block", 7, code=1
    )
    assert "--block 7" in done.stderr


def test_checkpoint_of_other_size_raises(trained, corpus, tmp_path):
    options = [*SMALL, "model.num_layers=2", "init=model", f"init.model.source={trained[0]}"]
    with pytest.raises(ValueError, match=r"blocks.1.* is missing"):
        train(experiment("separation_mossformer2", corpus, tmp_path / "r", *options))


def test_task_of_another_system_raises(corpus, tmp_path):
    config = experiment(
        "separation_mossformer2", corpus, tmp_path / "r", *SMALL, "task=pretraining"
    )
    with pytest.raises(ValueError, match="config, task: PretrainingTask needs masked_tokens; the"):
        train(config)


def test_convert_to_clearervoice_and_initialize_from_it(trained, corpus, tmp_path):
    path = tmp_path / "out.pt"
    call_script("convert", trained[0], path)
    assert_same_weights(load_clearervoice(path).state_dict(), weights(trained[0], "best"))
    options = [*SMALL, "init=model", f"init.model.source={path}", "optimizer.lr=1e-9"]
    train(experiment("separation_mossformer2", corpus, tmp_path / "r", *options))
    started = load_run(tmp_path / "r", device="cpu").model.state_dict()
    for name, value in weights(trained[0], "best").items():
        torch.testing.assert_close(started[name], value, rtol=1e-4, atol=1e-6)


def test_very_short_files_with_references(trained, tmp_path):
    folder = tmp_path / "mine"
    for samples in (1, 10, 4000):
        parts = [
            write(folder / f"s{k}/{samples}.wav", samples / 8000, 8000, seed=k) for k in (1, 2)
        ]
        (folder / "mix").mkdir(exist_ok=True)
        mixture = sum(soundfile.read(path)[0] for path in parts)
        soundfile.write(folder / "mix" / f"{samples}.wav", mixture, 8000)
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    metrics = inference("separation", trained[0], *data, f"output={tmp_path / 'out'}")
    assert all(np.isfinite(value) for value in metrics.values())
    written = [soundfile.info(path).frames for path in (tmp_path / "out/test/s2").iterdir()]
    assert sorted(written) == [1, 10, 4000]


def test_silent_files_with_references(trained, tmp_path):
    folder = tmp_path / "mine"
    for name in ("mix", "s1", "s2"):
        write(folder / name / "silent.wav", 0.5, 8000, level=0)
        write(folder / name / "one.wav", 0.5, 8000, level=0 if name == "s2" else 0.1)
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={folder}"]
    metrics = inference("separation", trained[0], *data, f"output={tmp_path / 'out'}")
    assert all(np.isfinite(value) for value in metrics.values())
    table = (tmp_path / "out" / "test.tsv").read_text().splitlines()
    assert len(table) == 3 and "SI-SDR" in table[0]
    assert not soundfile.read(tmp_path / "out/test/s1/silent.wav")[0].any()
