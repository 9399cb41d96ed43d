"""A page to try one or two runs: python scripts/demo.py RUN [RUN2].

Drop, choose or record a file: a recogniser shows the transcript with the times of its words, a
separator plays the voices. RUN is the folder of a run or a .nemo file. Audio is computed here and
sent nowhere; uploaded files are deleted after four hours and when the demo ends.
"""

import argparse
import html
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from omegaconf import OmegaConf

from scripts.serve_page import HOST, PORT_ERRORS, port_error
from src.run import load_run
from src.system import System
from src.text_encoder.alignment import Word
from src.utils.audio import write_audio
from src.utils.audio_files import full_duration
from src.utils.entry import end, is_bad_input, run_command, sentence
from src.utils.levels import limit_peak
from src.utils.self_test import test_signal

REQUIREMENTS = "requirements-demo.txt"
TITLE = "Triphone"
TASKS = {"recognition": "recogniser", "separation": "separator"}
COLUMNS = ("Start, s", "End, s", "Word", "Confidence")
MOST_RUNS = 2  # side by side
LARGEST_FILE = "1gb"
KEPT = (600, 4 * 3600)  # seconds: how often files are deleted, and from which age on
LOCAL = (HOST, "localhost")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; form-action 'none'"
)
CSS = """
.gradio-container { max-width: 1000px !important; }
.run h2 { margin: 0; font-size: 1.15em; overflow-wrap: anywhere; }
.run h2 small { font-weight: normal; opacity: 0.7; }
.status { min-height: 3em; }
.status p { margin: 0; }
.status .error { color: var(--error-text-color, #b91c1c); font-weight: 600; }
"""

Report = Callable[[float, str], Any]  # called with the fraction that is done, and of what


@dataclass(frozen=True)
class Shown:
    """A run that the page shows.

    Attributes:
        name: as on the command line.
        system: the run, to be called with audio.
        voices: number of a separator's estimates; 0: a recogniser.
    """

    name: str
    system: System
    voices: int

    def empty(self) -> list[Any]:
        """Values of the run's part of the page without a result."""
        return [None] * self.voices if self.voices else ["", []]

    def windows(self) -> tuple[float, float]:
        """Size and overlap of the windows of long recordings, in seconds."""
        task: Any = self.system.task
        if self.voices:
            return task.window / task.sample_rate, task.overlap / task.sample_rate
        return task.window_seconds or float("inf"), task.overlap_seconds

    def compute(self, path: Path, folder: Path) -> list[Any]:
        """Values of the run's part of the page for a file.

        Args:
            path: of the recording.
            folder: for the files of the voices.

        Raises:
            ValueError: the file isn't readable as audio, or too short.
        """
        output = self.system(path)
        if self.voices:
            return write_voices(output, folder, self.system.sample_rate)
        if isinstance(output, str):
            return [output, []]
        return [" ".join(word.text for word in output), table(output)]


def load(source: Path, device: str | None, trusted: list[str]) -> Shown:
    """Load a run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no recogniser or separator.
    """
    times = OmegaConf.create({"task": {"word_times": True}})
    try:
        system = load_run(source, device=device, changes=times, trusted=trusted)
    except ValueError:  # its task has no times of words
        system = load_run(source, device=device, trusted=trusted)
    task, rate = system.task.name, system.sample_rate
    if task not in TASKS:
        kinds = " or a ".join(TASKS.values())
        raise ValueError(f"{source}: a run of {task or 'another task'}; the demo needs a {kinds}.")
    quarter = test_signal(rate)[: rate // 4]
    return Shown(str(source), system, len(system(quarter, rate)) if task == "separation" else 0)


def table(words: list[Word]) -> list[list[Any]]:
    """Rows of words with their times in seconds and confidences."""
    return [
        [f"{word.start:.2f}", f"{word.end:.2f}", word.text, f"{word.confidence:.2f}"]
        for word in words
    ]


def write_voices(estimates: Any, folder: Path, sample_rate: int) -> list[str]:
    """Write estimates [S, T] to `voice_1.wav`, `voice_2.wav`, ...; returns the paths."""
    paths = []
    for k, signal in enumerate(limit_peak(estimates.float().cpu()), 1):
        paths.append(str(folder / f"voice_{k}.wav"))
        write_audio(Path(paths[-1]), signal, sample_rate)
    return paths


def answer(shown: Shown, given: str | None, report: Report) -> Iterator[list[Any]]:
    """Status, and values of a run's part of the page: first while computing, then the result.

    Args:
        shown: the run.
        given: path of an uploaded file; None: it was removed.
        report: called while a long recording is computed.
    """
    if given is None:
        yield [status(""), *shown.empty()]
        return
    path = Path(given)
    try:
        seconds = full_duration(path)
        yield [status(""), *shown.empty()]
        begin = time.monotonic()
        with watched(shown, seconds, report):
            # Gradio deletes what lies beside the uploaded file as it deletes that.
            values = shown.compute(path, Path(tempfile.mkdtemp(dir=path.parent)))
        took = time.monotonic() - begin
        nothing = "" if any(values) else " No words."
        yield [status(f"{seconds:.1f} s of audio in {took:.2f} s.{nothing}"), *values]
    except Exception as error:
        if not is_bad_input(error):
            raise
        yield [status(explain(error, path), error=True), *shown.empty()]


def explain(error: Exception, path: Path) -> str:
    """One sentence about what is wrong with a file, which it names without its folder."""
    message = sentence(error).replace(str(path), path.name).removeprefix("audio: ")
    return message if path.name in message else f"{path.name}: {message}"


def status(text: str, error: bool = False) -> str:
    """A text as HTML."""
    return f"<p{' class=error' if error else ''}>{html.escape(text)}</p>"


@contextmanager
def watched(shown: Shown, seconds: float, report: Report) -> Iterator[None]:
    """Report how much of a long recording the model has been given, while the block runs.

    Args:
        shown: the run.
        seconds: of the recording.
        report: called before each batch of windows.
    """
    size, overlap = shown.windows()
    rate, done = shown.system.sample_rate, 0.0
    # Neighbouring windows have their overlap in common.
    total = seconds * size / (size - overlap)
    what = f"{int(seconds) // 60}:{int(seconds) % 60:02} of audio"

    def count(model: Any, arguments: Any, batch: Mapping[str, Any]) -> None:
        nonlocal done
        report(min(1.0, done / total), what)
        done += float(batch["audio_length"].sum()) / rate

    if seconds <= size:
        yield
        return
    handle = shown.system.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def import_gradio() -> Any:
    """Gradio, without its telemetry.

    Raises:
        ValueError: it isn't installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ValueError(
            f"The demo needs the package {error.name}: pip install -r {REQUIREMENTS}."
        ) from None
    return gradio


def build_page(runs: list[Shown]) -> Any:
    """The page: a field for a recording, and a column of results for each run.

    Returns:
        A `gradio.Blocks`.
    """
    gr = import_gradio()
    options = {"analytics_enabled": False, "delete_cache": KEPT, "fill_width": True}
    with gr.Blocks(title=TITLE, **options) as page:
        gr.HTML(f"<h1>{TITLE}</h1>")
        recording = gr.Audio(
            type="filepath", label="Recording", elem_id="recording", buttons=["download"]
        )
        with gr.Row():
            for number, shown in enumerate(runs, 1):
                with gr.Column(elem_id=f"run_{number}", elem_classes="run"):
                    outputs = result_fields(gr, shown)
                recording.change(
                    handler(gr, shown),
                    recording,
                    outputs,
                    show_progress_on=outputs[0],
                    api_visibility="private",
                    concurrency_id="models",  # one after the other: each uses all cores
                    concurrency_limit=1,
                    trigger_mode="always_last",
                )
    return page


def result_fields(gr: Any, shown: Shown) -> list[Any]:
    """Components of a run's column: the status and what `Shown.compute` returns."""
    kind = "separator" if shown.voices else "recogniser"
    gr.HTML(f"<h2>{html.escape(shown.name)} <small>{kind}</small></h2>")
    fields = [gr.HTML(status(""), elem_classes="status")]
    if shown.voices:
        return fields + [
            gr.Audio(label=f"Voice {k}", interactive=False, buttons=["download"])
            for k in range(1, shown.voices + 1)
        ]
    text = gr.Textbox(
        label="Transcript", lines=3, max_lines=12, interactive=False, buttons=["copy"]
    )
    words = gr.Dataframe(
        headers=list(COLUMNS),
        column_widths=["20%", "20%", "35%", "25%"],
        label="Words",
        interactive=False,
        max_height=400,
        buttons=["copy"],
    )
    return [*fields, text, words]


def handler(gr: Any, shown: Shown) -> Callable:
    """What the page calls with an uploaded file."""

    def compute(path: str | None, progress: Any = gr.Progress()) -> Iterator[list[Any]]:  # noqa: B008
        yield from answer(shown, path, progress)

    return compute


def build_app(page: Any, host: str) -> Any:
    """The ASGI application that serves a page and forbids it to request anything from elsewhere."""
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        "/",
        footer_links=[],
        run_history=False,
        show_error=True,
        max_file_size=LARGEST_FILE,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=gradio.themes.Default(),
        css=CSS,
    )
    page.has_launched = True  # or the server would read any file that a request names

    async def with_policy(scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message = message | {"headers": [*message["headers"], policy]}
            await send(message)

        await app(scope, receive, send_with_policy)

    # Another site's name may have been made to point to this computer.
    return TrustedHostMiddleware(with_policy, LOCAL) if host in LOCAL else with_policy


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: there is no such host, or the port is in use or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if isinstance(error, OverflowError) or error.errno in PORT_ERRORS:
            raise port_error(port, error) from None
        raise ValueError(
            f"--host: '{host}' is no address of this computer ({error.strerror})."
        ) from None


def serve(arguments: argparse.Namespace) -> None:
    """Load the runs and serve the page until a signal comes.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: gradio isn't installed, the port is in use, there are more than two runs, or
            one is damaged or of a task that the page doesn't show.
    """
    if len(arguments.runs) > MOST_RUNS:
        raise ValueError(f"{len(arguments.runs)} runs; the page shows one or two.")
    with (
        tempfile.TemporaryDirectory(prefix="triphone_demo_") as folder,
        listen(arguments.host, arguments.port) as listener,
    ):
        os.environ["GRADIO_TEMP_DIR"] = folder  # of uploaded files; read when gradio is imported
        import_gradio()
        import uvicorn

        runs = [load(run, arguments.device, arguments.trust) for run in arguments.runs]
        app = build_app(build_page(runs), arguments.host)
        config = uvicorn.Config(app, log_level="warning")
        name = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"http://{name}:{listener.getsockname()[1]}/  (Ctrl-C stops)", flush=True)
        server = uvicorn.Server(config)

        def stop(sig: int, frame: FrameType | None) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            end(sig)  # a computation, which may take minutes, is not waited for

        server.handle_exit = stop  # type: ignore[method-assign]
        server.run(sockets=[listener])


def main() -> None:
    """Parse the command line and serve the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="one or two runs")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860; 0: any")
    parser.add_argument("--host", default=HOST, help=f"default: {HOST}, this computer only")
    parser.add_argument("--device", help="e.g. cpu or cuda:1 (default: that of the run)")
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the runs' configs may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: serve(arguments))


if __name__ == "__main__":
    main()
