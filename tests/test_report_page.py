"""The page about evaluations in a headless Chromium, opened from the disk."""

import contextlib
import os
import time

import pytest

from src.report.facts import Facts
from src.report.page import write_page
from tests.browser import Browser, find_browser
from tests.demo import ROOT, SMALL, experiment
from tests.report.pages import evil_report, large_report
from train import train

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium; python scripts/get_browser_runtime.py --chromium"
)
FLAGS = ("--host-resolver-rules=MAP * ~NOTFOUND", "--autoplay-policy=no-user-gesture-required")
PLAY = """(async () => {
    const player = document.querySelector("audio");
    await player.play();
    while (player.currentTime < 0.1) await new Promise((done) => setTimeout(done, 20));
    return [player.duration, player.error];
})()"""
SET = """(([selector, value]) => {
    const field = document.querySelector(selector);
    field.value = value;
    field.dispatchEvent(new Event("input"));
})(%s)"""


@contextlib.contextmanager
def opened(path, folder):
    """A browser that shows a page; it requests files only, and nothing goes wrong."""
    browser = Browser(EXECUTABLE, folder / "profile", *FLAGS)
    try:
        browser.call("Page.navigate", url=path.as_uri())
        browser.wait(lambda: browser.evaluate("document.readyState") == "complete")
        yield browser
        assert browser.problems == []
        assert all(one.startswith(("file:", "data:", "blob:")) for one in browser.requests)
    finally:
        browser.close()


def put(browser, selector, value):
    browser.evaluate(SET % [selector, value])


def names(browser):
    return browser.evaluate(
        "Array.from(document.querySelectorAll('.utterance h4'), (one) => one.textContent)"
    )


def rates(browser):
    """The WER of the cards."""
    texts = browser.evaluate(
        "Array.from(document.querySelectorAll('.scores span:first-child'), (s) => s.textContent)"
    )
    return [float(text.removeprefix("WER ")) for text in texts]


def test_players_play_and_pictures_load(corpus, tmp_path):
    os.chdir(ROOT)
    train(experiment("asr_deepspeech2", corpus, tmp_path / "run", *SMALL, "debug=smoke"))
    with opened(tmp_path / "run" / "report" / "report.html", tmp_path) as browser:
        duration, error = browser.evaluate(PLAY)
        assert duration > 1 and error is None
        loaded = "document.querySelector('.picture img').naturalWidth"
        assert browser.wait(lambda: browser.evaluate(loaded)) > 50
        assert browser.evaluate("document.querySelectorAll('.pair.delete').length") > 0
        assert browser.evaluate("document.querySelectorAll('svg path').length") > 2


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "report.html"
    write_page(path, Facts("run", "a: 1\n"), [large_report(500)])
    return path


def test_search_sort_and_filter(large, tmp_path):
    with opened(large, tmp_path) as browser:
        assert names(browser)[:2] == ["utterance_0", "utterance_1"]
        assert len(names(browser)) < 500
        put(browser, ".search", "UTTERANCE_49 word3")
        assert browser.text(".count") == "11 of 500"
        put(browser, ".search", "")
        put(browser, ".direction", "1")
        assert names(browser)[0] == "utterance_499"
        put(browser, ".sort", "WER")
        assert rates(browser)[:3] == [0.002, 0.004, 0.006]
        put(browser, ".direction", "-1")
        put(browser, ".filter", "WER")
        put(browser, ".low", "0.2")
        put(browser, ".high", "0.5")
        assert browser.text(".count") == "151 of 500"
        assert rates(browser)[0] == 0.5
        browser.evaluate("for (let i = 0; i < 9; i++) document.querySelector('.more').click()")
        assert len(names(browser)) == 151 and min(rates(browser)) == 0.2
        browser.click(".with-audio")
        assert browser.text(".count") == "0 of 500"


def test_tables_sort_and_become_csv(large, tmp_path):
    with opened(large, tmp_path) as browser:
        browser.call(
            "Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "csv")
        )
        browser.click(".tables th:last-child button")
        assert browser.text(".tables tbody tr").split() == ["s39", "0.975"]
        browser.click(".tables h3 button")
        put(browser, ".search", "utterance_499")
        browser.click(".controls .csv")
        files = [tmp_path / "csv" / name for name in ("test_Speakers.csv", "test.csv")]
        browser.wait(lambda: all(path.exists() for path in files))
        time.sleep(0.2)
        assert files[0].read_text().splitlines()[:2] == ["speaker,WER", "s39,0.975"]
        head, line = files[1].read_text().splitlines()
        assert head == "id,WER,target,prediction,seconds,speaker"
        assert line.startswith("utterance_499,0.002,word0 ")


def test_texts_stay_texts(tmp_path):
    write_page(tmp_path / "report.html", Facts("run", "a: 1\n"), [evil_report()])
    browser = Browser(EXECUTABLE, tmp_path / "profile", *FLAGS)
    try:
        browser.call("Page.navigate", url=(tmp_path / "report.html").as_uri())
        browser.wait(lambda: names(browser))
        assert names(browser)[0].startswith("</script><!-- <img src=x onerror=alert(1)>")
        assert browser.evaluate("document.querySelectorAll('img[onerror], img[src=x]').length") == 0
        assert browser.evaluate("document.querySelectorAll('script').length") == 3
        loads = "net::ERR_FILE_NOT_FOUND"  # of audio whose names are no files
        assert all(loads in problem for problem in browser.problems)
    finally:
        browser.close()
