import ast
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
LEVELS = {
    "utils": 0,
    **dict.fromkeys(("models", "loss", "metrics", "transforms", "text_encoder"), 1),
    **dict.fromkeys(("datasets", "tasks", "logger", "interop"), 2),
    **dict.fromkeys(("trainer",), 3),
    **dict.fromkeys(("build", "run"), 4),
}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{a.name}" for a in node.names]
            names |= {name.split(".")[1] for name in full if name.startswith("src.")}
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("src.")}
    return names


def test_imports_only_go_down():
    for path in SRC.rglob("*.py"):
        own = path.relative_to(SRC).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for other in imported(path) - {own}:
            below = LEVELS[other] < LEVELS[own]
            assert below or (own, other) == ("run", "build"), f"{path} imports {other}"


def test_models_need_torch_only():
    modules = [p.stem for p in (SRC / "models").glob("*.py") if p.stem != "__init__"]
    code = "; ".join(f"import src.models.{name}" for name in modules)
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    for name in ("hydra", "omegaconf", "accelerate", "wandb", "comet_ml", "tensorboard"):
        assert name not in loaded


def test_trainer_knows_no_task():
    words = ("wer", "cer", "ctc", "token", "text", "transcript", "speaker", "mask", "mixture")
    for path in (SRC / "trainer").glob("*.py"):
        names = {
            node.id.lower()
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Name)
        }
        parts = {part for name in names for part in name.split("_")}
        assert not parts & set(words), f"{path} speaks of {parts & set(words)}"


def test_no_file_is_long():
    for path in SRC.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
