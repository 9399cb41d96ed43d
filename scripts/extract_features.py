"""What every layer of an encoder says about recordings, as files for other work.

python scripts/extract_features.py RUN AUDIO OUT

RUN is the folder of any run with a FastConformer, or a .nemo file; AUDIO a folder of recordings or
a manifest. OUT gets `<id>.npy`, float32 [layers + 1, frames, width]: first what goes into the first
layer, then what comes out of each.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.datasets.base_dataset import BaseDataset
from src.datasets.custom_dir import CustomDir
from src.datasets.manifest_dataset import ManifestDataset
from src.interop.nemo import load_features, load_nemo
from src.models.conformer import ConformerEncoder
from src.run import load_run
from src.utils.entry import run_command
from src.utils.files import write_beside


def load_encoder(path: Path, device: torch.device) -> tuple[ConformerEncoder, nn.Module, int]:
    """The encoder, its front end, and the rate of the audio that this takes.

    Raises:
        ValueError: the run's model has no FastConformer.
    """
    if path.suffix == ".nemo":
        features = load_features(path).to(device)
        return load_nemo(path).encoder.to(device).eval(), features, features.sample_rate
    run = load_run(path, device=device)
    encoder = getattr(run.model, "encoder", None)
    if not isinstance(encoder, ConformerEncoder):
        raise ValueError(f"{path}: holds {type(run.model).__name__}, which has no FastConformer.")
    return encoder, run.transforms, run.config.sample_rate


def open_audio(path: Path, rate: int) -> BaseDataset:
    """The recordings of a folder or a manifest."""
    if path.is_dir():
        return CustomDir(str(path), sample_rate=rate)
    return ManifestDataset(str(path), sample_rate=rate)


@torch.inference_mode()
def states_of(encoder: ConformerEncoder, features: nn.Module, audio: Tensor) -> np.ndarray:
    """All states for audio [T]: [layers + 1, frames, width]."""
    length = torch.tensor([len(audio)], device=audio.device)
    seed = torch.zeros_like(length)
    batch = features(audio=audio[None], audio_length=length, seed=seed)
    x, frames = encoder.subsampling(batch["spectrogram"], batch["spectrogram_length"])
    states = [state[0, : int(frames[0])] for state in encoder.states(x, frames)]
    return torch.stack(states).float().cpu().numpy()


def extract(arguments: argparse.Namespace) -> None:
    """Write the states of every recording, or of one layer.

    Raises:
        ValueError: there is no such layer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, features, rate = load_encoder(arguments.run, device)
    if arguments.layer is not None and not 0 <= arguments.layer <= len(encoder.layers):
        raise ValueError(
            f"--layer {arguments.layer}: {arguments.run} has 0 to {len(encoder.layers)}."
        )
    dataset = open_audio(arguments.audio, rate)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(dataset)), desc="features", unit="file"):
        item = dataset[index]
        states = states_of(encoder, features, item["audio"].to(device))
        if arguments.layer is not None:
            states = states[arguments.layer]
        with (
            write_beside(arguments.out / f"{item['id']}.npy") as path,
            path.open("wb") as file,
        ):
            np.save(file, states, allow_pickle=False)
    kind = "[frames" if arguments.layer is not None else f"[{len(states)}, frames"
    print(f"{arguments.out}: {len(dataset)} files, {kind}, {states.shape[-1]}]")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layer", type=int, help="only this one: files [frames, width]")
    arguments = parser.parse_args()
    run_command(lambda: extract(arguments))


if __name__ == "__main__":
    main()
