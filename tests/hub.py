"""A server that imitates the few addresses of the Hugging Face hub that a download needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants


class Hub:
    """Models by name.

    Attributes:
        models: name -> folder.
        requests: methods and paths of all requests.
        gated: names of models that need access.
        address: of the server.
    """

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.requests: list[str] = []
        self.gated: set[str] = set()
        self.address = ""

    def commit(self, name: str) -> str:
        """The commit of a model, which changes with its files."""
        files = [f"{path} {blob(folder / path)}" for folder, path in self.files(name)]
        return hashlib.sha1("\n".join(files).encode()).hexdigest()

    def files(self, name: str) -> list[tuple[Path, str]]:
        folder = self.models[name]
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return [(folder, path.relative_to(folder).as_posix()) for path in paths]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        if len(parts) < 4:
            return 404, {}, b""
        user, model, action, revision, *rest = parts
        name = f"{user}/{model}"
        if name in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if name not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        commit = self.commit(name)
        if revision not in ("main", commit):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if api and action == "revision":
            return 200, {}, as_json({"id": name, "sha": commit})
        if api:
            return 200, {}, as_json([entry(folder, path) for folder, path in self.files(name)])
        file = self.models[name] / "/".join(rest)
        if not file.is_file():
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        return 200, {"ETag": f'"{blob(file)}"', "X-Repo-Commit": commit}, file.read_bytes()


def blob(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def entry(folder: Path, path: str) -> dict[str, Any]:
    file = folder / path
    return {"type": "file", "path": path, "size": file.stat().st_size, "oid": blob(file)}


@contextmanager
def serving(cache: Path) -> Iterator[Hub]:
    """A hub on this computer, which downloads in this process come from.

    Args:
        cache: folder that they go to.
    """
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    try:
        with (
            patch.object(constants, "ENDPOINT", hub.address),
            patch.object(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template),
            patch.object(constants, "HF_HUB_CACHE", str(cache)),
        ):
            yield hub
    finally:
        server.shutdown()
        server.server_close()
