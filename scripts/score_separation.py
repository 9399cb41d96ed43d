"""Score two folders: python scripts/score_separation.py REFERENCES ESTIMATES [--pesq] [--stoi].

REFERENCES holds s1/, s2/, ... and, for improvements, mix/ (or mix_clean/, mix_both/); ESTIMATES
holds s1/, s2/, ... with files of the same names, in any order of the speakers.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from tqdm.auto import tqdm

from src.datasets.custom_dir import is_recording
from src.datasets.mixtures import MIXTURES, check_same_length, source_folders
from src.loss.pit import best_order, in_order, pairwise_loss
from src.metrics.base import Metric
from src.metrics.separation import Pesq, SdrImprovement, SiSdr, SiSdrImprovement, Stoi
from src.metrics.tracker import MetricTracker
from src.utils.audio import audio_info, read_audio
from src.utils.entry import run_command


def read_sources(folders: list[Path], name: str, rate: int) -> Tensor:
    """The signals of one name [S, T].

    Raises:
        FileNotFoundError: one is missing.
        ValueError: they aren't all as long.
    """
    paths = [folder / name for folder in folders]
    check_same_length(paths)
    return torch.stack([read_audio(path, rate) for path in paths])


def check_folders(references: list[Path], estimates: list[Path], arguments) -> list[str]:
    """Names of the recordings.

    Raises:
        ValueError: there are no references, or another number of estimates.
    """
    if not references:
        raise ValueError(f"{arguments.references}: no s1/ in it.")
    if len(estimates) != len(references):
        raise ValueError(
            f"{arguments.estimates}: {len(estimates)} speakers, the references have "
            f"{len(references)}."
        )
    names = sorted(path.name for path in references[0].iterdir() if is_recording(path))
    if not names:
        raise ValueError(f"{references[0]}: no recording in it.")
    return names


def score(arguments: argparse.Namespace) -> None:
    """Print the figures."""
    references = source_folders(arguments.references)
    estimates = source_folders(arguments.estimates)
    names = check_folders(references, estimates, arguments)
    mixtures = [arguments.references / name for name in MIXTURES]
    mixture = next((folder for folder in mixtures if folder.is_dir()), None)
    rate = audio_info(references[0] / names[0]).rate
    metrics: dict[str, Metric] = {
        "SI-SDR": SiSdr(),
        "SI-SDRi": SiSdrImprovement(),
        "SDRi": SdrImprovement(),
    }
    metrics |= {"PESQ": Pesq(rate)} if arguments.pesq else {}
    metrics |= {"STOI": Stoi(rate)} if arguments.stoi else {}
    tracker = MetricTracker(metrics)
    for name in tqdm(names, unit="mixture"):
        sources = read_sources(references, name, rate)
        found = read_sources(estimates, name, rate)
        if found.shape != sources.shape:
            raise ValueError(
                f"{estimates[0] / name}: {found.shape[1]} samples, its reference has "
                f"{sources.shape[1]}."
            )
        if not sources.any():
            raise ValueError(f"{references[0] / name}: all references are silent.")
        audio = read_audio(mixture / name, rate) if mixture else sources.sum(0)
        length = torch.tensor([sources.shape[1]])
        given = (found[None], sources[None], audio[None], length)
        estimate = in_order(found[None], best_order(pairwise_loss(*given)))
        tracker.update(
            id=[name],
            skipped=0,
            estimates=estimate,
            sources=sources[None],
            sources_length=length,
            audio=audio[None],
        )
    print(f"{len(names)} mixtures of {len(references)} speakers")
    for name, value in tracker.compute().items():
        print(f"{name:<10} {value:.3f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("references", type=Path)
    parser.add_argument("estimates", type=Path)
    parser.add_argument("--pesq", action="store_true", help="needs pip install pesq")
    parser.add_argument("--stoi", action="store_true", help="needs pip install pystoi")
    arguments = parser.parse_args()
    run_command(lambda: score(arguments))


if __name__ == "__main__":
    main()
