"""How a command ends when its input is bad: one sentence, and a non-zero exit."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

WORKER = "Original Traceback"  # how torch wraps what a data worker raises
BAD_INPUT = (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError)


def run_command(command: Callable[[], Result]) -> Result:
    """Call `command`; bad input ends the program with its one sentence instead of a traceback.

    TRIPHONE_TRACEBACK=1 in the environment shows the traceback.
    """
    try:
        return command()
    except BAD_INPUT as error:
        if os.environ.get("TRIPHONE_TRACEBACK"):
            raise
        print(f"error: {sentence(error)}", file=sys.stderr)
        raise SystemExit(1) from None


def sentence(error: Exception) -> str:
    """The message of an error, taken out of the traceback if a data worker raised it."""
    text = str(error).strip()
    if WORKER in text:
        return text.splitlines()[-1].partition(": ")[2]
    return text
