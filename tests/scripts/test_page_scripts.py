import hashlib
import http.client
import io
import json
import re
import tarfile
import threading
from base64 import b64encode

import pytest

from scripts import get_browser_runtime, serve_page
from scripts.get_browser_runtime import Package, extract, install
from scripts.serve_page import HEADERS, PAGE, collect, make_server
from tests.demo import run_script


@pytest.fixture
def runtime(tmp_path):
    """A folder like that of onnxruntime-web."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "ort.wasm.min.mjs").write_text("export {}")
    (folder / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm")
    (folder / "version.txt").write_text("1")
    return folder


def write_export(folder, task, *files):
    """A folder like an exported model."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"task": task}))
    for file in files:
        (folder / file).write_bytes(b"onnx")
    return folder


@pytest.fixture
def connect(tmp_path, runtime):
    """A function that asks a server for a path."""
    folder = write_export(tmp_path / "s", "separation", "model.onnx", "secret.txt")

    with make_server(collect([folder], runtime), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def ask(path, method="GET", host=None):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
            connection.request(method, path, headers={"Host": host} if host else {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()

        ask.folder, ask.port = folder, server.server_port
        yield ask
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/index.html?a=b", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/runtime/ort.wasm.min.mjs", "text/javascript; charset=utf-8"),
        ("/runtime/ort-wasm-simd-threaded.wasm", "application/wasm"),
        ("/models/models.json", "application/json"),
        ("/models/separator/config.json", "application/json"),
        ("/models/separator/model.onnx", "application/octet-stream"),
    ],
)
def test_files_have_their_types_and_the_policy(path, kind, connect):
    status, headers, body = connect(path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert headers["Content-Length"] == str(len(body)) != "0"
    assert HEADERS.items() <= headers.items()
    status, headers, body = connect(path, "HEAD")
    assert (status, headers["Content-Type"], body) == (200, kind, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/models/separator/secret.txt",
        "/models/recogniser/model.onnx",
        "/runtime/version.txt",
        "/../README.md",
        "/models/separator/../../../../etc/passwd",
        "/%2e%2e/README.md",
        "//etc/passwd",
        "/runtime/",
        "/models/separator/model.onnx/",
    ],
)
def test_nothing_else_is_served(path, connect):
    assert connect(path)[0] == 404


def test_other_requests_are_refused(connect):
    assert connect("/", host="evil.example:8000")[0] == 403
    for host in (f"localhost:{connect.port}", "localhost", "127.0.0.1"):
        assert connect("/", host=host)[0] == 200
    for host in ("[::1]", "evil.example", "localhost.evil.example"):
        assert connect("/", host=host)[0] == 403
    assert connect("/", "POST")[0] == 501
    (connect.folder / "model.onnx").unlink()
    assert connect("/models/separator/model.onnx")[0] == 404


def test_page_has_the_policy_of_the_server():
    page = re.sub(r"\s+", " ", (PAGE / "index.html").read_text(encoding="utf-8"))
    assert f'content="{HEADERS["Content-Security-Policy"]}"' in page
    sources = [path.read_text(encoding="utf-8") for path in PAGE.glob("*.*")]
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", " ".join(sources))


def test_bad_folders_are_named(tmp_path, runtime):
    one = write_export(tmp_path / "one", "separation", "model.onnx")
    two = write_export(tmp_path / "two", "separation", "model.onnx")
    lacking = write_export(tmp_path / "lacking", "recognition", "model.onnx")
    other = write_export(tmp_path / "other", "pretraining", "model.onnx")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    for folders, message in (
        ([tmp_path], "no exported model, config.json is missing; see scripts/export.py"),
        ([one, two], "two: for separation, as .*one; give one folder a task"),
        ([lacking], r"lacking/frontend.onnx: no such file"),
        ([other], "config.json, task: 'pretraining'; the page has recognition and separation"),
        ([tmp_path / "damaged"], "damaged/config.json: not JSON"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            collect(folders, runtime)
    with pytest.raises(FileNotFoundError, match="run python scripts/get_browser_runtime.py"):
        collect([one], tmp_path / "none")


def test_bad_port_is_named(connect):
    with pytest.raises(ValueError, match=f"--port: {connect.port} is in use; give another one"):
        make_server({}, connect.port)
    with pytest.raises(ValueError, match="--port: 70000; from 0 to 65535"):
        make_server({}, 70000)


def test_serve_page_ends_with_a_sentence(tmp_path):
    done = run_script("serve_page", tmp_path / "none", code=1)
    assert re.fullmatch(r"error: .*\n", done.stderr)
    assert "runtime" in done.stderr or "config.json is missing" in done.stderr


def write_package(path, **members):
    """An archive like those of the npm registry, and its integrity."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def place(extracted, folder):
    (extracted / "a").rename(folder / "a")


def test_install_verifies_and_replaces(tmp_path, monkeypatch):
    integrity = write_package(tmp_path / "p.tgz", a=b"new", b=b"not needed")
    url = (tmp_path / "p.tgz").as_uri()
    monkeypatch.setattr(Package, "url", property(lambda self: url))
    folder = tmp_path / "made" / "folder"
    folder.mkdir(parents=True)
    (folder / "old").write_text("of another version")
    package = Package("p", "2", integrity, ("package/a",))
    install(package, folder, place)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "version.txt"]
    assert (folder / "a").read_bytes() == b"new"
    monkeypatch.setattr(get_browser_runtime, "download", None)  # not called any more
    install(package, folder, place)


def test_damaged_package_changes_nothing(tmp_path, monkeypatch):
    write_package(tmp_path / "p.tgz", a=b"new")
    url = (tmp_path / "p.tgz").as_uri()
    monkeypatch.setattr(Package, "url", property(lambda self: url))
    package = Package("p", "2", b64encode(bytes(64)).decode(), ("package/a",))
    with pytest.raises(ValueError, match="damaged: SHA-512"):
        install(package, tmp_path / "folder", place)
    assert not (tmp_path / "folder").exists()


def test_unexpected_archives_are_named(tmp_path):
    write_package(tmp_path / "p.tgz", a=b"x")
    with pytest.raises(ValueError, match="p.tgz: not the expected archive.*package/b"):
        extract(tmp_path / "p.tgz", ("package/b",), tmp_path)
    (tmp_path / "q.tgz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="q.tgz: not the expected archive"):
        extract(tmp_path / "q.tgz", ("package/b",), tmp_path)


def test_registry_address():
    package = Package("@scope/name", "1.2.3", "", ())
    assert package.url == "https://registry.npmjs.org/@scope/name/-/name-1.2.3.tgz"
    assert set(serve_page.TASKS) == {"recognition", "separation"}
