"""Serve the page that runs exported models in a browser: python scripts/serve_page.py FOLDER ...

FOLDER is a recogniser or a separator as scripts/export.py writes it; give one or both. The page
comes from docs/browser, and onnxruntime-web from docs/browser/runtime, where
scripts/get_browser_runtime.py puts it. Only this computer can open the page.
"""

import argparse
import errno
import json
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.utils.entry import run_command
from src.utils.files import check_regular

PAGE = Path(__file__).parents[1] / "docs" / "browser"
RUNTIME = PAGE / "runtime"
HOST = "127.0.0.1"
CONFIG = "config.json"
# The folder of each task on the page, and the files of an export that it needs.
TASKS = {
    "recognition": ("recogniser", (CONFIG, "frontend.onnx", "model.onnx")),
    "separation": ("separator", (CONFIG, "model.onnx")),
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    # The policy of index.html, for workers too, which don't have the policy of their page.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'"
    ),
    # Without these two, browsers give WebAssembly one thread only.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}

PORT_ERRORS: dict[int | None, str] = {errno.EADDRINUSE: "in use", errno.EACCES: "not allowed"}

Contents = Mapping[str, Path | bytes]  # of the server, by their paths in a URL


def collect(folders: list[Path], runtime: Path = RUNTIME) -> dict[str, Path | bytes]:
    """What is served: the page, the runtime and the exported models.

    Args:
        folders: of the exports, each of another task.
        runtime: folder of onnxruntime-web.

    Returns:
        The file, or the content, for each path of a URL.

    Raises:
        FileNotFoundError: there is no runtime, or an export lacks a file.
        ValueError: a folder is no export of one of the tasks, or two are of the same task.
    """
    contents: dict[str, Path | bytes] = {
        f"/{path.name}": path for path in PAGE.iterdir() if path.suffix in TYPES
    }
    contents["/"] = contents["/index.html"]
    parts = [path for path in runtime.glob("*") if path.suffix in (".mjs", ".wasm")]
    if not parts:
        raise FileNotFoundError(
            f"{runtime}: no onnxruntime-web; run python scripts/get_browser_runtime.py."
        )
    contents |= {f"/runtime/{path.name}": path for path in parts}
    owners: dict[str, Path] = {}
    for folder in folders:
        task = read_task(folder)
        if task in owners:
            raise ValueError(f"{folder}: for {task}, as {owners[task]}; give one folder a task.")
        owners[task] = folder
        name, files = TASKS[task]
        for file in files:
            check_regular(folder / file)
            contents[f"/models/{name}/{file}"] = folder / file
    contents["/models/models.json"] = json.dumps(sorted(owners)).encode()
    return contents


def read_task(folder: Path) -> str:
    """The task of an exported model.

    Raises:
        ValueError: the folder is no export, or one of another task.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(
            f"{folder}: no exported model, {CONFIG} is missing; see scripts/export.py."
        )
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from None
    task = config.get("task") if isinstance(config, dict) else None
    if task not in TASKS:
        raise ValueError(f"{path}, task: {task!r}; the page has {' and '.join(TASKS)}.")
    return task


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD with the given contents, and with nothing else.

    Args:
        contents: by path of a URL; no path is ever looked up on the disk.
    """

    def __init__(self, contents: Contents, *args, **kwargs):
        self.contents = contents
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Send a file."""
        self.answer(body=True)

    def do_HEAD(self) -> None:
        """Send the headers of a file."""
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        """Send a file, or an error if there is none."""
        content = self.contents.get(urlsplit(self.path).path)
        if not self.is_local():  # another site, whose name was made to point to this computer
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if isinstance(content, bytes):
            self.send_headers(TYPES[".json"], len(content))
            if body:
                self.wfile.write(content)
            return
        try:
            file = content.open("rb")
        except OSError:  # removed since the start
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        with file:
            self.send_headers(TYPES[content.suffix], content.stat().st_size)
            if body:
                shutil.copyfileobj(file, self.wfile)

    def is_local(self) -> bool:
        """Whether the browser asked for this computer by one of its own names."""
        return self.headers.get("Host", "").partition(":")[0] in (HOST, "localhost")

    def send_headers(self, kind: str, size: int) -> None:
        """Begin an answer.

        Args:
            kind: MIME type of the body.
            size: of the body in bytes.
        """
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log errors only."""
        if args and str(args[1] if len(args) > 1 else args[0]) >= "400":
            super().log_message(format, *args)


class Server(ThreadingHTTPServer):
    """A server of this computer; browsers that leave early are no errors."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what a handler has raised."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(contents: Contents, port: int) -> Server:
    """A server that listens; `serve_forever` makes it answer.

    Args:
        contents: by path of a URL.
        port: 0: any.

    Raises:
        ValueError: the port is in use or not allowed.
    """
    try:
        return Server((HOST, port), partial(Handler, contents))
    except (OSError, OverflowError) as error:
        raise port_error(port, error) from None


def port_error(port: int, error: OSError | OverflowError) -> ValueError:
    """The error of a port that can't be listened on, as a sentence."""
    if isinstance(error, OverflowError):
        return ValueError(f"--port: {port}; from 0 to 65535.")
    reason = PORT_ERRORS.get(error.errno, error.strerror)
    return ValueError(f"--port: {port} is {reason}; give another one.")


def serve(arguments: argparse.Namespace) -> None:
    """Serve the page until a signal comes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a folder is no export, or the port is in use.
    """
    with make_server(collect(arguments.folders), arguments.port) as server:
        print(f"http://{HOST}:{server.server_port}/  (Ctrl-C stops)", flush=True)
        server.serve_forever()


def main() -> None:
    """Parse the command line and serve the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER", help="exported models, one a task"
    )
    parser.add_argument("--port", type=int, default=8000, help="default: 8000; 0: any")
    arguments = parser.parse_args()
    run_command(lambda: serve(arguments))


if __name__ == "__main__":
    main()
