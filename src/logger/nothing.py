"""No experiment tracker."""

from src.logger.base import Writer


class NothingWriter(Writer):
    """Writer that does nothing; metrics.jsonl in the run's folder is always written."""
