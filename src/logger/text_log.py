"""The log: on the console, beside progress bars, and in the run's folder."""

import logging
import sys
from pathlib import Path

from tqdm.auto import tqdm

FORM = "%(asctime)s %(levelname)s %(message)s"
OWN = "triphone-handler"


class ConsoleHandler(logging.Handler):
    """Prints above the progress bars instead of into them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        tqdm.write(self.format(record), file=sys.stderr)


def setup_logging(folder: Path, main_process: bool) -> None:
    """Log to the console and to `folder/log.txt`; other processes only warn, on the console."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.name == OWN]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [ConsoleHandler()]
    if main_process:
        handlers.append(logging.FileHandler(folder / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.name = OWN
        handler.setFormatter(logging.Formatter(FORM, "%H:%M:%S"))
        root.addHandler(handler)
    root.setLevel(logging.INFO if main_process else logging.WARNING)
    for noisy in ("matplotlib", "PIL", "urllib3", "git"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
