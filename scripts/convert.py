"""Write a run as another project's file: python scripts/convert.py RUN OUT.

OUT.nemo is NVIDIA NeMo's, of a pretrained NEST; OUT.pt is ClearerVoice's, of a MossFormer2.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.interop.clearervoice import save_clearervoice
from src.interop.nemo import save_nemo
from src.models.mossformer2 import MossFormer2
from src.models.nest import NEST
from src.run import Run, load_run
from src.transforms.features.log_mel import LogMel
from src.utils.entry import run_command


def convert(arguments: argparse.Namespace) -> None:
    """Load the run, see that it is one that the other project knows, write it.

    Raises:
        ValueError: the run holds another model, or the name has another ending.
    """
    kinds: dict[str, type] = {".nemo": NEST, ".pt": MossFormer2}
    if arguments.out.suffix not in kinds:
        raise ValueError(f"{arguments.out}: the name must end in {' or '.join(kinds)}.")
    wanted = kinds[arguments.out.suffix]
    run = load_run(arguments.run, arguments.checkpoint, device="cpu")
    if not isinstance(run.model, wanted):
        found = type(run.model).__name__
        raise ValueError(f"{arguments.run}: holds {found}; wanted {wanted.__name__}.")
    if isinstance(run.model, MossFormer2):
        save_clearervoice(run.model, arguments.out)
    else:
        write_nemo(run, arguments)
    total = sum(parameter.numel() for parameter in run.model.parameters())
    print(f"{arguments.out}: {total:,} parameters")


def write_nemo(run: Run, arguments: argparse.Namespace) -> None:
    """A pretrained NEST with its front end.

    Raises:
        ValueError: its features are no log-mel ones.
    """
    features = next((t for t in run.transforms.values() if isinstance(t, LogMel)), None)
    if features is None:
        raise ValueError(f"{arguments.run}: no log-mel features, and NeMo knows no others.")
    save_nemo(run.model, arguments.out, features)  # type: ignore[arg-type]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", default="best", choices=("best", "last"))
    arguments = parser.parse_args()
    run_command(lambda: convert(arguments))


if __name__ == "__main__":
    main()
