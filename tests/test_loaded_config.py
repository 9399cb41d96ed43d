"""Configs of runs that were loaded from disk; what they may name is tested in test_run.py."""

from importlib import import_module
from pathlib import Path

import pytest

from src.loaded_config import MOVED, parse_config


@pytest.mark.parametrize("module", MOVED)
def test_modules_that_were_moved(module):
    where = f"src.datasets.{MOVED[module]}"
    own = vars(import_module(where)).values()
    name = next(one.__name__ for one in own if isinstance(one, type) and one.__module__ == where)
    for written in (f"src.datasets.{module}.{name}", f"{where}.{name}"):
        text = f"datasets:\n  test:\n    _target_: {written}\n...\n"
        target = parse_config(text.encode(), Path("config.yaml")).datasets.test._target_
        assert target == f"{where}.{name}"
