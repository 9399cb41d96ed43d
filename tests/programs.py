"""Programs in processes that are forked from one which has imported what they need.

A fresh interpreter spends seconds on imports. That a program imports what it needs is shown by one
call of each with `tests.demo.run_script`; the others need not repeat it.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.distributed import TCPStore

from tests.demo import ENVIRONMENT, ROOT

TIMEOUT = 600  # seconds
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preloaded"])


def start_program(output: Path, *arguments: object, **environment: str) -> BaseProcess:
    """A started process in which a program runs as if it were called from a shell.

    Args:
        output: folder for the files `stdout` and `stderr`.
        arguments: the program's path, absolute or relative to the root, and its arguments.
        environment: further variables.
    """
    options = (output, [str(argument) for argument in arguments], ENVIRONMENT | environment)
    process = SERVER.Process(target=run_here, args=options)
    with contextlib.chdir(ROOT):  # where a server that is not running yet starts
        process.start()
    return process


def run_here(output: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """In the forked process: run the program."""
    default, *_ = multiprocessing.get_all_start_methods()
    multiprocessing.set_start_method(default, force=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
    sys.argv = arguments
    runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")


def run_program(*arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    """The finished process of a program, which must exit with a code."""
    with tempfile.TemporaryDirectory() as name:
        process = start_program(Path(name), *arguments)
        return finished(process, Path(name), code)


def run_code(code: str, *arguments: object) -> str:
    """What Python code prints in a process of its own, in which shapes aren't checked."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "code.py"
        path.write_text(code)
        return run_program(path, *arguments).stdout


def finished(process: BaseProcess, output: Path, code: int = 0) -> subprocess.CompletedProcess:
    """Wait for a process, which must exit with a code, and read what it printed."""
    process.join(TIMEOUT)
    process.kill()  # if it hangs
    process.join()
    texts = [(output / name).read_text() for name in ("stdout", "stderr")]
    assert process.exitcode == code, "\n".join(text[-3000:] for text in texts)
    return subprocess.CompletedProcess([], code, *texts)


def call_script(name: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
    """As `run_script`, for the second and later calls of a script."""
    return run_program(f"scripts/{name}.py", *arguments, code=code)


def run_in_processes(count: int, *arguments: object) -> list[str]:
    """Run a program in processes of one group, as torchrun does; what each printed."""
    with tempfile.TemporaryDirectory() as name, group(count) as environments:
        folders = [Path(name) / str(rank) for rank in range(count)]
        processes = []
        for folder, environment in zip(folders, environments, strict=True):
            folder.mkdir()
            processes.append(start_program(folder, *arguments, **environment))
        try:
            pairs = zip(processes, folders, strict=True)
            return [finished(process, folder).stdout for process, folder in pairs]
        finally:
            for process in processes:
                process.kill()


@contextlib.contextmanager
def group(count: int) -> Iterator[list[dict[str, str]]]:
    """The variables of torchrun for each process of a group."""
    # Serves at a port that is free, as that of torchrun's agent does.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    yield [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    del store
