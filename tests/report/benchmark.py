"""Time and size of a page of many utterances in Chromium: python -m tests.report.benchmark [N]."""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from src.report.facts import Facts
from src.report.page import write_page
from tests.browser import Browser, find_browser
from tests.report.pages import large_report

ROUNDS = 5
# Milliseconds from the start of loading to the second frame after the script, with its cards.
PAINTED = """new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() =>
    done(performance.now()))))"""
SEARCH = """(() => {
    const start = performance.now(), field = document.querySelector(".search");
    field.value = "word7 9";
    field.dispatchEvent(new Event("input"));
    document.body.offsetHeight;  // lays out
    return performance.now() - start;
})()"""


def main() -> None:
    """Print the medians."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    executable = find_browser()
    if executable is None:
        raise SystemExit("no Chromium; python scripts/get_browser_runtime.py --chromium")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        start = time.perf_counter()
        write_page(path, Facts("run", "a: 1\n"), [large_report(count)])
        seconds = time.perf_counter() - start
        print(f"{count} utterances: written in {seconds:.2f} s, {path.stat().st_size / 1e6:.2f} MB")
        times = [measure(executable, path, Path(folder) / str(k)) for k in range(ROUNDS)]
    painted, searched = (median(column) for column in zip(*times, strict=True))
    print(f"opened in {painted:.0f} ms, searched in {searched:.0f} ms (medians of {ROUNDS})")


def measure(executable: Path, path: Path, profile: Path) -> tuple[float, float]:
    """Milliseconds until the page is painted and until a search is, in a new browser."""
    browser = Browser(executable, profile)
    try:
        browser.call("Page.navigate", url=path.as_uri())
        browser.wait(lambda: browser.evaluate("document.querySelectorAll('.utterance').length"))
        return browser.evaluate(PAINTED), browser.evaluate(SEARCH)
    finally:
        browser.close()


if __name__ == "__main__":
    main()
