"""SI-SDR, SI-SDRi and SDRi: python scripts/score_separation.py REFERENCES ESTIMATES.

REFERENCES contains s1/, s2/, ... and mix/ (or mix_clean/, mix_both/), or a folder audio/ with them.
Without mixtures, improvements are relative to the sum of the references. ESTIMATES contains s1/,
s2/, ... with files of the same names, of any format and in any permutation of the speakers.
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
from src.datasets.mixtures.folders import (
    MIXTURES,
    check_same_length,
    mixture_folder,
    source_folders,
)
from src.loss.pit import apply_permutation, best_permutation, pairwise_loss
from src.metrics.base import Metric
from src.metrics.separation import (
    PackageMetric,
    Pesq,
    SdrImprovement,
    SiSdr,
    SiSdrImprovement,
    Stoi,
)
from src.metrics.tracker import MetricTracker
from src.utils.audio import read_audio
from src.utils.audio_files import audio_info
from src.utils.entry import run_command


def find(folder: Path, name: str) -> Path:
    """Path of a recording in a folder, by its name or by that of the estimate of `inference.py`.

    Raises:
        FileNotFoundError: there is no such recording.
    """
    stem = safe_name(name)
    others = folder.glob(f"{glob.escape(stem)}.*")  # lazy: only evaluated if the first two fail
    for path in itertools.chain((folder / name, folder / f"{stem}.wav"), others):
        if path.stem in (stem, Path(name).stem) and is_recording(path) and path.exists():
            return path
    raise FileNotFoundError(f"{folder}: no {name} in it.")


def read_like(reference: Path, path: Path, sample_rate: int) -> Tensor:
    """Signal [T] of a file that must have the length and sample rate of a reference.

    Raises:
        ValueError: the length or sample rate differs.
    """
    check_same_length([reference, path], "reference")
    return read_audio(path, sample_rate)


def check_folders(references: list[Path], estimates: list[Path], arguments) -> list[str]:
    """File names of the references.

    Raises:
        ValueError: there are no references, or the number of speakers differs.
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


def find_mixtures(arguments: argparse.Namespace) -> tuple[Path | None, list[Path]]:
    """Folder of the mixtures (None if there are none) and folders of the references."""
    folder = mixture_folder(arguments.references, arguments.mixture)
    if arguments.mixture or folder.name in MIXTURES:
        return folder, source_folders(folder.parent)
    return None, source_folders(folder)


def build_metrics(arguments: argparse.Namespace, sample_rate: int) -> dict[str, Metric]:
    """The metrics that the command line asks for, by name.

    Raises:
        ValueError: a metric needs a package that is not installed, or another sample rate.
    """
    metrics: dict[str, Metric] = {
        "SI-SDR": SiSdr(),
        "SI-SDRi": SiSdrImprovement(),
        "SDRi": SdrImprovement(),
    }
    if arguments.pesq:
        metrics["PESQ"] = available(Pesq(sample_rate))
    if arguments.stoi:
        metrics["STOI"] = available(Stoi(sample_rate))
    return metrics


def available(metric: PackageMetric) -> PackageMetric:
    """The metric, if it can be computed.

    Raises:
        ValueError: it can't be computed; says why.
    """
    if metric.unavailable:
        raise ValueError(metric.unavailable)
    return metric


def score(arguments: argparse.Namespace) -> None:
    """Print the metrics of all mixtures."""
    mixtures, references = find_mixtures(arguments)
    estimates = source_folders(arguments.estimates)
    names = check_folders(references, estimates, arguments)
    sample_rate = audio_info(references[0] / names[0]).sample_rate
    tracker = MetricTracker(build_metrics(arguments, sample_rate))
    skipped = 0
    for name in tqdm(names, unit="mixture"):
        read = functools.partial(read_like, references[0] / name, sample_rate=sample_rate)
        sources = torch.stack([read(find(folder, name)) for folder in references])
        signals = torch.stack([read(find(folder, name)) for folder in estimates])
        if not sources.any():
            tqdm.write(f"{name}: all references are silent, skipped.", file=sys.stderr)
            skipped += 1
            continue
        audio = read(find(mixtures, name)) if mixtures else sources.sum(0)
        update(tracker, name, signals[None], sources[None], audio[None])
    print(f"{len(names) - skipped} mixtures of {len(references)} speakers")
    for name, value in tracker.compute().items():
        print(f"{name:<10} {value:.3f}")


def update(
    tracker: MetricTracker, name: str, estimates: Tensor, sources: Tensor, audio: Tensor
) -> None:
    """Add a mixture [1, T] with its sources and estimates [1, S, T], in any permutation."""
    length = torch.tensor([sources.shape[2]])
    permutation = best_permutation(pairwise_loss(estimates, sources, audio, length))
    tracker.update(
        id=[name],
        estimates=apply_permutation(estimates, permutation),
        sources=sources,
        sources_length=length,
        audio=audio,
    )


def main() -> None:
    """Parse the command line and score the folders."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("references", type=Path, help="folder of the references")
    parser.add_argument("estimates", type=Path, help="folder of the estimates")
    parser.add_argument(
        "--mixture", help="name of the folder of mixtures, if there are several, e.g. mix_both"
    )
    parser.add_argument("--pesq", action="store_true", help="also PESQ; needs pip install pesq")
    parser.add_argument("--stoi", action="store_true", help="also STOI; needs pip install pystoi")
    arguments = parser.parse_args()
    run_command(lambda: score(arguments))


if __name__ == "__main__":
    main()
