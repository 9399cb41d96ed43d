"""The demo's page in a headless Chromium that reaches nothing but this computer."""

import io
import json
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from src.run import load_run
from src.utils.levels import limit_peak
from tests.browser import Browser, find_browser
from tests.demo import ENVIRONMENT, ROOT, SMALL, experiment
from tests.test_browser import COMMAND, MICROPHONE, OFFLINE, RATE, SEPARATOR, write_mixture
from train import train

EXECUTABLE = find_browser()
pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason=f"no Chromium; {COMMAND} --chromium"),
    pytest.mark.skipif(
        find_spec("gradio") is None, reason="no gradio; pip install -r requirements-demo.txt"
    ),
]

UPLOAD = "#recording input[type=file]"
# What Gradio itself warns of at the end of each computation.
STREAM_ENDS = '[{"type": "string", "value": "Method not implemented."}]'


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A recogniser and a separator, both hardly trained."""
    folder = tmp_path_factory.mktemp("demo_runs")
    few = ["datasets.val.limit=1", "datasets.test.limit=1"]
    recogniser = [*SMALL, "debug=smoke", *few]
    train(experiment("asr_deepspeech2", corpus, folder / "recogniser", *recogniser))
    train(experiment("separation_mossformer2", corpus, folder / "separator", *SEPARATOR, *few))
    return folder


@contextmanager
def demo(folder, *runs):
    """The address of the demo, which in the end stops by one line and leaves no files."""
    command = [sys.executable, "scripts/demo.py", *map(str, runs), "--port=0", "--device=cpu"]
    temporary = folder / "temporary"
    temporary.mkdir()
    with (folder / "demo.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=ENVIRONMENT | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            line = process.stdout.readline()
            assert line, (folder / "demo.log").read_text()
            yield line.split()[0], temporary
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 128 + signal.SIGINT
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    assert (folder / "demo.log").read_text().endswith("stopped by SIGINT\n")
    assert list(temporary.iterdir()) == []


def upload(browser, path):
    """Choose a file in place of the one before; returns what the page says about it."""
    clear(browser)
    browser.click("#recording [aria-label='Upload file']")
    browser.wait(lambda: browser.evaluate(f"!!document.querySelector('{UPLOAD}')"))
    browser.choose(UPLOAD, path)
    return finish(browser)


def clear(browser):
    """Remove the recording; the results disappear with it."""
    browser.evaluate("document.querySelector('#recording [aria-label=Clear]')?.click()")
    browser.wait(lambda: statuses(browser) == ["", ""])


def finish(browser):
    """Wait for both runs; returns what the page says about them."""
    browser.wait(lambda: all(one.endswith(".") for one in statuses(browser)))
    return statuses(browser)


def statuses(browser):
    return [browser.text(f"#run_{k} .status p") for k in (1, 2)]


def post(url, data):
    """The answer to a request with JSON."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(data).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def check_transcript(browser, run, path):
    """The transcript and the table of words are those of the run in Python."""
    times = OmegaConf.create({"task": {"word_times": True}})
    words = load_run(run, changes=times)(path)
    text = browser.evaluate("document.querySelector('#run_1 textarea').value")
    assert text == load_run(run)(path) != ""
    rows = [
        (f"{word.start:.2f}", f"{word.end:.2f}", word.text, f"{word.confidence:.2f}")
        for word in words
    ]
    cells = "[...document.querySelectorAll('#run_1 [role=gridcell]')].map((one) => one.innerText)"
    shown = browser.wait(lambda: [one.strip() for one in browser.evaluate(cells)])
    assert list(zip(*[iter(shown)] * 4, strict=True)) == rows


def check_voices(browser, run, path):
    """The voices that the page plays are those of the run in Python."""
    expected = limit_peak(load_run(run)(path)).numpy()
    links = "[...document.querySelectorAll('#run_2 a[download]')].map((link) => link.href)"
    urls = browser.wait(lambda: browser.evaluate(links))
    for url, voice in zip(urls, expected, strict=True):
        with urllib.request.urlopen(url, timeout=20) as file:
            samples, rate = soundfile.read(io.BytesIO(file.read()), dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(samples, voice, atol=5e-5)  # files have 16 bits
    assert np.abs(expected).max() > 0.02


def check_files_of_others(url, own):
    """A request can't name a file that wasn't uploaded."""
    join = {"fn_index": 0, "session_hash": "other"}
    post(f"{url}gradio_api/queue/join", join | {"data": [{"path": str(own), "meta": META}]})
    with urllib.request.urlopen(f"{url}gradio_api/queue/data?session_hash=other") as answer:
        assert "was not uploaded by a user" in answer.read().decode()
    request = urllib.request.Request(url, headers={"Host": "elsewhere.example"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(request, timeout=20)


META = {"_type": "gradio.FileData"}


def test_two_runs_side_by_side(runs, corpus, tmp_path):
    mixture = write_mixture(tmp_path / "mixture.wav", corpus, 3)
    microphone = (*MICROPHONE, f"--use-file-for-fake-audio-capture={mixture}")
    with demo(tmp_path, runs / "recogniser", runs / "separator") as (url, temporary):
        browser = Browser(EXECUTABLE, tmp_path / "profile", OFFLINE, *microphone)
        try:
            browser.call("Page.navigate", url=url)
            browser.wait(lambda: browser.evaluate("!!document.querySelector('#recording button')"))
            said = upload(browser, mixture)
            assert all(one.startswith("3.0 s of audio in ") for one in said)
            check_transcript(browser, runs / "recogniser", mixture)
            check_voices(browser, runs / "separator", mixture)
            assert any(temporary.rglob("mixture.wav"))

            clear(browser)
            browser.click("#recording [aria-label='Record audio']")
            browser.wait(lambda: browser.evaluate("!!document.querySelector('.record-button')"))
            browser.click("#recording .record-button")
            time.sleep(1.5)
            browser.click("#recording .stop-button")
            assert all(float(one.split()[0]) > 0.5 for one in finish(browser))
            assert [one for one in browser.problems if one != STREAM_ENDS] == []

            soundfile.write(tmp_path / "short.wav", np.zeros(40), RATE)
            said = upload(browser, tmp_path / "short.wav")
            assert said[0].startswith("0.0 s of audio in ")
            assert said[1].startswith("0.0 s of audio in ")
            assert browser.requests
            local = (url, f"blob:{url}", "data:")
            assert [one for one in browser.requests if not one.startswith(local)] == []
        finally:
            browser.close()
        check_files_of_others(url, Path(__file__))
