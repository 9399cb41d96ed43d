"""The page in docs/browser, in a headless Chromium that reaches nothing but this computer."""

import contextlib
import os
import threading
import time

import numpy as np
import pytest
import soundfile
import torch

from scripts import export
from scripts.get_browser_runtime import RUNTIME
from scripts.serve_page import collect, make_server
from src.run import load_run
from src.utils.audio import read_audio
from src.utils.files import read_jsonl
from src.utils.levels import limit_peak
from src.utils.resampling import resample
from tests.browser import Browser, find_browser
from tests.demo import ROOT, SMALL, experiment, export_arguments
from train import train

COMMAND = "python scripts/get_browser_runtime.py"
SEPARATOR = ["model.d_model=8", "model.num_layers=1", "model.kernel_size=64", "debug=smoke"]
RATE = 8000  # of the separator, in Hz
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

EXECUTABLE = find_browser()
pytestmark = [
    pytest.mark.skipif(EXECUTABLE is None, reason=f"no Chromium; {COMMAND} --chromium"),
    pytest.mark.skipif(not any(RUNTIME.glob("*.wasm")), reason=f"no onnxruntime-web; {COMMAND}"),
]


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A recogniser that knows a few sentences of the corpus, and an untrained separator."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"no {package}, see requirements-export.txt")
    os.chdir(ROOT)
    folder = tmp_path_factory.mktemp("browser")
    overfit = [*SMALL[1:], "model.hidden_size=64", "scheduler=constant"]
    overfit += ["debug=overfit", "trainer.epochs=1"]
    train(experiment("asr_deepspeech2", corpus, folder / "recogniser", *overfit))
    train(experiment("separation_mossformer2", corpus, folder / "separator", *SEPARATOR))
    return folder


@pytest.fixture(scope="module")
def exports(runs):
    """The exported folders of both."""
    folders = [runs / "recogniser_export", runs / "separator_export"]
    for folder in folders:
        run = runs / folder.name.removesuffix("_export")
        export.export(export_arguments(run, folder, "--check=none"))
    return folders


def serving(folders):
    """The address of a server of exported folders."""
    return serving_contents(collect(folders))


@contextlib.contextmanager
def serving_contents(contents):
    """The address of a server."""
    with make_server(contents, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def opened(url, folder, *flags):
    """A browser that shows the page; in the end it has requested nothing from elsewhere."""
    browser = Browser(EXECUTABLE, folder / "profile", OFFLINE, *flags)
    try:
        browser.call("Page.navigate", url=url)
        browser.wait(lambda: browser.text("#status") == "Ready." or browser.text("#error"))
        yield browser
        assert browser.requests
        local = (url, f"blob:{url}", "data:")
        assert [one for one in browser.requests if not one.startswith(local)] == []
    finally:
        browser.close()


@pytest.fixture
def page(exports, tmp_path):
    """The page with both models, on which nothing goes wrong."""
    with serving(exports) as url, opened(url, tmp_path) as browser:
        yield browser
        assert browser.problems == []


def finish(browser, status):
    """Wait until the page says that it has finished; it shows no error."""
    browser.wait(lambda: browser.text("#status") == status or browser.text("#error"))
    browser.wait(lambda: browser.evaluate("document.getElementById('stop').hidden"))
    assert browser.text("#error") == ""


def take(browser, path):
    """Choose a file, and wait for its transcript."""
    browser.evaluate("document.getElementById('status').textContent = ''")
    browser.choose("#file", path)
    finish(browser, "Transcribed.")
    return browser.text("#text").strip()


def download(browser, link, path):
    """Click a link by which a file is downloaded to a path."""
    path.parent.mkdir(exist_ok=True)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(path.parent))
    browser.click(link)
    browser.wait(path.exists, 20)
    return path


def voices(browser, folder):
    """The voices [S, T] that the page has, by its links to download them."""
    count = browser.evaluate("document.querySelectorAll('#voices a').length")
    paths = [
        download(browser, f"#voices > :nth-child({k}) a", folder / f"Voice {k}.wav")
        for k in range(1, count + 1)
    ]
    return np.stack([soundfile.read(path, dtype="float32")[0] for path in paths])


def first_rows(corpus):
    """Files and texts of the sentences that the recogniser has learnt."""
    rows = read_jsonl(corpus / "train.jsonl")[:4]
    return [(corpus / row["audio_filepath"], row["text"]) for row in rows]


def write_mixture(path, corpus, seconds):
    """A file of two voices, at the sample rate of the separator."""
    speakers = {}
    for row in read_jsonl(corpus / "train.jsonl"):
        audio = read_audio(corpus / row["audio_filepath"], RATE).numpy()
        speakers.setdefault(row["speaker"], []).append(audio)
    one, other = (np.resize(np.concatenate(parts), seconds * RATE) for parts in speakers.values())
    soundfile.write(path, 0.4 * (one + other), RATE, subtype="PCM_16")
    return path


def test_page_transcribes_as_python_does(runs, corpus, page, tmp_path):
    transcribe = load_run(runs / "recogniser")
    rows = first_rows(corpus)
    for path, text in rows:
        assert take(page, path) == transcribe(path) == text
    assert "s of audio in" in page.text("#time")
    assert page.text("#input h2") == rows[-1][0].name
    samples, rate = soundfile.read(rows[0][0], dtype="float32")
    other = resample(torch.from_numpy(samples), rate, 44100).numpy()
    soundfile.write(tmp_path / "stereo.wav", np.stack([other, other], 1), 44100)
    assert take(page, tmp_path / "stereo.wav") == rows[0][1]


@pytest.mark.parametrize("seconds", [3, 30])
def test_page_separates_as_python_does(seconds, runs, corpus, page, tmp_path):
    mixture = write_mixture(tmp_path / "mixture.wav", corpus, seconds)
    expected = limit_peak(load_run(runs / "separator")(mixture)).numpy()
    take(page, mixture)
    page.click("#separate")
    finish(page, "Separated.")
    actual = voices(page, tmp_path / "voices")
    assert actual.shape == (2, seconds * RATE) == expected.shape
    np.testing.assert_allclose(actual, expected, atol=5e-5)  # files have 16 bits
    assert np.abs(actual).max() > 0.02
    copy = download(page, "#input a", tmp_path / "copy" / "mixture.wav")
    assert copy.read_bytes() == mixture.read_bytes()


def test_stop(corpus, page, tmp_path):
    take(page, write_mixture(tmp_path / "mixture.wav", corpus, 120))
    page.click("#separate")
    page.wait(lambda: page.evaluate("document.getElementById('progress').value > 0"))
    page.click("#stop")
    finish(page, "Stopped.")
    assert page.evaluate("document.getElementById('separation').hidden")


def test_long_recordings_are_split_at_silence(runs, corpus, page, tmp_path):
    rows = first_rows(corpus)
    read = [read_audio(path, 16000).numpy() for path, _ in rows]
    pause = np.zeros(16000, dtype="float32")
    times = 1 + 60 // sum(len(audio) // 16000 + 1 for audio in read)
    parts = [part for audio in times * read for part in (pause, audio)]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), 16000)
    expected = load_run(runs / "recogniser")(tmp_path / "long.wav")
    assert take(page, tmp_path / "long.wav") == expected
    assert len(expected.split()) > 15 * times
    cuts = page.evaluate(PIECES)
    assert cuts[0][0] == 0
    assert all(end == start for (_, end), (start, _) in zip(cuts, cuts[1:], strict=False))
    assert cuts[-1][1] == 150 * 8000
    assert all(30 * 8000 <= end - start <= 60 * 8000 for start, end in cuts[:-1])


# The pieces of 150 seconds without any silence, at 8 kHz.
PIECES = """import("./pieces.js").then(({ pieces }) =>
    pieces(Float32Array.from({ length: 150 * 8000 }, (_, i) => Math.sin(i)), 8000))"""


def test_arithmetic_of_voices(page):
    assert page.evaluate("""import("./voices.js").then(({ solve, bestPermutation }) => [
        solve([[0, 2], [4, 1]], [6, 7]),
        bestPermutation([[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
        bestPermutation([[0, 0], [0, 0]]),
    ])""") == [[1, 3], [1, 2, 0], [0, 1]]


def test_bad_files_are_named(page, tmp_path):
    (tmp_path / "note.txt").write_text("no audio")
    soundfile.write(tmp_path / "short.wav", np.zeros(40), RATE)
    page.choose("#file", tmp_path / "note.txt")
    page.wait(lambda: page.text("#error"))
    assert page.text("#error") == "note.txt: not audio that this browser can decode."
    assert page.evaluate("document.getElementById('transcribe').disabled")
    page.choose("#file", tmp_path / "short.wav")
    page.wait(lambda: page.text("#status") in ("Transcribed.", "No words."))
    page.click("#separate")
    page.wait(lambda: page.text("#error"))
    assert page.text("#error") == "short.wav: 40 samples; separation needs at least 64."


def test_only_one_model(runs, exports, corpus, tmp_path):
    mixture = write_mixture(tmp_path / "mixture.wav", corpus, 1)
    with serving(exports[1:]) as url, opened(url, tmp_path) as browser:
        browser.choose("#file", mixture)
        finish(browser, "Separated.")
        assert browser.evaluate("document.getElementById('transcribe').hidden")
        assert voices(browser, tmp_path / "voices").shape == (2, RATE)
        assert browser.problems == []


def test_microphone(exports, corpus, tmp_path):
    path, _ = first_rows(corpus)[0]
    samples, rate = soundfile.read(path)
    soundfile.write(tmp_path / "spoken.wav", samples, rate, subtype="PCM_16")
    flags = (*MICROPHONE, f"--use-file-for-fake-audio-capture={tmp_path / 'spoken.wav'}")
    with serving(exports[:1]) as url, opened(url, tmp_path, *flags) as browser:
        browser.click("#record")
        browser.wait(lambda: browser.text("#record") == "Stop recording" or browser.text("#error"))
        assert browser.text("#error") == ""
        time.sleep(2)
        browser.click("#record")
        browser.wait(lambda: browser.text("#status") in ("Transcribed.", "No words."))
        assert browser.text("#input h2").startswith("recording.")
        assert float(browser.text("#time").split()[0]) > 1
        assert browser.problems == []


def test_no_microphone(exports, tmp_path):
    with serving(exports[:1]) as url, opened(url, tmp_path) as browser:
        browser.click("#record")
        browser.wait(lambda: browser.text("#error"))
        assert browser.text("#error").startswith("No microphone: ")
        assert browser.text("#record") == "Record"


def test_policy_forbids_other_sites(exports, tmp_path):
    with serving(exports[:1]) as url, opened(url, tmp_path) as browser:
        other = "fetch('http://127.0.0.1:9/').then(() => 'allowed', () => 'forbidden')"
        assert browser.evaluate(other) == "forbidden"
        assert any("Content Security Policy" in problem for problem in browser.problems)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("model.onnx", "models/recogniser/model.onnx: no such file."),
        ("ort.wasm.min.mjs", "runtime/: onnxruntime-web can't be loaded; run"),
    ],
)
def test_what_the_server_lacks_is_named(missing, message, exports, tmp_path):
    contents = collect(exports[:1])
    for path in [path for path in contents if path.endswith(missing)]:
        del contents[path]
    with serving_contents(contents) as url, opened(url, tmp_path) as browser:
        assert browser.text("#error").startswith(message)


def test_damaged_model_is_named(exports, tmp_path):
    contents = collect(exports[:1])
    contents["/models/recogniser/model.onnx"] = b"no model"
    with serving_contents(contents) as url, opened(url, tmp_path) as browser:
        assert browser.text("#error").startswith(
            "models/recogniser/model.onnx: onnxruntime-web can't"
        )
