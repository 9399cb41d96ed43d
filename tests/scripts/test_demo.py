"""What the demo's page shows, without a page; tests/test_demo_page.py has one."""

import socket
import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from scripts import demo
from scripts.demo import Shown, answer, import_gradio, listen, load, serve
from src.text_encoder.alignment import Word
from tests.demo import ROOT, sine

WORDS = [Word("good", 0.1, 0.404, 0.999), Word("day", 0.5, 0.9, 0.5)]


class Model(nn.Module):
    def forward(self, audio_length):
        return audio_length


class FakeSystem:
    """A system that calls its model for every second of a file, and returns a given output."""

    def __init__(self, output, **task):
        self.output, self.task, self.sample_rate = output, SimpleNamespace(**task), 8000
        self.model = Model()

    def __call__(self, path):
        samples, _ = soundfile.read(path)
        if not len(samples) > 100:
            raise ValueError(f"audio: {len(samples)} samples, fewer than a window of 100.")
        for _ in range(0, len(samples), 8000):
            self.model(audio_length=torch.tensor([8000]))
        return self.output


def recogniser(output, window_seconds=60.0, overlap_seconds=0.0):
    task = {"window_seconds": window_seconds, "overlap_seconds": overlap_seconds}
    return Shown("runs/first", FakeSystem(output, **task), 0)


def answers(shown, path, report=None):
    return list(answer(shown, None if path is None else str(path), report or (lambda *_: None)))


def test_transcript_with_times_of_words(tmp_path):
    first, last = answers(recogniser(WORDS), sine(tmp_path / "a.wav", 8000))
    assert first == ["<p></p>", "", []]
    assert last[0].startswith("<p>1.0 s of audio in ")
    rows = [["0.10", "0.40", "good", "1.00"], ["0.50", "0.90", "day", "0.50"]]
    assert last[1:] == ["good day", rows]


def test_transcript_of_a_run_without_times(tmp_path):
    assert answers(recogniser("good day"), sine(tmp_path / "a.wav", 8000))[-1][1:] == [
        "good day",
        [],
    ]


def test_no_words(tmp_path):
    last = answers(recogniser([]), sine(tmp_path / "a.wav", 8000))[-1]
    assert last[0].endswith(" s. No words.</p>")
    assert last[1:] == ["", []]


def test_voices_are_files_beside_the_upload(tmp_path):
    estimates = torch.tensor([[0.5, -2.0], [0.25, 1.0]])
    task = {"window": 16 * 8000, "overlap": 4 * 8000, "sample_rate": 8000}
    shown = Shown("runs/separation", FakeSystem(estimates, **task), 2)
    path = sine(tmp_path / "upload" / "a.wav", 8000, seconds=0.1)
    first, (_, *voices) = answers(shown, path)
    assert first == ["<p></p>", None, None]
    for voice, expected in zip(voices, estimates / 2, strict=True):
        samples, rate = soundfile.read(voice)
        np.testing.assert_allclose(samples, expected, atol=5e-5)
        assert (rate, voice.startswith(str(path.parent))) == (8000, True)


def test_removing_the_recording_removes_the_result():
    assert answers(recogniser(WORDS), None) == [["<p></p>", "", []]]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (None, "&lt;b&gt;.wav: not readable as audio (Format not recognised)."),
        (0, "&lt;b&gt;.wav: a header without audio."),
        (40, "&lt;b&gt;.wav: 40 samples, fewer than a window of 100."),
    ],
)
def test_bad_files_are_named_on_the_page(samples, message, tmp_path):
    path = tmp_path / "<b>.wav"
    if samples is None:
        path.write_text("no audio")
    else:
        soundfile.write(path, np.zeros(samples), 8000)
    assert answers(recogniser(WORDS), path)[-1] == [f"<p class=error>{message}</p>", "", []]


def test_defects_are_no_bad_input(tmp_path):
    shown = recogniser([None])
    with pytest.raises(AttributeError):
        answers(shown, sine(tmp_path / "a.wav", 8000))


def test_progress_of_a_long_recording(tmp_path):
    reports = []
    path = sine(tmp_path / "a.wav", 8000, seconds=4)
    answers(recogniser(WORDS), path, lambda *report: reports.append(report))
    assert reports == []  # one window
    shown = recogniser(WORDS, window_seconds=2.0, overlap_seconds=1.0)
    answers(shown, path, lambda *report: reports.append(report))
    assert reports == [(k / 8, "0:04 of audio") for k in range(4)]
    assert not shown.system.model._forward_pre_hooks


def test_other_tasks_are_refused(monkeypatch):
    system = SimpleNamespace(task=SimpleNamespace(name="pretraining"), sample_rate=8000)
    monkeypatch.setattr(demo, "load_run", lambda *_, **__: system)
    with pytest.raises(ValueError, match="^nest: a run of pretraining; the demo needs a recogn"):
        load("nest", None, [])


def arguments(*runs, port=0):
    return Namespace(runs=runs, host="127.0.0.1", port=port, device=None, trust=[])


def test_without_gradio(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # so that it is as before afterwards
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match="package gradio: pip install -r requirements-demo.txt"):
        import_gradio()
    with pytest.raises(ValueError, match="package gradio"):
        serve(arguments("runs/first"))
    assert (ROOT / demo.REQUIREMENTS).is_file()


def test_at_most_two_runs():
    with pytest.raises(ValueError, match="^3 runs; the page shows one or two.$"):
        serve(arguments("a", "b", "c"))


def test_port_and_host_are_named():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"^--port: {port} is in use; give another one.$"):
            serve(arguments("runs/first", port=port))
    with pytest.raises(ValueError, match="^--port: 70000; from 0 to 65535.$"):
        listen("127.0.0.1", 70000)
    with pytest.raises(ValueError, match="^--host: '192.0.2.1' is no address of this computer"):
        listen("192.0.2.1", 0)
