"""Measure speed and memory of ours beside other projects, where these are installed.

python scripts/benchmark.py                      # everything; or some of:
python scripts/benchmark.py deepspeech2 nest recognisers separation greedy beam data
python scripts/benchmark.py nest --device cuda --bf16 --out nest.json

All implementations of a row take turns in each round, so that other work on the machine slows all
of them; a ratio is that of the times in one round, shown as the median and the range. The last
column is the rate of a large matrix product, measured before each round: where it differs between
two tables, so did the machine. To have all projects in one environment:
    python3.11 -m venv others
    others/bin/pip install "nemo_toolkit[asr]==3.0.0" torch==2.11.0 torchaudio==2.11.0
    others/bin/pip install jaxtyping num2words flashlight-text==0.0.7 kenlm webdataset
    others/bin/pip install --no-deps clearvoice==0.1.2 rotary_embedding_torch==0.8.3 torchinfo
    others/bin/pip install einops
    others/bin/python scripts/benchmark.py --out speed.json
"""

import argparse
import contextlib
import gc
import json
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from scripts.benchmarks import data, decoding, nest, recognition, separation
from scripts.benchmarks.measuring import Case, Options, Row, measure
from src.utils.columns import in_columns
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_choice, check_whole

BENCHMARKS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "deepspeech2": recognition.deepspeech2_cases,
    "nest": nest.cases,
    "recognisers": recognition.recogniser_cases,
    "separation": separation.cases,
    "greedy": decoding.greedy_cases,
    "beam": decoding.beam_cases,
    "data": data.cases,
}
HEADER = ["", "Triphone", "other", "ratio (lowest to highest)", "memory", "matrix GFLOP/s"]


def benchmark(arguments: argparse.Namespace) -> None:
    """Measure, print a table and write JSON.

    Raises:
        ValueError: an option has a bad value, or there is no GPU.
    """
    names = arguments.what or list(BENCHMARKS)
    for name in names:
        check_choice("what", name, tuple(BENCHMARKS))
    for key in ("rounds", "threads"):
        check_whole(f"--{key}", getattr(arguments, key))
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: cuda; there is no GPU here.")
    rounds = 1 if arguments.quick else arguments.rounds
    options = Options(arguments.device, arguments.bf16, arguments.threads, rounds, arguments.quick)
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for name in names:
        for case in BENCHMARKS[name](options):
            with contextlib.redirect_stdout(sys.stderr):  # what other projects print
                rows.append(measure(case, options))
            print(*rows[-1].as_lines()[0], file=sys.stderr, flush=True)
            del case
            gc.collect()
    print(in_columns([HEADER, *(line for row in rows for line in row.as_lines())]))
    notes = dict.fromkeys(row.note for row in rows if row.note and len(row.seconds) > 1)
    print("".join(f"\n({note})" for note in notes), end="\n" if notes else "")
    if arguments.out is not None:
        machine = {"processor": processor(options), "threads": options.threads, "rounds": rounds}
        result = {**machine, "torch": torch.__version__, "rows": [row.as_dict() for row in rows]}
        with write_beside(arguments.out) as path:
            path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def processor(options: Options) -> str:
    """Name of the GPU or CPU."""
    if options.device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each (default: 5)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and one round, as a check")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    run_command(lambda: benchmark(parser.parse_args()))


if __name__ == "__main__":
    main()
