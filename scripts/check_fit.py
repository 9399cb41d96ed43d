"""Compare what `train.py fit=true` predicts with a training: memory and time of a step.

python scripts/check_fit.py [--rounds 3] [--steps 60] -- -cn=asr_deepspeech2
python scripts/check_fit.py --cpu-time -- threads=1 dataloader.num_workers=0

Each round measures, trains for a few steps as configured, and, unless it is the same, with the
batches that were suggested. All other arguments are those of train.py. Other work on the machine
between prediction and training changes times; the rounds show by how much. With --cpu-time, both
count the seconds that a processor worked for them instead.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import read_jsonl
from src.utils.options import check_whole

# train.py with another clock.
CPU_TIME = """import runpy, sys, time
time.perf_counter = time.process_time
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path("train.py", run_name="__main__")"""
SILENT = ["writer=nothing", "trainer.validate_on=[]", "trainer.test_on=[]", "trainer.monitor=null"]


def start(folder: Path, overrides: list[str], cpu_time: bool) -> None:
    """Run train.py with a folder for the run, and measure seconds or those of the processor.

    Raises:
        ValueError: it failed.
    """
    program = ["-c", CPU_TIME] if cpu_time else ["train.py"]
    command = [sys.executable, *program, *overrides, f"run_dir={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"train.py failed: {(done.stderr.strip() or '?').splitlines()[-1]}")


def trained(folder: Path, overrides: list[str], steps: int, cpu_time: bool) -> dict[str, float]:
    """Seconds of a step and peak memory in GB of a training, without its first steps."""
    every = max(1, steps // 6)
    size = [f"trainer.steps_per_epoch={steps}", f"trainer.log_every_steps={every}"]
    start(folder, [*overrides, *SILENT, "trainer.epochs=1", *size], cpu_time)
    rows = [
        row
        for row in read_jsonl(folder / "metrics.jsonl", tolerant=True)
        if "train/memory_mib" in row
    ]
    later = rows[1:] or rows
    return {
        "seconds_per_step": statistics.mean(1 / row["train/steps_per_second"] for row in later),
        "memory_gb": max(row["train/memory_mib"] for row in rows) * 2**20 / 1e9,
    }


def compare(arguments: argparse.Namespace) -> None:
    """Print predicted and trained values for each round, and the medians of their ratios."""
    for key in ("rounds", "steps"):
        check_whole(f"--{key}", getattr(arguments, key))
    rows = [["round", "max_seconds", "", "predicted", "trained", "ratio"]]
    ratios: dict[tuple[str, str], list[float]] = {}
    for number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            clock = arguments.cpu_time
            start(Path(folder) / "fit", [*arguments.overrides, "fit=true"], clock)
            found: dict[str, Any] = json.loads((Path(folder) / "fit" / "fit.json").read_text())
            kinds = {kind: found[kind] for kind in ("as_configured", "largest") if found[kind]}
            if found["largest"] == found["as_configured"]:
                del kinds["largest"]
            for kind, predicted in kinds.items():
                size = f"dataloader.max_seconds={predicted['max_seconds']:g}"
                overrides = [*arguments.overrides, size]
                own = trained(Path(folder) / kind, overrides, arguments.steps, clock)
                for name, value in own.items():
                    ratio = predicted[name] / value
                    ratios.setdefault((kind, name), []).append(ratio)
                    shown = [f"{x:.3g}" for x in (predicted["max_seconds"], predicted[name], value)]
                    rows.append([str(number), shown[0], name, *shown[1:], f"{ratio:.2f}"])
                    print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    print(in_columns(rows))
    for (kind, name), own_ratios in ratios.items():
        low, high = min(own_ratios), max(own_ratios)
        middle = statistics.median(own_ratios)
        print(f"{kind}, {name}: predicted / trained {middle:.2f} ({low:.2f} to {high:.2f})")


def main() -> None:
    """Parse the command line and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--steps", type=int, default=60, help="of each training (default: 60)")
    parser.add_argument("--cpu-time", action="store_true", help="count the processor's seconds")
    parser.add_argument("overrides", nargs="*", help="arguments of train.py, after --")
    arguments = parser.parse_args()
    run_command(lambda: compare(arguments))


if __name__ == "__main__":
    main()
