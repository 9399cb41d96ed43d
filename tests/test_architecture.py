"""The structure of src, read from the code itself."""

import ast
import inspect
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from src.run import load_run
from src.system import System
from src.trainer.base_trainer import BaseTrainer
from tests.demo import SMALL, experiment
from train import train

SRC = Path(__file__).parents[1] / "src"
LEVELS = {
    "utils": 0,
    **dict.fromkeys(("models", "loss", "metrics", "transforms", "text_encoder"), 1),
    **dict.fromkeys(("config", "loaded_config"), 1),
    **dict.fromkeys(("datasets", "tasks", "logger", "interop", "report"), 2),
    "stream": 3,
    "system": 4,
    "building": 5,
    **dict.fromkeys(("trainer", "run"), 6),
    **dict.fromkeys(("conversation", "forced_alignment", "comparison"), 7),
    "comparison_page": 8,
}
LOSS_CALLS = {"loss"}
CHAIN_CALLS = {"train_transforms", "inference_transforms", "transforms"}
RUNS_BATCHES = (
    "system.py",
    "transforms/chain.py",
    "loss/weighted_sum.py",
    "interop/export/graphs.py",  # what torch traces for an export
)
# Whose `run` is another one; session: of onnxruntime, server: of uvicorn.
NO_BATCHES = ("subprocess", "session", "server")
# Besides constructors, what else may be called with `**`: the callee's last name in each file.
STARRED = {
    "config.py": {"instantiate"},  # its result is: a class with its arguments
    "datasets/building.py": {"build", "build_dataset"},
    "datasets/demo/espeak.py": {"synthesize", "savez"},
    "datasets/loading/loaders.py": {"iterate"},
    "metrics/separation.py": {"update"},
    "metrics/tracker.py": {"update"},
    "building.py": {"build"},
    "report/collector.py": {"details", "illustrate", "signals"},
    "tasks/base.py": {"model"},
    "tasks/classification.py": {"model"},
    "tasks/pretraining.py": {"illustrate"},
    "tasks/recognition.py": {"model"},
    "tasks/separation.py": {"model"},
    "text_encoder/base.py": {"load"},
    "text_encoder/numbers.py": {"num2words"},
    "trainer/base_trainer.py": {"show"},
    "trainer/evaluation.py": {"update"},
    "trainer/inferencer.py": {"save"},
    "trainer/setup.py": {"build_dataset"},
    "utils/flops.py": {"formula", "func"},  # operations of torch
    "scripts/export.py": {"update"},
}
NODE_READERS = (
    "config.py",
    "utils/nodes.py",
    "utils/annotations.py",
    "interop/nemo_config.py",
    "interop/nemo_sections.py",
    "interop/nemo_adapters.py",
    "interop/nemo_convolutional.py",
    "interop/recogniser.py",
)
# Scripts that run other implementations beside ours, and one that draws transforms of no run.
OWN_CALLS = (
    "compare_recognisers",
    "compare_with_clearervoice",
    "compare_with_nemo",
    "plot_augmentation",
)


def modules() -> Iterator[tuple[Path, str, ast.Module]]:
    """Each module of src with the part of the house that it belongs to, and its syntax tree."""
    for path in sorted(SRC.rglob("*.py")):
        part = path.relative_to(SRC).with_suffix("").parts[0]
        if part != "__init__":
            yield path, part, ast.parse(path.read_text())


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{a.name}" for a in node.names]
            names |= {name.split(".")[1] for name in full if name.startswith("src.")}
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("src.")}
    return names


def test_imports_follow_layers():
    for path, part, tree in modules():
        for other in imported(tree) - {part}:
            assert LEVELS[other] < LEVELS[part], f"{path} imports {other}"


def last_name(node: ast.expr) -> str:
    """`model` for `self.model`, and for the result of a call that of the callee."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return getattr(node, "attr", getattr(node, "id", ""))


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_constructor(node: ast.expr) -> bool:
    return last_name(node)[:1].isupper() or last_name(node) in ("cls", "dict", "__init__")


def is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last_name(node) == "super"


def batches_run(tree: ast.Module, place: str) -> list[tuple[str, int]]:
    """Calls by which a module may run a batch through a model, a loss or transforms.

    Args:
        tree: of the module.
        place: path of the module in src.
    """
    if place in RUNS_BATCHES or place.startswith("models/"):
        return []
    names = set() if place.startswith("loss/") else set(LOSS_CALLS)
    names |= CHAIN_CALLS if place.startswith("tasks/") else CHAIN_CALLS | {"model"}
    run = []
    for call in calls(tree):
        name = last_name(call.func)
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        inherited = owner is not None and is_super(owner)
        starred = any(keyword.arg is None for keyword in call.keywords)
        allowed = inherited or is_constructor(call.func) or name in STARRED.get(place, ())
        if (
            (name in names and not isinstance(call.func, ast.Call))
            or (name in ("forward", "__call__") and not inherited)
            or (name == "run" and owner is not None and last_name(owner) not in NO_BATCHES)
            or (starred and not allowed)
        ):
            run.append((name, call.lineno))
    return run


def test_only_the_system_runs_a_batch():
    """A task's decode gets the model from the system; everything else calls the system."""
    for path, _, tree in modules():
        assert not batches_run(tree, path.relative_to(SRC).as_posix()), path
    for path in (SRC.parent / "scripts").glob("*.py"):
        if path.stem not in OWN_CALLS:
            assert not batches_run(ast.parse(path.read_text()), f"scripts/{path.name}"), path


@pytest.mark.parametrize(
    "code",
    [
        "batch |= self.model(**batch)",
        "self.system.loss(**batch)",
        "loss(logits, targets)",
        "transforms(**batch)",
        "self.system.train_transforms.run(batch)",
        "chain.run(batch)",
        "net(**batch)",
        "self.criterion(**{'a': 1}, **outputs)",
        "system.model.forward(audio)",
        "losses['ctc'](**batch)",
        "self.model.__call__(audio=audio)",
    ],
)
def test_rule_detects_a_call(code):
    assert batches_run(ast.parse(code), "trainer/trainer.py")


def test_parts_of_a_system_are_called_by_the_system_only(corpus, tmp_path, monkeypatch):
    systems, callers = [], defaultdict(set)
    construct = System.__init__

    def noted(self, *args, **kwargs):
        construct(self, *args, **kwargs)
        systems.append(self)

    def note_caller(module, args):
        for system in systems:
            parts = {"model": [system.model], "loss": [system.loss]}
            chains = (system.train_transforms, system.inference_transforms)
            parts["transforms"] = [m for chain in chains for m in (chain, *chain.values())]
            for kind, own in parts.items():
                if any(part is module for part in own):
                    callers[kind].add(caller({"model": "tasks", "transforms": "transforms"}, kind))

    monkeypatch.setattr(System, "__init__", noted)
    handle = nn.modules.module.register_module_forward_pre_hook(note_caller)
    try:
        train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *SMALL, "debug=smoke"))
        load_run(tmp_path / "r")(next((corpus / "audio").rglob("*.flac")))
    finally:
        handle.remove()
    assert len(systems) == 2
    assert callers == {kind: {"system.py"} for kind in ("model", "loss", "transforms")}


def caller(between: dict[str, str], kind: str) -> str:
    """The file that has called the module whose forward hook runs now.

    Args:
        between: kind of module -> folder of src that may stand between it and its caller.
        kind: of the module.
    """
    for frame in inspect.stack()[2:]:
        path = Path(frame.filename)
        ours = path.is_relative_to(SRC.parent) and "site-packages" not in path.parts
        if ours and path.parent != SRC / between.get(kind, "none"):
            return path.relative_to(SRC).as_posix() if path.is_relative_to(SRC) else str(path)
    return "nothing"


def test_models_need_torch_only():
    names = [p.stem for p in (SRC / "models").glob("*.py") if p.stem != "__init__"]
    code = "; ".join(f"import src.models.{name}" for name in names)
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    for name in ("hydra", "omegaconf", "accelerate", "wandb", "comet_ml", "tensorboard"):
        assert name not in loaded


def test_manifests_and_texts_need_no_torch():
    """Scripts that hear nothing start at once."""
    names = "datasets.manifest", "text_encoder.subwords", "text_encoder.decoders.ngram_training"
    code = "".join(f"import src.{name}; " for name in names)
    code += "import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def docstrings(tree: ast.Module) -> set[int]:
    """`id` of the constants that are docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    owners = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    first = [getattr(statement, "value", None) for node in owners for statement in node.body[:1]]
    return {id(value) for value in first if isinstance(value, ast.Constant)}


def spoken(tree: ast.Module) -> set[str]:
    """The words of a module's identifiers and strings, without its docstrings and comments."""
    left_out, texts = docstrings(tree), set()
    for node in ast.walk(tree):
        texts |= {getattr(node, key, None) for key in ("id", "attr", "arg", "name", "module")}
        if isinstance(node, ast.Constant) and id(node) not in left_out:
            texts.add(node.value)
    texts = {text for text in texts if isinstance(text, str)} - {
        "read_text",
        "write_text",
        "token_hex",
    }
    return {word for text in texts for word in re.findall("[a-z]+", text.lower())}


def test_trainer_knows_no_task():
    words = {"wer", "cer", "ctc", "text", "encoder", "decoder", "sdr", "sources", "estimates"}
    words |= {"recognition", "separation", "pretraining"}
    plural = {"token", "transcript", "speaker", "mask", "mixture"}
    words |= plural | {f"{word}s" for word in plural}
    for path in (SRC / "trainer").glob("*.py"):
        own = spoken(ast.parse(path.read_text()))
        assert not own & words, f"{path} speaks of {own & words}"
    code = "'A token.'\nx.speaker_ids(mask=raises('no CTC'))"
    assert spoken(ast.parse(code)) & words == {"speaker", "mask", "ctc"}


def recognised_by_name(tree: ast.Module) -> list[int]:
    """Lines that read a `_target_` or compare the name of a class.

    A mapping that is written with such a key, and a message that shows it, are no recognition.
    """
    displays = (node for node in ast.walk(tree) if isinstance(node, ast.Dict))
    messages = (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    written = docstrings(tree) | {id(key) for display in displays for key in display.keys}
    written |= {id(part) for message in messages for part in ast.walk(message)}
    lines = []
    for node in ast.walk(tree):
        read = getattr(node, "attr", getattr(node, "value", None)) == "_target_"
        named = isinstance(node, ast.Compare) and any(
            getattr(part, "attr", "") in ("__name__", "__qualname__") for part in ast.walk(node)
        )
        if (read and id(node) not in written) or named:
            lines.append(node.lineno)
    return lines


def test_nothing_is_recognised_by_the_name_of_its_class():
    """Only the config's reader, and that of NeMo's own configs, look at a `_target_`."""
    for path, _, tree in modules():
        place = path.relative_to(SRC).as_posix()
        if place not in NODE_READERS:
            assert not recognised_by_name(tree), place
    for code in (
        "config.model._target_",
        "node['_target_']",
        "node.get('_target_') == name",
        "'_target_' in node",
        "type(model).__name__ == 'NEST'",
        "model.__class__.__name__ in ('NEST',)",
    ):
        assert recognised_by_name(ast.parse(code)), code


def test_trainer_has_few_arguments():
    parameters = inspect.signature(BaseTrainer.__init__).parameters
    assert len(parameters) - 1 <= 10


def test_importing_has_no_side_effects():
    code = (
        "import atexit, signal, sys; before = atexit._ncallbacks();"
        "import torch, accelerate, hydra, torchmetrics, matplotlib.figure, jiwer; "
        "before = atexit._ncallbacks(); import src.run, src.trainer.trainer, src.trainer.setup; "
        "print(atexit._ncallbacks() - before, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]


def test_files_are_short():
    for path in SRC.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
