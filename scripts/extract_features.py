"""Write the hidden states of all layers of an encoder for each recording, as .npy files.

python scripts/extract_features.py RUN AUDIO OUT

RUN is the folder of a run with a FastConformer encoder, or a .nemo file; AUDIO is a folder of
recordings or a manifest. OUT/<id>.npy is a float32 array [num_layers + 1, frames, d_model]: the
input of the first layer, then the output of each layer.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from src.datasets.base_dataset import BaseDataset
from src.datasets.custom_dir import CustomDir
from src.datasets.manifest_dataset import ManifestDataset
from src.interop.nemo import load_features, load_nemo
from src.interop.recogniser import is_recogniser
from src.models.conformer import ConformerEncoder
from src.run import load_run
from src.system import System
from src.tasks.pretraining import PretrainingTask
from src.transforms.chain import Chain
from src.utils.entry import run_command
from src.utils.files import write_beside


def load_system(path: Path, device: torch.device) -> Any:
    """The system of a run, or of a .nemo file.

    Raises:
        ValueError: the run's model has no FastConformer encoder.
    """
    if path.suffix == ".nemo" and not is_recogniser(path):
        features = load_features(path)
        system = System(
            load_nemo(path),
            PretrainingTask(),
            sample_rate=features.sample_rate,
            inference_transforms=Chain({"features": features}),
        )
        return system.to(device).eval()
    system = load_run(path, device=device)
    if not isinstance(getattr(system.model, "encoder", None), ConformerEncoder):
        raise ValueError(
            f"{path}: holds {type(system.model).__name__}, which has no FastConformer encoder."
        )
    return system


def open_audio(path: Path, sample_rate: int) -> BaseDataset:
    """The recordings of a folder or of a manifest."""
    if path.is_dir():
        return CustomDir(str(path), sample_rate=sample_rate)
    return ManifestDataset(str(path), sample_rate=sample_rate)


@torch.inference_mode()
def states_of(system: Any, audio: Tensor) -> np.ndarray:
    """Hidden states [num_layers + 1, frames, d_model] of audio [T]."""
    batch = system.transform(system.batch_of(audio, system.sample_rate))
    states, length = system.model.encoder.all_hidden_states(
        batch["spectrogram"], batch["spectrogram_length"]
    )
    return states[:, 0, : int(length[0])].float().cpu().numpy()


def extract(arguments: argparse.Namespace) -> None:
    """Write the hidden states of every recording, of all layers or of one.

    Raises:
        ValueError: the encoder has no such layer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    system = load_system(arguments.run, device)
    last = len(system.model.encoder.layers)
    if arguments.layer is not None and not 0 <= arguments.layer <= last:
        raise ValueError(f"--layer {arguments.layer}: {arguments.run} has layers 0 to {last}.")
    dataset = open_audio(arguments.audio, system.sample_rate)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(dataset)), desc="features", unit="file"):
        item = dataset[index]
        states = states_of(system, item["audio"])
        if arguments.layer is not None:
            states = states[arguments.layer]
        with write_beside(arguments.out / f"{item['id']}.npy") as path, path.open("wb") as file:
            np.save(file, states, allow_pickle=False)
    kind = "[frames" if arguments.layer is not None else f"[{len(states)}, frames"
    print(f"{arguments.out}: {len(dataset)} files, {kind}, {states.shape[-1]}]")


def main() -> None:
    """Parse the command line and extract."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run, also user/name on the hub, or a .nemo file")
    parser.add_argument("audio", type=Path, help="folder of recordings, or a manifest")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument(
        "--layer", type=int, help="write only this layer, 0 being the input: [frames, d_model]"
    )
    arguments = parser.parse_args()
    run_command(lambda: extract(arguments))


if __name__ == "__main__":
    main()
