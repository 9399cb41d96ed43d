"""Score two folders: python scripts/score_separation.py REFERENCES ESTIMATES [OPTIONS].

REFERENCES holds s1/, s2/, ... and mix/ (or mix_clean/, mix_both/), or an audio/ with these; without
a mixture the improvements are over the sum of the references. ESTIMATES holds s1/, s2/, ... with
files of the same names but for their endings, in any order of the speakers.
"""

import argparse
import functools
import glob
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from tqdm.auto import tqdm

from src.datasets.custom_dir import is_recording
from src.datasets.manifest import safe_name
from src.datasets.mixtures import MIXTURES, check_same_length, mixture_folder, source_folders
from src.loss.pit import best_order, in_order, pairwise_loss
from src.metrics.base import Metric
from src.metrics.separation import FromPackage, Pesq, SdrImprovement, SiSdr, SiSdrImprovement, Stoi
from src.metrics.tracker import MetricTracker
from src.utils.audio import audio_info, read_audio
from src.utils.entry import run_command


def find(folder: Path, name: str) -> Path:
    """The file of that name, or the one that `inference.py` makes of it.

    Raises:
        FileNotFoundError: there is none.
    """
    stem = safe_name(name)
    others = folder.glob(f"{glob.escape(stem)}.*")  # looked through only if they are needed
    for path in itertools.chain((folder / name, folder / f"{stem}.wav"), others):
        if is_recording(path) and path.exists():
            return path
    raise FileNotFoundError(f"{folder}: no {name} in it.")


def read_like(reference: Path, path: Path, rate: int) -> Tensor:
    """A signal that must be as long as its first reference.

    Raises:
        ValueError: it isn't, or has another rate.
    """
    check_same_length([reference, path], "reference")
    return read_audio(path, rate)


def check_folders(references: list[Path], estimates: list[Path], arguments) -> list[str]:
    """Names of the recordings.

    Raises:
        ValueError: there are no references, or another number of estimates.
    """
    if not references:
        raise ValueError(f"{arguments.references}: no s1/ in it.")
    if not estimates:
        raise ValueError(f"{arguments.estimates}: no s1/ in it.")
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
    place = mixture_folder(arguments.references, arguments.mixture)
    mixture = place if arguments.mixture or place.name in MIXTURES else None
    references = source_folders(place.parent if mixture else place)
    estimates = source_folders(arguments.estimates)
    names = check_folders(references, estimates, arguments)
    rate = audio_info(references[0] / names[0]).rate
    metrics: dict[str, Metric] = {
        "SI-SDR": SiSdr(),
        "SI-SDRi": SiSdrImprovement(),
        "SDRi": SdrImprovement(),
    }
    metrics |= {"PESQ": wanted(Pesq(rate))} if arguments.pesq else {}
    metrics |= {"STOI": wanted(Stoi(rate))} if arguments.stoi else {}
    tracker = MetricTracker(metrics)
    for name in tqdm(names, unit="mixture"):
        read = functools.partial(read_like, references[0] / name, rate=rate)
        sources = torch.stack([read(find(folder, name)) for folder in references])
        found = torch.stack([read(find(folder, name)) for folder in estimates])
        if not sources.any():
            tqdm.write(f"{name}: all references are silent, left out.", file=sys.stderr)
            continue
        audio = read(find(mixture, name)) if mixture else sources.sum(0)
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


def wanted(metric: FromPackage) -> FromPackage:
    """A metric that was asked for.

    Raises:
        ValueError: it can't be computed here; says why.
    """
    if metric.missing:
        raise ValueError(metric.missing)
    return metric


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("references", type=Path)
    parser.add_argument("estimates", type=Path)
    parser.add_argument("--mixture", help="which of several folders of mixtures, e.g. mix_both")
    parser.add_argument("--pesq", action="store_true", help="needs pip install pesq")
    parser.add_argument("--stoi", action="store_true", help="needs pip install pystoi")
    arguments = parser.parse_args()
    run_command(lambda: score(arguments))


if __name__ == "__main__":
    main()
