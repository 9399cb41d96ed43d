"""No tracker."""

from src.logger.base import Writer


class NothingWriter(Writer):
    """Shows nothing; the run's folder has the figures all the same."""
