"""Bad input on purpose: each case must end well, or in one sentence and exit code 1.

    python -m tests.fuzz --count 1000 --seed 0 [KIND ...]

Every case runs in a forked process with limits on its time and memory. What becomes of it:

- ok: exit code 0, finite metrics and weights, whole checkpoints;
- refused: exit code 1 and one line `error: ...`;
- traceback: an exception of Python, or another exit code;
- hang: no end within the limit;
- silent: exit code 0 although the input is known to be bad, or metrics that aren't finite;
- half-written: temporary files or a damaged checkpoint are left, or the input was changed;
- strict: refused although the input is known to be good;
- poor (counted as refused too): a sentence that doesn't name what is wrong.
"""

import argparse
import contextlib
import json
import logging
import math
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from tqdm.auto import tqdm

from src.utils.checkpoint import STATE, WEIGHTS, is_checkpoint, verify
from src.utils.entry import run_command

GIB = 2**30
LEFTOVER = re.compile(r".*\.(tmp|new|old|unfinished)")
# Marks of a message that was made for programmers.
POOR = re.compile(
    r"__init__|positional argument|unexpected keyword|NoneType|<class|object has no|not subscript"
    r"|unhashable|division|object_type|Traceback|not supported between|could not be (?:found|conv)"
    r"|must be (?:real|str)|not iterable|list indices|Full stack|enforce fail"
)
BAD_VERDICTS = ("traceback", "hang", "silent", "half-written", "strict")


@dataclass(frozen=True)
class Case:
    """One call with input that may be bad.

    Attributes:
        kind: of the input, e.g. `overrides`.
        name: what was done to the input.
        command: called in a process and a folder of its own; returns metrics or nothing.
        prepare: called before with the same folder, makes the input below `<folder>/input`.
        bad: True: must be refused; False: must succeed; None: either.
        word: that a sentence about it must contain.
        may_change: whether the command may change what is below `<folder>/input`.
    """

    kind: str
    name: str
    command: Callable[[Path], Any]
    prepare: Callable[[Path], Any] = lambda folder: None
    bad: bool | None = None
    word: str = ""
    may_change: bool = False


@dataclass
class Outcome:
    """What became of a case."""

    case: Case
    verdict: str
    message: str = ""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        notes = "".join(f" [{note}]" for note in self.notes)
        return f"{self.verdict:<12} {self.case.kind}: {self.case.name}{notes}\n    {self.message}"


# One case ---------------------------------------------------------------------------------


def run_case(case: Case, folder: Path, limit: float) -> Outcome:
    """Run a case in a process of its own.

    Args:
        case: to be run.
        folder: empty; the process's working directory.
        limit: seconds of CPU time, and three times as many of any time.
    """
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os._exit(child(case, folder))
    code = wait(pid, limit)
    outcome = judge(case, folder, code)
    outcome.seconds = time.monotonic() - started
    return outcome


def child(case: Case, folder: Path) -> int:
    """The forked process: its exit code."""
    os.setpgid(0, 0)
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory + 4 * GIB, memory + 4 * GIB))
    resource.setrlimit(resource.RLIMIT_FSIZE, (GIB, GIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tqdm.set_lock(threading.RLock())  # one that is not shared with the next case
    try:
        case.prepare(folder)
        before = {} if case.may_change else snapshot(folder / "input")
        values = None
        try:
            values = run_command(lambda: case.command(folder))
        finally:
            if not case.may_change and snapshot(folder / "input") != before:
                (folder / "changed").touch()
        (folder / "values.json").write_text(json.dumps(values, default=str))
        return 0
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 70
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()


def wait(pid: int, limit: float) -> int | None:
    """The exit code of a process (negative: of a signal); None if it took too long."""
    end = time.monotonic() + 3 * limit
    ticks = os.sysconf("SC_CLK_TCK")
    code: int | None = None
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if time.monotonic() > end or (int(fields[11]) + int(fields[12])) / ticks > limit:
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it started ends with it
    if code is None:
        os.waitpid(pid, 0)
    return code


def snapshot(folder: Path) -> dict[str, Any]:
    """Every path below a folder, with the content of files, except what inference writes."""
    return {
        str(path): path.read_bytes() if path.is_file() else path.is_dir()
        for path in folder.rglob("*")
        if "inference" not in path.parts
    }


def judge(case: Case, folder: Path, code: int | None) -> Outcome:
    """What became of a case that ended with a code."""
    lines = (folder / "stderr").read_text(errors="replace").replace("\r", "\n").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    last = next((line for line in reversed(lines) if line.strip()), "")
    left = leftovers(folder)
    if code is None:
        return Outcome(case, "hang", last)
    if code not in (0, 1) or any(line.startswith("Traceback") for line in lines):
        return Outcome(case, "traceback", f"code {code}: {last}")
    if left:
        return Outcome(case, "half-written", f"code {code}: {left}")
    if code == 1:
        if len(errors) != 1 or last != errors[0]:
            return Outcome(case, "traceback", f"{len(errors)} errors, the last line: {last}")
        verdict = "strict" if case.bad is False else "refused"
        return Outcome(case, verdict, errors[0], notes=faults(errors[0], case))
    bad = non_finite(folder)
    if bad or case.bad:
        return Outcome(case, "silent", bad or "code 0")
    return Outcome(case, "ok")


def faults(message: str, case: Case) -> list[str]:
    """What a sentence lacks."""
    poor = POOR.search(message)
    found = [f"poor: {poor[0]}"] if poor else []
    if case.word and case.word not in message:
        found.append(f"poor: no word of {case.word}")
    if len(message) > 500:
        found.append(f"poor: {len(message)} characters")
    return found


def leftovers(folder: Path) -> str:
    """Names what a case left unfinished, or nothing."""
    if (folder / "changed").exists():
        return "the input was changed"
    for path in folder.rglob("*"):
        if "input" in path.relative_to(folder).parts[:1] and not path.name.endswith("unfinished"):
            continue
        if LEFTOVER.fullmatch(path.name):
            return path.name
        if path.is_dir() and path.name in ("best", "last"):
            if not is_checkpoint(path):
                return f"{path.name} is no checkpoint"
            try:
                for name in (WEIGHTS, STATE):
                    verify(path / name)
            except (ValueError, FileNotFoundError) as error:
                return str(error)
    return ""


def non_finite(folder: Path) -> str:
    """Names a value or a weight that isn't finite, or nothing."""
    values = json.loads((folder / "values.json").read_text())
    for name, value in (values if isinstance(values, dict) else {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"{name} is {value}"
    for path in folder.glob("run/*/model.safetensors"):
        for name, weight in safetensors.torch.load_file(path).items():
            if not weight.isfinite().all():
                return f"{path.parent.name}: {name} is not finite"
    return ""


# All cases --------------------------------------------------------------------------------


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """A process that starts threads can't be forked safely."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_all(
    kinds: list[str], count: int, seed: int, limit: float = 20.0, keep: Path | None = None
) -> list[Outcome]:
    """Run cases of some kinds.

    Args:
        kinds: keys of `tests.fuzz_cases.KINDS`.
        count: cases of each.
        seed: which ones.
        limit: seconds of CPU time of a case.
        keep: where folders of cases that ended badly are kept; None: nowhere.
    """
    import tests.preloaded  # noqa: F401, what every case would import
    from tests.fuzz_cases import KINDS, World

    outcomes = []
    with tempfile.TemporaryDirectory() as name, single_threaded():
        world = World(Path(name))
        for kind in kinds:
            for number, case in enumerate(KINDS[kind](world, count, seed)):
                folder = Path(name) / "cases" / f"{kind}-{number}"
                folder.mkdir(parents=True)
                outcome = run_case(case, folder, limit)
                outcomes.append(outcome)
                if outcome.verdict in BAD_VERDICTS or outcome.notes:
                    print(outcome, flush=True)
                    if keep:
                        shutil.copytree(folder, keep / folder.name, ignore=only_small)
                shutil.rmtree(folder)
    return outcomes


def only_small(folder: str, names: list[str]) -> list[str]:
    """Names in a folder that are no regular files of moderate size, for `copytree`."""
    paths = [Path(folder, name) for name in names]
    return [
        p.name for p in paths if not p.is_dir() and not (p.is_file() and p.stat().st_size < 1e7)
    ]


def table(outcomes: list[Outcome]) -> str:
    """Counts by kind and verdict."""
    verdicts = ("ok", "refused", *BAD_VERDICTS)
    lines = [f"{'kind':<12}{'count':>7}" + "".join(f"{v:>13}" for v in verdicts) + f"{'poor':>7}"]
    for kind in dict.fromkeys(outcome.case.kind for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.case.kind == kind]
        counts = Counter(outcome.verdict for outcome in own)
        poor = sum(bool(outcome.notes) for outcome in own)
        cells = "".join(f"{counts[verdict]:>13}" for verdict in verdicts)
        lines.append(f"{kind:<12}{len(own):>7}{cells}{poor:>7}")
    return "\n".join(lines)


def main() -> None:
    """Run the kinds on the command line; the exit code is 1 if a case ended badly."""
    from tests.fuzz_cases import KINDS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)} (default: all)")
    parser.add_argument("--count", type=int, default=1000, help="cases in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20, help="seconds of a case (default: 20)")
    parser.add_argument("--all", type=Path, help="write every outcome to this file")
    parser.add_argument("--keep", type=Path, help="keep the folders of bad outcomes here")
    arguments = parser.parse_args()
    kinds = arguments.kinds or list(KINDS)
    each = math.ceil(arguments.count / len(kinds))
    outcomes = run_all(kinds, each, arguments.seed, arguments.limit, arguments.keep)
    if arguments.all:
        arguments.all.write_text("".join(f"{outcome}\n" for outcome in outcomes))
    print(table(outcomes))
    sys.exit(any(outcome.verdict in BAD_VERDICTS for outcome in outcomes))


if __name__ == "__main__":
    main()
