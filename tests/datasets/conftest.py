import http.server
import threading

import pytest


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, parts of them too, and hangs up early as often as it is told."""

    folder = None
    asked: list = []
    cut_offs = 0

    def do_GET(self):
        path = self.folder / self.path[1:]
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = self.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut = type(self).cut_offs > 0 and len(data) > 200  # no list of checksums
        type(self).cut_offs -= cut
        self.wfile.write(data[start : len(data) // 2 if cut else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A server of the folder `web`; `.handler.asked` holds the ranges it was asked for."""
    (tmp_path / "web").mkdir()
    handler = type("Handler", (RangeHandler,), {"folder": tmp_path / "web", "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        http_server.handler = handler
        http_server.url = f"http://127.0.0.1:{http_server.server_port}"
        yield http_server
        http_server.shutdown()
