"""How a command ends when its input is bad: one sentence, and a non-zero exit."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

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
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
