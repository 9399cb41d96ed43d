"""Recordings longer than a window, from the audio to the files."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from src.datasets.loading.collate import collate
from src.datasets.manifest_dataset import ManifestDataset
from src.run import load_run
from src.utils.audio import Recording, read_audio
from src.utils.files import append_jsonl
from tests.demo import SMALL, experiment, inference
from train import train

RATE = 16000


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "asr"
    train(experiment("asr_deepspeech2", corpus, folder, *SMALL, "debug=smoke"))
    return folder


def system(run, **task):
    return load_run(run, device="cpu", changes=OmegaConf.create({"task": task}))


def speech(corpus, seconds, pause=0.5):
    parts, size = [], 0
    for path in sorted((corpus / "audio").rglob("*.flac")) * 20:
        parts += [read_audio(path, RATE), torch.zeros(round(pause * RATE))]
        size += len(parts[-2]) + len(parts[-1])
        if size >= seconds * RATE:
            return torch.cat(parts)[: round(seconds * RATE)]
    raise ValueError("the corpus is too small")


def outputs(run, audio, **task):
    made = system(run, **task)
    batch = collate([{"id": "a", "path": "a", "audio": audio}])
    return made.decode(batch, made.autocast)


def test_short_recordings_are_as_without_windows(run, corpus):
    audio = speech(corpus, 4.0)
    plain = outputs(run, audio, window_seconds=None)
    windowed = outputs(run, audio, window_seconds=4.0, overlap_seconds=1.0)
    assert windowed.keys() == plain.keys()
    for key, value in plain.items():
        same = (
            torch.equal(value, windowed[key]) if torch.is_tensor(value) else value == windowed[key]
        )
        assert same, key


@pytest.mark.parametrize("silence", [None, -70.0])
def test_frames_of_a_long_recording(run, corpus, silence):
    audio = speech(corpus, 11.3)
    options = {"window_seconds": 4.0, "overlap_seconds": 2.0, "silence_dbfs": silence}
    long = outputs(run, audio, **options)
    whole = outputs(run, audio, window_seconds=None)
    assert long["log_probs_length"].tolist() == [long["log_probs"].shape[1]]
    difference = long["log_probs_length"] - whole["log_probs_length"]
    assert abs(int(difference)) <= (0 if silence is None else 1)
    torch.testing.assert_close(
        long["log_probs"].exp().sum(-1), torch.ones(long["log_probs"].shape[:2])
    )


def test_sounds_between_silences_are_heard_alone(run, corpus):
    paths = sorted((corpus / "audio").rglob("*.flac"))[:4]
    sounds = [0.1 * torch.randn(2 * RATE) for _ in paths]
    audio = torch.cat([torch.cat([sound, torch.zeros(RATE)]) for sound in sounds])
    made = system(run, window_seconds=4.0, overlap_seconds=1.0)
    alone = [made((sound, RATE)) for sound in sounds]
    assert made((audio, RATE)) == " ".join(" ".join(alone).split())


def test_predict_gives_words(run, corpus, tmp_path):
    audio = speech(corpus, 9.0)
    text = system(run, window_seconds=4.0, overlap_seconds=1.0)((audio, RATE))
    words = system(run, window_seconds=4.0, overlap_seconds=1.0, word_times=True)((audio, RATE))
    assert " ".join(word.text for word in words) == text
    limits = [limit for word in words for limit in (word.start, word.end)]
    assert limits == sorted(limits) and all(0 <= word.confidence <= 1 for word in words)
    soundfile.write(tmp_path / "a.wav", audio.numpy(), RATE, subtype="FLOAT")
    assert system(run, window_seconds=4.0, overlap_seconds=1.0)(tmp_path / "a.wav") == text


def test_inference_writes_words_of_long_and_short_recordings(run, corpus, tmp_path):
    for name, seconds in (("long", 9.0), ("short", 2.0)):
        folder = tmp_path / "in" / "audio"
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{name}.wav", speech(corpus, seconds).numpy(), RATE)
        texts = tmp_path / "in" / "transcriptions"
        texts.mkdir(exist_ok=True)
        (texts / f"{name}.txt").write_text("a b")
    options = ["+task.window_seconds=4", "+task.overlap_seconds=1", "task.word_times=true"]
    options += ["datasets=custom_dir", f"datasets.test.dir={tmp_path / 'in'}", "device=cpu"]
    values = inference("asr", run, *options)
    assert {"test/WER", "test/WER_beam"} <= values.keys()
    written = {path.name for path in (run / "inference" / "test").iterdir()}
    assert written == {f"{n}.{e}" for n in ("long", "short") for e in ("txt", "ctm", "srt")}
    lines = [line.split() for line in (run / "inference/test/long.ctm").read_text().splitlines()]
    assert all(len(line) == 6 and line[:2] == ["long", "1"] for line in lines)
    text = (run / "inference/test/long.txt").read_text()
    assert [line[4] for line in lines] == text.split()


MEMORY = """
import resource, sys, torch
from omegaconf import OmegaConf
from src.datasets.manifest_dataset import ManifestDataset
from src.run import load_run
torch.set_num_threads(1)
task = {"window_seconds": 10.0, "overlap_seconds": 2.0, "silence_dbfs": None}
changes = OmegaConf.create({"task": task})
load_run(sys.argv[1], device="cpu", changes=changes)(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_memory_does_not_grow_with_the_recording(run, tmp_path):
    peaks = []
    for minutes in (2, 12):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
            for seed in range(minutes):
                file.write(0.1 * np.random.default_rng(seed).standard_normal(60 * RATE))
        command = [sys.executable, "-c", MEMORY, str(run), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        peaks.append(float(done.stdout.split()[-1]))
    assert peaks[1] < 1.15 * peaks[0]


def test_datasets_read_long_recordings_in_parts(corpus, tmp_path):
    audio = speech(corpus, 9.0)
    for name, samples in (("long", audio), ("short", audio[:20000])):
        soundfile.write(tmp_path / f"{name}.wav", samples.numpy(), RATE)
    row = {"audio_filepath": "long.wav", "duration": 6.0, "offset": 2.0}
    manifest = tmp_path / "m.jsonl"
    append_jsonl(manifest, row)
    append_jsonl(manifest, {"audio_filepath": "short.wav", "duration": 1.25})
    dataset = ManifestDataset(str(manifest), window_seconds=5.0, sample_rate=RATE)
    long, short = dataset[0]["audio"], dataset[1]["audio"]
    assert isinstance(long, Recording)
    assert len(long) == 6 * RATE
    stored = read_audio(tmp_path / "long.wav", RATE)
    assert torch.equal(long[1000:2000], stored[2 * RATE + 1000 : 2 * RATE + 2000])
    assert len(short) == 20000
    batch = collate([dataset[0], dataset[1]])
    assert isinstance(batch["audio"], list)
    assert "audio_length" not in batch
    for options in ({"on_error": "skip"}, {"window_seconds": None}):
        read = ManifestDataset(str(manifest), **{"window_seconds": 5.0} | options)[0]["audio"]
        assert torch.equal(read, long[: len(long)])
    append_jsonl(manifest, row | {"duration": 8.0})
    dataset = ManifestDataset(str(manifest), window_seconds=5.0, sample_rate=RATE)
    with pytest.raises(ValueError, match="m.jsonl.*long.wav: 7.00 s from second 2"):
        dataset[2]
