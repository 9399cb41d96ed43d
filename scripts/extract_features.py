"""Write the hidden states of all layers of an encoder for each recording, as .npy files.

python scripts/extract_features.py RUN AUDIO OUT

RUN is the folder of a run with a FastConformer encoder, or a .nemo file; AUDIO is a folder of
recordings or a manifest. OUT/<id>.npy is a float32 array [num_layers + 1, frames, d_model]: the
input of the first layer, then the output of each layer.
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
    """Encoder, front end and sample rate of a run or of a .nemo file.

    Raises:
        ValueError: the run's model has no FastConformer encoder.
    """
    if path.suffix == ".nemo":
        features = load_features(path).to(device)
        return load_nemo(path).encoder.to(device).eval(), features, features.sample_rate
    system = load_run(path, device=device)
    encoder = getattr(system.model, "encoder", None)
    if not isinstance(encoder, ConformerEncoder):
        raise ValueError(
            f"{path}: holds {type(system.model).__name__}, which has no FastConformer encoder."
        )
    return encoder, system.inference_transforms, system.sample_rate


def open_audio(path: Path, sample_rate: int) -> BaseDataset:
    """The recordings of a folder or of a manifest."""
    if path.is_dir():
        return CustomDir(str(path), sample_rate=sample_rate)
    return ManifestDataset(str(path), sample_rate=sample_rate)


@torch.inference_mode()
def states_of(encoder: ConformerEncoder, features: nn.Module, audio: Tensor) -> np.ndarray:
    """Hidden states [num_layers + 1, frames, d_model] of audio [T]."""
    length = torch.tensor([len(audio)], device=audio.device)
    seed = torch.zeros_like(length)
    batch = features(audio=audio[None], audio_length=length, seed=seed)
    x, frames = encoder.subsampling(batch["spectrogram"], batch["spectrogram_length"])
    states = [state[0, : int(frames[0])] for state in encoder.hidden_states(x, frames)]
    return torch.stack(states).float().cpu().numpy()


def extract(arguments: argparse.Namespace) -> None:
    """Write the hidden states of every recording, of all layers or of one.

    Raises:
        ValueError: the encoder has no such layer.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, features, sample_rate = load_encoder(arguments.run, device)
    if arguments.layer is not None and not 0 <= arguments.layer <= len(encoder.layers):
        raise ValueError(
            f"--layer {arguments.layer}: {arguments.run} has layers 0 to {len(encoder.layers)}."
        )
    dataset = open_audio(arguments.audio, sample_rate)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for index in tqdm(range(len(dataset)), desc="features", unit="file"):
        item = dataset[index]
        states = states_of(encoder, features, item["audio"].to(device))
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
