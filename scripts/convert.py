"""Convert the model of a run to a checkpoint of another project: python scripts/convert.py RUN OUT.

OUT.nemo, for NVIDIA NeMo, from a run of NEST, or of a recogniser with a FastConformer, QuartzNet,
Jasper or Citrinet; OUT.pt, for ClearerVoice, from a run of MossFormer2.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.interop.clearervoice import save_clearervoice
from src.interop.nemo import save_nemo
from src.interop.recogniser_export import save_recogniser
from src.models.encoder_ctc import EncoderCTC
from src.models.mossformer2 import MossFormer2
from src.models.nest import NEST
from src.run import load_run
from src.system import System
from src.transforms.features.log_mel import LogMel
from src.transforms.wave.cleaning import Cleaning
from src.utils.entry import run_command


def convert(arguments: argparse.Namespace) -> None:
    """Load a run and write its model in the format that the file name asks for.

    Raises:
        ValueError: the format can't hold the run's model, or the extension is unknown.
    """
    kinds = {".nemo": (NEST, EncoderCTC), ".pt": (MossFormer2,)}
    if arguments.out.suffix not in kinds:
        raise ValueError(f"{arguments.out}: the name must end in {' or '.join(kinds)}.")
    wanted = kinds[arguments.out.suffix]
    system = load_run(arguments.run, arguments.checkpoint, device="cpu")
    if not isinstance(system.model, wanted):
        name = type(system.model).__name__
        names = ", ".join(kind.__name__ for kind in wanted)
        raise ValueError(f"{arguments.run}: a run of {name}; wanted {names}.")
    check_transforms(system, arguments.run)
    if isinstance(system.model, MossFormer2):
        save_clearervoice(system.model, arguments.out)
    else:
        write_nemo(system, arguments)
    total = sum(parameter.numel() for parameter in system.model.parameters())
    print(f"{arguments.out}: {total:,} parameters")


def check_transforms(system: System, run: Path) -> None:
    """Check that the input of a model is not changed by what no file of another project can hold.

    Args:
        system: of the run.
        run: its path.

    Raises:
        ValueError: there is a transform of inference besides the features.
    """
    for name, transform in system.inference_transforms.items():
        if isinstance(transform, Cleaning):
            raise ValueError(f"{run}: cleaning.{name} can't be converted.")
        if not isinstance(transform, LogMel):
            place = f"transforms.batch.inference.{name}"
            raise ValueError(f"{run}: {place} can't be converted, only log-mel features.")


def write_nemo(system: System, arguments: argparse.Namespace) -> None:
    """Write NEST or a recogniser, and its features, to a .nemo file.

    Raises:
        ValueError: the features are not log-mel spectrograms.
    """
    features = next(
        (t for t in system.inference_transforms.values() if isinstance(t, LogMel)), None
    )
    if features is None:
        raise ValueError(
            f"{arguments.run}: no log-mel features, the only ones that .nemo files support."
        )
    if isinstance(system.model, NEST):
        save_nemo(system.model, arguments.out, features)
    else:
        model: Any = system.model
        save_recogniser(model, features, system.text_encoder, arguments.out)


def main() -> None:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run, also user/name on the hub, or a .nemo file")
    parser.add_argument("out", type=Path, help="file to write, .nemo or .pt")
    parser.add_argument(
        "--checkpoint", default="best", choices=("best", "last"), help="default: best"
    )
    arguments = parser.parse_args()
    run_command(lambda: convert(arguments))


if __name__ == "__main__":
    main()
