"""Shapes are checked while the tests run, and a tiny corpus is made once."""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_SILENT"] = "true"
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")  # compiles no program to try AVX

from jaxtyping import install_import_hook

install_import_hook(["src.models", "src.loss"], "beartype.beartype")

from pathlib import Path

import pytest
import torch

from tests.demo import tiny_corpus

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep the garbage collector, which every training calls, from visiting all that is imported.

    That would take most of the time of a tiny training; in a forked process, it would also copy
    the memory.
    """
    import torch._dynamo  # noqa: F401, hundreds of modules, which the first optimizer imports

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny demo speech."""
    return tiny_corpus(tmp_path_factory.mktemp("data") / "demo_speech")


@pytest.fixture(autouse=True)
def default_signals() -> None:
    """Signals act as in a terminal, whatever an earlier test or the caller of pytest has set."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the configs are relative to the repository's root."""
    monkeypatch.chdir(Path(__file__).parents[1])
