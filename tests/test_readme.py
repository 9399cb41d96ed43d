"""README and docs: links lead somewhere, commands compose, scripts exist, and recipes train."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.config import check_top_level, target_class
from src.trainer.optimization import build_optimizations
from tests.demo import CONFIGS, composed, sine
from train import train

ROOT = Path(__file__).parents[1]
PAGES = {
    path: path.read_text(encoding="utf-8").replace("\\\n", " ")
    for path in [
        *(ROOT / name for name in ("README.md", "INSTALL.md", "data/README.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    ]
}
TEXT = "\n".join(PAGES.values())
COMMANDS = re.findall(r"(?<=python )((?:train|inference|scripts/\w+)\.py[^\n`#|;)]*)", TEXT)
RECIPES = PAGES[ROOT / "docs" / "extending.md"]
MODULES = [f"src.{name}.mine" for name in ("models", "datasets", "metrics", "loss", "trainer")]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", RECIPES, flags=re.DOTALL)


def commands(program):
    return sorted({c.strip() for c in COMMANDS if c.startswith(program) and "=mine" not in c})


@pytest.mark.parametrize("command", commands("train.py") + commands("inference.py"))
def test_commands_compose(command):
    program, *words = shlex.split(command)
    name = "asr_deepspeech2" if program == "train.py" else "inference_asr"
    overrides = []
    for word in words:
        if word.startswith("-cn="):
            name = word.removeprefix("-cn=").replace("NAME", name)
        elif "=" in word and word != "key=value":
            overrides.append(word.partition(",")[0] if "-m" in words else word)  # of a sweep
    check_top_level(composed(name, *overrides), inference=program == "inference.py")


@pytest.mark.parametrize("command", commands("scripts"))
def test_scripts_exist_with_their_options(command):
    script, *words = command.split()
    source = (ROOT / script).read_text(encoding="utf-8")
    for word in words:
        if word.startswith("-"):
            assert f'"{word.partition("=")[0]}"' in source


def anchors(page):
    """Those that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", PAGES[path]):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_readme_links_to_every_guide():
    readme = PAGES[ROOT / "README.md"]
    assert all(f"](docs/{path.name})" in readme for path in PAGES if path.parent.name == "docs")


def test_project_structure_is_that_of_the_tree():
    readme = PAGES[ROOT / "README.md"]
    listing = readme.partition("## Project structure\n\n```\n")[2].partition("```")[0]
    paths = set(re.findall(r"[\w/.]+(?:/|\.py)(?=[, ])", re.sub(r"   .*", " ", listing)))
    assert all((ROOT / path).exists() for path in paths)
    entries = [path for path in (ROOT / "src").iterdir() if not path.name.startswith("__")]
    tree = {f"src/{path.name}/" if path.is_dir() else f"src/{path.name}" for path in entries}
    assert tree <= paths


@pytest.fixture
def recipes(monkeypatch):
    """The recipes' classes, in the modules that docs/extending.md names."""
    module = ModuleType("mine")
    exec("\n".join(blocks("python")), module.__dict__)
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, module)
    return module


def composed_from(folder, files, *overrides):
    """The experiment `mine` of a folder of configs, which are laid beside those of src."""
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    path = f"hydra.searchpath=[file://{CONFIGS}]"
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("mine", overrides=[path, *overrides])


def test_recipes_train(recipes, tmp_path):
    model, loss, evaluation, *_ = blocks("yaml")
    for text in ("hello", "good day", "a", "the cat"):
        sine(tmp_path / "in" / f"{text}.wav")
    row = '{"audio_filepath": "in/hello.wav", "duration": 1.0, "text": "hello"}\n'
    (tmp_path / "noisy.jsonl").write_text(row)
    dataset = f"{{_target_: src.datasets.mine.MyDataset, folder: {tmp_path / 'in'}}}\n"
    chosen = [
        "asr_deepspeech2",
        *(f"{{override {g}: mine}}" for g in ("model", "loss", "datasets")),
    ]
    files = {
        "model/mine": model,
        "loss/mine": loss,
        "datasets/mine": "".join(f"{name}: {dataset}" for name in ("train", "val", "test")),
        "mine": f"defaults: [{', '.join(chosen)}, _self_]\n"
        + evaluation.replace("noisy.jsonl", f"{tmp_path}/noisy.jsonl"),
    }
    options = ["debug=smoke", "writer=nothing", "device=cpu", f"run_dir={tmp_path / 'r'}"]
    options += ["+metrics.SER._target_=src.metrics.mine.SentenceErrorRate"]
    options += ["trainer.monitor=val/SER"]
    values = train(composed_from(tmp_path / "configs", files, *options))
    assert {"val/SER", "val/loss", "val_noisy/CER", "test/SER"} <= values.keys()
    assert (tmp_path / "r" / "best" / "model.safetensors").exists()


def test_experiment_of_the_recipe(recipes, tmp_path):
    model, *_, experiment = blocks("yaml")
    config = composed_from(tmp_path, {"model/mine": model, "mine": experiment})
    assert (config.name, config.optimizer.lr) == ("mine", 1e-3)
    assert target_class(config, "model") is recipes.MyModel


class Adversaries(nn.Module):
    def __init__(self):
        super().__init__()
        self.discriminator, self.generator = nn.Linear(1, 1), nn.Linear(1, 1)


def test_optimizers_of_the_recipe(recipes, tmp_path):
    files = {"mine": "defaults: [asr_deepspeech2, _self_]\n" + blocks("yaml")[3]}
    config = composed_from(tmp_path, files, "~scheduler")
    optimizations = build_optimizations(config, Adversaries())
    assert set(optimizations) == {"discriminator", "generator"}
    assert isinstance(optimizations["generator"].optimizer, torch.optim.SGD)
    assert target_class(config, "trainer") is recipes.AdversarialTrainer
