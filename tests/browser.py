"""A headless Chromium, driven over the DevTools protocol through a pipe."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.get_browser_runtime import BROWSERS, CHROMIUM

FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none, and the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
# Workers wait until their requests are noted, too.
WORKERS = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
SECONDS = 120  # until an answer
# Chromium reads from 3 and writes to 4.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> Path | None:
    """$CHROMIUM, one of the system, or the one that get_browser_runtime.py has put in place."""
    names = (os.environ.get("CHROMIUM", ""), *BROWSERS)
    found = next(filter(None, map(shutil.which, names)), None)
    if found:
        return Path(found)
    own = CHROMIUM / "chromium"
    return own if own.is_file() else None


class Browser:
    """One tab of a headless Chromium, which notes what it requests and what goes wrong in it.

    Attributes:
        requests: URLs, in their order.
        problems: exceptions, and errors and warnings of the console.
    """

    def __init__(self, executable: Path, profile: Path, *flags: str):
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.buffer, self.number, self.session = b"", 0, None
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.output, self.input = ours_out, ours_in
        # Above 4, so that neither of the two is overwritten.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)
        command = [sys.executable, "-c", LAUNCH, *map(str, high), str(executable)]
        command += [*FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
        environment = dict(os.environ)
        if executable.is_relative_to(CHROMIUM):
            environment |= {
                "LD_LIBRARY_PATH": f"{CHROMIUM / 'lib'}",
                "FONTCONFIG_PATH": f"{CHROMIUM}",
            }
        with (profile.parent / "browser.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, pass_fds=high, env=environment, stdout=log, stderr=log
            )
        for fd in high:
            os.close(fd)
        (target,) = (
            one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"
        )
        self.session = self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")
        self.call("Target.setAutoAttach", **WORKERS)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command."""
        number = self.send(self.session, method, **parameters)
        while True:
            answer = self.read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.note(answer)

    def send(self, session: str | None, method: str, **parameters: Any) -> int:
        """Send a command to the tab or a worker; returns the number that the answer will have."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        return self.number

    def read(self) -> dict[str, Any]:
        """The next message."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.input], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.input, 1 << 16) if ready else b""
            if not chunk:
                raise RuntimeError("the browser " + ("has ended" if ready else "does not answer"))
            self.buffer += chunk
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def note(self, event: dict[str, Any]) -> None:
        """Note an event if it is a request or a problem; let a new worker start."""
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Target.attachedToTarget":
            session = parameters["sessionId"]
            self.send(session, "Network.enable")
            self.send(session, "Runtime.enable")
            self.send(session, "Target.setAutoAttach", **WORKERS)
            self.send(session, "Runtime.runIfWaitingForDebugger")
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:1000])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["args"])[:1000])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(parameters["entry"])[:1000])

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of its promise."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
        """The first value of a condition that is true."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > end:
                raise RuntimeError(f"waited in vain; problems: {self.problems}")
            time.sleep(0.1)
        return value

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def click(self, selector: str) -> None:
        """Click an element, as a person does."""
        self.call(
            "Runtime.evaluate",
            expression=f"document.querySelector({json.dumps(selector)}).click()",
            userGesture=True,
        )

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in a field of a form."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        self.process.wait(30)
        os.close(self.input)
        os.close(self.output)
