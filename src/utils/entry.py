"""Entry points: bad input ends a command with one sentence and a non-zero exit code."""

import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from src.utils.files import mount_point

Result = TypeVar("Result")

TRACEBACK = "Traceback ("  # begins one
WORKER = f"Original {TRACEBACK}"  # torch's mark of an exception raised by a data worker
LOST_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (is killed by signal: .*|exited .*)")
CONFIG_LIBRARIES = ("hydra", "omegaconf", "yaml")
# Lines that omegaconf and hydra append to their messages, other than the full key.
DETAILS = ("object_type=", "reference_type=", "ref_type=")
# SIGUSR1 and SIGUSR2, which Windows lacks, announce the end of a job of a cluster.
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(number for number in signal.Signals if number.name in NAMES)


class Interrupted(KeyboardInterrupt):
    """A signal came that ends the program.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def run_command(command: Callable[[], Result]) -> Result:
    """Call `command`; bad input ends the program with one sentence instead of a traceback.

    Bad input is a ValueError, an OSError (a missing file, a full disk) or an error of the config
    libraries. One of `SIGNALS` ends the program with one line, too; a second one ends it without
    any. With TRIPHONE_TRACEBACK=1 in the environment the traceback is shown.

    Args:
        command: called without arguments, in the main thread.

    Returns:
        The result of `command`.

    Raises:
        SystemExit: code 1 for bad input, 128 + its number for a signal, as in shells.
    """
    try:
        with raise_signals():
            return command()
    except KeyboardInterrupt as error:
        if os.environ.get("TRIPHONE_TRACEBACK"):
            raise
        number = signal.Signals(getattr(error, "number", signal.SIGINT))
        print(f"stopped by {number.name}", file=sys.stderr)
        raise SystemExit(128 + number) from None
    except Exception as error:
        if os.environ.get("TRIPHONE_TRACEBACK") or not is_bad_input(error):
            raise
        message = sentence(error)
    # Frees the exception's frames, whose progress bars then leave the screen.
    gc.collect()
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)


def end_on_signals() -> None:
    """End this program with one line when one of `SIGNALS` comes, from now on.

    For the seconds before and after `run_command`, when there is nothing to clean up.
    """
    for number in SIGNALS:
        signal.signal(number, end)


def end(number: int, frame: FrameType | None = None) -> None:
    """End this program at once, because of a signal."""
    os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


@contextmanager
def raise_signals() -> Iterator[None]:
    """Raise Interrupted in the block if one of `SIGNALS` comes, in this process only.

    Processes that are forked in the block keep the default: to end. An Interrupted that can't be
    raised, since it would be in a `__del__` or a callback, ends the program.
    """
    process, previous_hook = os.getpid(), sys.unraisablehook

    def act(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != process:
            os.kill(os.getpid(), number)
        raise Interrupted(number)

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            end(unraisable.exc_value.number)
        previous_hook(unraisable)

    previous = {number: signal.signal(number, act) for number in SIGNALS}
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous_hook
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_hydra(main: Callable[[], Any], check: Callable[[list[str]], None]) -> None:
    """Call a function that hydra decorated; its errors are one sentence, as those of `run_command`.

    Args:
        main: called without arguments.
        check: called first with the arguments of the command line.
    """

    def command() -> None:
        check(sys.argv[1:])
        main()

    # With it, hydra raises its errors instead of printing several lines.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    run_command(command)


def is_bad_input(error: Exception) -> bool:
    """Whether an exception is about the user's input or system, not a defect of the program."""
    known = is_of_config(error) or is_out_of_memory(error) or is_lost_worker(error)
    return isinstance(error, ValueError | OSError) or known


def is_lost_worker(error: BaseException) -> bool:
    """Whether an exception of torch says that a data worker was killed, as where memory is full."""
    return isinstance(error, RuntimeError) and LOST_WORKER.match(str(error)) is not None


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error of torch says that another process has ended or doesn't answer."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, RuntimeError) and ("DistError" in names or "gloo" in str(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of the CPU or a GPU is full."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(
        error
    )


def is_of_config(error: BaseException) -> bool:
    """Whether an exception comes from the libraries that read the config."""
    return type(error).__module__.partition(".")[0] in CONFIG_LIBRARIES


def sentence(error: Exception) -> str:
    """One line that describes an exception; for one of a data worker, the original message."""
    text = str(error).strip()
    if WORKER in text:
        return worker_sentence(text)
    if is_lost_worker(error):
        reason = text.splitlines()[0].rstrip(". ")
        return f"{reason}; where memory is short, a smaller dataloader.num_workers needs less."
    if is_out_of_memory(error):
        return "out of memory; a smaller model or dataloader.max_seconds needs less."
    if is_of_config(error):
        return config_sentence(error)
    if isinstance(error, OSError) and error.errno is not None:
        return file_sentence(error)
    return " ".join(text.split("\n")) or type(error).__name__


def worker_sentence(text: str) -> str:
    """One line that describes an exception of a data worker: its message, or its type without one.

    Args:
        text: ends with a traceback, in which all is indented but the type and the message.
    """
    trace = text[text.rindex(TRACEBACK) :].splitlines()[1:]
    lines = dropwhile(lambda line: line.startswith(" "), trace)
    kind, _, message = " ".join(line.strip() for line in lines if line.strip()).partition(": ")
    return message or kind.rstrip(":")


def config_sentence(error: Exception) -> str:
    """One line that describes an exception of hydra, omegaconf or yaml, with key or file."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:  # yaml
        return f"{mark.name}, line {mark.line + 1}: not valid YAML ({problem})."
    unknown = re.match(r"Could not override '(.*)'", str(error))
    if unknown:
        key = unknown[1]
        return f"config, {key}: no such key; one that isn't in the config is set by +{key}=VALUE."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    missing, options = (getattr(error, key, None) for key in ("missing_cfg_file", "options"))
    if missing:  # hydra's, of a group or of the experiment
        only = f", only {', '.join(options)}" if options else ""
        return f"config: there is no '{missing}'{only}."
    override = getattr(error, "override", None)
    if override:  # hydra's, of an override that it can't parse
        return f"'{override}': not of the form key=value ({lines[-2]})."
    keys = [line.partition(": ")[2] for line in lines if line.startswith("full_key: ")]
    message = [line for line in lines if not line.startswith(("full_key: ", "See http", *DETAILS))]
    place = f"config, {keys[0]}" if keys and keys[0] else "config"
    return f"{place}: {' '.join(message) or type(error).__name__}"


def file_sentence(error: OSError) -> str:
    """One line that describes an error of the operating system, with file and disk."""
    reason = error.strerror or type(error).__name__
    name = "" if error.filename is None else os.fsdecode(str(error.filename))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        disk = mount_point(Path(name)) if name else "unknown, the error names no file"
        reason = f"{reason} (disk: {disk})"
    return f"{name}: {reason}." if name else f"{reason}."
