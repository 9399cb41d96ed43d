"""Packages that only the export needs, imported on demand."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

REQUIREMENTS = "requirements-export.txt"


def installed(name: str) -> bool:
    """Whether a package can be imported."""
    return find_spec(name) is not None


def required(*names: str) -> Any:
    """Import packages.

    Returns:
        The first one.

    Raises:
        ValueError: one is not installed; says how to install it.
    """
    missing = [name for name in names if not installed(name)]
    if missing:
        raise ValueError(
            f"The export needs the package {missing[0]}: pip install -r {REQUIREMENTS}."
        )
    return [import_module(name) for name in names][0]
