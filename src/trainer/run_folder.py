"""The folder of a run: what was asked for, what came out, and all that a resume needs."""

import subprocess
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from src.utils.files import append_jsonl, read_jsonl, write_beside

PATCH_LIMIT = 5_000_000  # bytes


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.best = path / "best"
        self.last = path / "last"
        self.metrics = path / "metrics.jsonl"
        self.text_encoder = path / "text_encoder"

    @classmethod
    def create(cls, root: Path, name: str) -> "RunFolder":
        """A new folder `root/name/<time>`; a number is added if there is one of that second."""
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ["", *(f"_{i}" for i in range(2, 1000))]:
            path = root / name / (stamp + suffix)
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                continue
        raise ValueError(f"{root / name}: no free name for a run.")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of a run that exists.

        Raises:
            FileNotFoundError: it holds no run.
        """
        if not (path / "config.yaml").exists():
            raise FileNotFoundError(f"{path}: no run here (config.yaml is missing).")
        return cls(path)

    @classmethod
    def newest(cls, root: Path) -> "RunFolder":
        """The run below a folder that was started last, among those with a checkpoint.

        Raises:
            FileNotFoundError: there is none.
        """
        found = [path.parent for path in root.glob("**/config.yaml")]
        found = [path for path in found if (path / "best").exists() or (path / "last").exists()]
        if not found:
            raise FileNotFoundError(f"{root}: no run here; train one, or name it by run=FOLDER.")
        return cls(max(found, key=lambda path: (path / "config.yaml").stat().st_mtime))

    def read_config(self) -> DictConfig:
        """The resolved config that the run was started with."""
        config = OmegaConf.load(self.path / "config.yaml")
        if not isinstance(config, DictConfig):
            raise ValueError(f"{self.path / 'config.yaml'}: not a mapping.")
        return config

    def write_config(self, config: DictConfig) -> None:
        """Write the resolved config, and the commit and patch of the code.

        The scheduler goes on referring to the length of the run, which may be made longer.
        """
        saved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        if config.get("scheduler"):
            saved.scheduler = OmegaConf.to_container(config.scheduler)
        with write_beside(self.path / "config.yaml") as path:
            OmegaConf.save(saved, path)
        (self.path / "git_commit.txt").write_text(git("rev-parse", "HEAD"))
        (self.path / "git_patch.diff").write_text(git("diff", "HEAD")[:PATCH_LIMIT])

    def log_metrics(self, row: dict) -> None:
        """Add one row to metrics.jsonl."""
        append_jsonl(self.metrics, row)

    def forget_after(self, step: int) -> None:
        """Drop the rows that a killed run wrote after the step at which it is resumed."""
        if not self.metrics.exists():
            return
        rows = [row for row in read_jsonl(self.metrics) if row["step"] <= step]
        with write_beside(self.metrics) as path:
            path.write_text("")
            for row in rows:
                append_jsonl(path, row)


def git(*arguments: str) -> str:
    """What git prints, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
