"""Separate and transcribe: two runs as one system, from the config to the files."""

import json
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from inference import infer
from src.conversation import Conversation, with_mixture
from src.metrics.conversation import OrcWer, report_missing
from src.run import load_run
from src.utils.audio import read_audio
from src.utils.segments import Segment, read_segments
from tests.demo import SMALL, composed, experiment
from train import train

SEPARATOR = [
    "model.d_model=8",
    "model.num_layers=1",
    "model.kernel_size=64",
    "datasets.train.segment=0.5",
    "dataloader.max_seconds=2",
]
with_meeteval = pytest.mark.skipif(find_spec("meeteval") is None, reason="needs meeteval")


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conversation")
    train(experiment("separation_mossformer2", corpus, folder / "s", *SEPARATOR, "debug=smoke"))
    train(experiment("asr_deepspeech2", corpus, folder / "r", *SMALL, "debug=smoke"))
    return folder


def converse(runs, *options, separator="s", recogniser="r"):
    given = [f"separator={runs / separator}", f"recogniser={runs / recogniser}"]
    own = ["device=cpu", "dataloader.num_workers=0"]
    return infer(composed("inference_conversation", *given, *own, *options))


@pytest.fixture(scope="module")
def drawn(runs, corpus):
    options = ["datasets.test.limit=2", "datasets.test.utterances=2"]
    values = converse(runs, f"datasets.test.folder={corpus}", *options)
    return runs / "s" / "conversation", values


def test_files_of_drawn_conversations(drawn):
    folder, values = drawn
    assert np.isfinite(values["test/residual"])
    rows = (folder / "test.tsv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].split("\t")[-1] == "reference"
    names = {path.stem for path in (folder / "test").glob("*.stm")}
    assert len(names) == 2 and (folder / "report.html").exists()
    for kind in ("separated", "reference", "mixture", "sources"):
        assert read_segments(folder / "test" / "all" / f"{kind}.stm").keys() == names
    for name in names:
        segments = read_segments(folder / "test" / f"{name}.stm")[name]
        entries = json.loads((folder / "test" / f"{name}.json").read_text())
        for entry, segment in zip(entries, [one for one in segments if one.text], strict=True):
            assert entry["words"] == segment.text == " ".join(w[0] for w in entry["word_times"])
        lines = (folder / "test" / f"{name}.txt").read_text().splitlines()
        assert len(lines) == len(entries)
        assert {path.parent.name for path in (folder / "test").glob(f"*/{name}.wav")} >= {"s1"}


@with_meeteval
def test_scores_are_those_of_meeteval(drawn, tmp_path):
    folder, values = drawn
    for name, kind in (("cpWER", "sources"), ("ORC-WER", "mixture"), ("tcpWER", "separated")):
        command = [sys.executable, "-m", "meeteval.wer", name.lower().replace("-", "")]
        command += ["--collar", "5"] if name == "tcpWER" else []
        command += ["-r", folder / "test/all/reference.stm"]
        command += ["-h", folder / f"test/all/{kind}.stm", "--average-out", tmp_path / "a.json"]
        command += ["--per-reco-out", tmp_path / "b.json"]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
        expected = json.loads((tmp_path / "a.json").read_text())["error_rate"]
        own = values[f"test/{name}" if kind == "separated" else f"test/{name}_{kind}"]
        assert own == pytest.approx(expected, rel=1e-12)
    separated, mixture, sources = (values[f"test/cpWER{k}"] for k in ("", "_mixture", "_sources"))
    if mixture > sources:
        recovered = (mixture - separated) / (mixture - sources)
        assert values["test/recovered"] == pytest.approx(recovered)


def test_orc_wer_leaves_out_a_recording_for_all_of_its_transcripts():
    def said(*texts):
        return [Segment(str(k), 0.0, 1.0, text) for k, text in enumerate(texts, 1)]

    many = "word " * 2000
    hypotheses = {"separated": said(many, many), "mixture": said(many)}
    for kind in hypotheses:
        metric = OrcWer(kind)
        assert not metric.affordable("long", said(many, many), hypotheses)
        assert metric.affordable("short", said("a b", "c"), {"separated": said("a", "c")})


def test_without_meeteval_there_are_no_error_rates(runs, corpus, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("src.metrics.conversation.find_spec", lambda name: None)
    report_missing.cache_clear()
    options = ["datasets.test.limit=1", "datasets.test.utterances=2", f"output={tmp_path / 'out'}"]
    values = converse(runs, f"datasets.test.folder={corpus}", *options)
    assert values.keys() == {"test/leakage", "test/residual"} or values.keys() == {"test/residual"}
    assert caplog.text.count("need `pip install meeteval`") == 1
    assert caplog.text.count("The separator works at 8000 Hz and the recogniser at 16000 Hz") == 1


def test_recordings_in_a_folder(runs, corpus, tmp_path):
    speech = soundfile.read(next((corpus / "audio").rglob("*.flac")))[0]
    soundfile.write(tmp_path / "talk.wav", np.tile(speech, 4), 16000)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "click.wav", np.full(400, 0.1), 44100)
    soundfile.write(tmp_path / "tiny.wav", np.full(10, 0.1), 16000)
    data = ["datasets=conversation_folder", f"datasets.test.dir={tmp_path}"]
    changes = ["+changes.separator.task.window=2.0", "+changes.separator.task.overlap=0.5"]
    values = converse(runs, *data, *changes, f"output={tmp_path / 'out'}")
    folder = tmp_path / "out" / "test"
    assert "test/cpWER" not in values and not (folder / "all" / "reference.stm").exists()
    assert (folder / "silence.txt").read_text() == ""
    assert not list(folder.glob("s*/silence.wav")), "silent streams are left out"
    assert (folder / "tiny.txt").read_text() == ""
    info = soundfile.info(folder / "s1" / "talk.wav")
    assert (info.samplerate, info.frames) == (16000, 4 * len(speech))


def test_mixtures_without_transcripts_have_no_error_rates(runs, corpus, tmp_path):
    speech = soundfile.read(next((corpus / "audio").rglob("*.flac")))[0]
    for name in ("mix", "s1", "s2"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "talk.wav", speech, 16000)
    data = ["datasets=custom_dir_separation", f"datasets.test.dir={tmp_path}"]
    values = converse(runs, *data, f"output={tmp_path / 'out'}")
    assert "test/residual" in values
    assert not [key for key in values if "WER" in key or "recovered" in key]
    assert (tmp_path / "out" / "test" / "talk.stm").exists()


def test_long_parts_are_read_in_windows(runs, corpus, tmp_path, monkeypatch):
    speech = soundfile.read(next((corpus / "audio").rglob("*.flac")))[0]
    soundfile.write(tmp_path / "talk.wav", np.tile(speech, 1 + 130 * 16000 // len(speech)), 16000)
    recogniser = load_run(runs / "r")
    read: list[float] = []

    def reading(path, sample_rate, offset=0.0, duration=None):
        read.append(duration)
        return read_audio(path, sample_rate, offset, duration)

    monkeypatch.setattr("src.utils.audio.read_audio", reading)
    recogniser.task.word_times, recogniser.task.output = True, "words"
    talk = Conversation(SimpleNamespace(sample_rate=16000), recogniser, None)
    words = talk.words(tmp_path / "talk.wav", 1.0, 129.0)
    assert max(read) <= 60 and sum(read) >= 128
    assert words[0].start >= 1 and words[-1].end == pytest.approx(129, abs=3)


def test_a_voice_that_is_alone_is_heard_in_the_mixture(tmp_path):
    rng = np.random.default_rng(0)
    mixture = rng.uniform(-0.5, 0.5, 32_000)
    voice = np.where(np.arange(32_000) < 16_000, 0.5 * mixture, 0.1 * rng.uniform(-1, 1, 32_000))
    paths = tmp_path / "mixture.wav", tmp_path / "voice.wav"
    for path, samples in zip(paths, (mixture, voice), strict=True):
        soundfile.write(path, samples, 16000)
    levels = [(signal**2).reshape(200, 160).mean(1) for signal in (voice, mixture)]
    alone = np.arange(200) < 90
    heard = with_mixture(paths[1], paths[0], *levels, alone, tmp_path / "heard.wav")
    samples = soundfile.read(heard)[0]
    np.testing.assert_allclose(samples[:14_000], 0.5 * mixture[:14_000], atol=1e-3)
    np.testing.assert_allclose(samples[15_000:], voice[15_000:], atol=1e-4)
    assert with_mixture(paths[1], paths[0], *levels, np.zeros(200, bool), heard) == paths[1]


def test_runs_in_the_wrong_place_raise(runs, corpus):
    data = f"datasets.test.folder={corpus}"
    with pytest.raises(ValueError, match=r"config, separator: .* is a run of recognition, not of"):
        converse(runs, data, separator="r")
    with pytest.raises(ValueError, match=r"config, recogniser: .* is a run of separation, not of"):
        converse(runs, data, recogniser="s")
    with pytest.raises(ValueError, match=r"config, run: .*; null; give separator=RUN and recog"):
        converse(runs, data, f"run={runs / 's'}")
    config = composed("inference_conversation", f"separator={runs / 's'}")
    with pytest.raises(ValueError, match=r"config, recogniser: null; recogniser=RUN, the folder"):
        infer(config)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        converse(runs, data, separator="nowhere")
