"""A web server that sends ranges of files, and fails as it is told."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote


class RangeServer(http.server.ThreadingHTTPServer):
    """Serves the files in a folder.

    Attributes:
        failures: what becomes of the next requests: a status, `slow`, `drip`, `cut`, `no range` or
            `reset`; after them all goes well.
        asked: the ranges that were asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.failures, self.asked = folder, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Clients that give up are expected."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: RangeServer

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        failure = self.server.failures.pop(0) if self.server.failures else None
        path = self.server.folder / unquote(self.path).lstrip("/")
        if isinstance(failure, int):
            self.send_error(failure)
            return
        if failure == "reset":
            self.connection.close()
            return
        if failure == "slow":
            time.sleep(1.5)
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        first, last = (int(one) for one in asked.removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        if not part:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if failure == "no range" else 206)
        end = first + len(part) - 1
        self.send_header("Content-Range", f"bytes {first}-{end}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if failure == "drip":
            for i in range(len(part)):
                self.wfile.write(part[i : i + 1])
                self.wfile.flush()
                time.sleep(0.1)
            return
        self.wfile.write(part[: len(part) // 2] if failure == "cut" else part)

    def log_message(self, *_) -> None:
        pass


@contextmanager
def range_server(folder: Path) -> Iterator[RangeServer]:
    """A running server of a folder."""
    with RangeServer(folder) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
