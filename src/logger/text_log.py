"""Text log on the console, above progress bars, and in a file."""

import logging
import sys
from contextlib import suppress
from pathlib import Path

from tqdm.auto import tqdm

FORMAT = "%(asctime)s %(levelname)s %(message)s"
HANDLER_NAME = "triphone-handler"


class ConsoleHandler(logging.Handler):
    """Writes log records to stderr above the progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        tqdm.write(self.format(record), file=sys.stderr)


class LogFile(logging.FileHandler):
    """Writes log records to a file; if the disk is full, they are only on the console."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, as in logging
        """Ignore errors of the disk: other files that are written report a full disk."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            super().close()


def setup_logging(folder: Path, main_process: bool) -> None:
    """Set up logging to the console and to `folder/log.txt`; replaces an earlier setup.

    Args:
        folder: of the log file.
        main_process: False: only warnings, on the console only.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.name == HANDLER_NAME]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [ConsoleHandler()]
    if main_process:
        handlers.append(LogFile(folder / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.name = HANDLER_NAME
        handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO if main_process else logging.WARNING)
    for library in ("matplotlib", "PIL", "urllib3", "httpx2", "git"):
        logging.getLogger(library).setLevel(logging.WARNING)
