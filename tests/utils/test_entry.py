import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from torch._utils import ExceptionWrapper
from tqdm import tqdm

from src.utils.entry import mount_point, run_command


def outcome(command, capsys):
    with pytest.raises(SystemExit) as exit:
        run_command(command)
    return exit.value.code, capsys.readouterr().err


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("The file is broken."), "The file is broken."),
        (ValueError("two\nlines"), "two lines"),
        (ValueError(), "ValueError"),
        (FileNotFoundError("a.wav: no such file."), "a.wav: no such file."),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "(disk: /)."),
        (OSError(errno.ENOSPC, "No space left on device"), "the error names no file)."),
    ],
)
def test_bad_input_is_one_sentence(error, message, capsys):
    code, printed = outcome(failing(error), capsys)
    assert code == 1
    assert printed.startswith("error: ") and printed.endswith(message + "\n")
    assert printed.count("\n") == 1


def test_error_has_its_own_line_below_a_progress_bar(capsys):
    def command():
        bar = iter(tqdm([1, 2], desc="bar"))
        error = ValueError(f"stopped at {next(bar)}")
        error.cycle = error  # is freed by the garbage collector only
        raise error

    code, printed = outcome(command, capsys)
    assert code == 1 and "bar:" in printed
    assert printed.splitlines()[-1] == "error: stopped at 1"


def test_full_disk_names_file_and_disk(capsys):
    def command():
        with Path("/dev/full").open("w") as file:
            file.write("x")

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    assert outcome(command, capsys)[0] == 1
    assert mount_point(Path("/proc/none/at/all")) == Path("/proc")


CONFIG = OmegaConf.create({"a": "${b}", "c": {"d": "???"}, "e": "${oc.env:NOT_SET_AT_ALL}"})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (lambda: CONFIG.a, "error: config, a: Interpolation key 'b' not found"),
        (lambda: CONFIG.c.d, "error: config, c.d: Missing mandatory value: c.d"),
        (lambda: CONFIG.e, "error: config, e: .*NOT_SET_AT_ALL"),
        (lambda: yaml.safe_load("a: [1,\nb: }"), "error: <unicode string>, line 2: not valid YAML"),
    ],
)
def test_errors_of_the_config_are_one_sentence(command, message, capsys):
    code, printed = outcome(command, capsys)
    assert code == 1
    assert re.match(message, printed) and printed.count("\n") == 1


def test_unknown_key_of_a_strict_config(capsys):
    config = OmegaConf.create({"a": {"b": 1}})
    OmegaConf.set_struct(config, True)
    code, printed = outcome(lambda: config.a.c, capsys)
    assert (code, printed) == (1, "error: config, a.c: Key 'c' is not in struct\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad row"), "bad row"),
        (ValueError("a.wav: bad row:\n\n  of 3\nnumbers"), "a.wav: bad row: of 3 numbers"),
        (ValueError(), "ValueError"),
        (UnicodeError(""), "UnicodeError"),
    ],
)
@pytest.mark.parametrize("chained", [False, True])
def test_message_of_a_data_worker(error, message, chained, capsys):
    def work():
        try:
            try:
                raise KeyError("the first error")
            except KeyError as cause:
                raise error from (cause if chained else None)
        except Exception:
            return ExceptionWrapper(where="in DataLoader worker process 0")

    assert outcome(work().reraise, capsys) == (1, f"error: {message}\n")


def test_interrupt(capsys):
    assert outcome(failing(KeyboardInterrupt()), capsys) == (130, "stopped by SIGINT\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_one_line(capsys, number):
    before = signal.getsignal(number)

    def command():
        os.kill(os.getpid(), number)
        time.sleep(10)

    assert outcome(command, capsys) == (128 + number, f"stopped by {number.name}\n")
    assert signal.getsignal(number) is before


def test_forked_processes_end_by_signals():
    def command():
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(10,))
        process.start()
        time.sleep(0.1)
        process.terminate()
        process.join()
        return process.exitcode

    assert run_command(command) == -signal.SIGTERM


ENDS = """
import os, signal, sys
from src.utils.entry import end_on_signals
end_on_signals()
os.kill(os.getpid(), int(sys.argv[1]))
import torch
"""


SWALLOWED = """
import os, signal, sys, time
from src.utils.entry import run_command

class Late:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

def command():
    Late()
    time.sleep(30)

run_command(command)
"""


@pytest.mark.parametrize("program", [ENDS, SWALLOWED])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_during_the_imports_and_where_nothing_can_be_raised(number, program):
    command = [sys.executable, "-c", program, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (128 + number, f"stopped by {number.name}\n")


def test_defects_keep_their_traceback():
    for error in (TypeError("x"), RuntimeError("x"), RecursionError("x"), KeyError("x")):
        with pytest.raises(type(error)):
            run_command(failing(error))


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("TRIPHONE_TRACEBACK", "1")
    for error in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            run_command(failing(error))


def test_result_is_returned():
    assert run_command(lambda: 5) == 5
