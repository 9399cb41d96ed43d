"""`train.py`, after which no thread of the process group may be left; see the test that runs it."""

import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

if __name__ == "__main__":
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if any("gloo" in name for name in names):
        sys.exit(f"threads of the process group are left: {names}")
