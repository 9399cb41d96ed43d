"""Cluster features of speech into targets for pretraining, as in HuBERT (arXiv 2106.07447).

python scripts/cluster_features.py RUN AUDIO OUT.safetensors --layer 3 --clusters 256
python scripts/cluster_features.py mfcc AUDIO OUT.safetensors

RUN is a run with a FastConformer encoder (NEST or a recogniser), or a .nemo file: the hidden states
of a layer are clustered, as in the second round of HuBERT; several layers give a codebook each.
`mfcc` and `log_mel` cluster stacked frames instead, as in the first round, which needs no run.
AUDIO is a manifest or a folder of recordings. OUT holds the centres and the encoder:

python train.py -cn=ssl_nest init=quantizer init.quantizer.source=OUT.safetensors
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scripts.extract_features import load_system, open_audio
from src.config import build, compose_experiment
from src.interop.clusters import build_quantizer, frames_node, layers_node, save_clusters
from src.interop.sources import Source, read_saved
from src.models.layers.nest.clusters import ClusterQuantizer
from src.models.layers.nest.kmeans import kmeans
from src.models.nest import pad_to_multiple
from src.system import System
from src.tasks.pretraining import PretrainingTask
from src.transforms.chain import Chain
from src.utils.entry import run_command
from src.utils.nodes import plain
from src.utils.options import check_whole

STACKED = {"mfcc": 13, "log_mel": None}  # coefficients of each frame, None for the spectrogram


def open_encoder(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, ...]:
    """The system of a run, a quantizer of its layers and its config, and that of the front end.

    Raises:
        ValueError: no layer is given, or one that the encoder doesn't have.
    """
    saved = read_saved(Source("encoder", arguments.run, "encoder"))
    system = load_system(arguments.run, device)
    encoder, layers = system.model.encoder, arguments.layer
    if not layers:
        raise ValueError(f"--layer: wanted, from 0 to {len(encoder.layers)}.")
    for layer in layers:
        check_whole("--layer", layer, 0, len(encoder.layers))
    features = layers_node(encoder, layers)
    quantizer, node = build_quantizer(features, arguments.clusters, len(layers), encoder)
    return system, quantizer, node, saved.features


def open_frames(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, ...]:
    """The front end of pretraining, a quantizer of its frames and its config, and its own config.

    Raises:
        ValueError: a layer is given.
    """
    if arguments.layer:
        raise ValueError(f"--layer: {arguments.run} has no layers.")
    config = compose_experiment("ssl_nest", *arguments.overrides)
    chain = Chain({"features": build(config, "features")})
    encoder = config.model.encoder
    frames = frames_node(encoder.feat_in, encoder.subsampling_factor, STACKED[str(arguments.run)])
    quantizer, node = build_quantizer(frames, arguments.clusters, 1)
    rate = config.sample_rate
    system = System(quantizer, PretrainingTask(), sample_rate=rate, inference_transforms=chain)
    return system.to(device).eval(), quantizer, node, plain(config.features)


def vectors_of(system: Any, quantizer: ClusterQuantizer, audio: Tensor) -> Tensor:
    """Features [num_codebooks, N, D] of the N tokens of audio [T]."""
    batch = system.transform(system.batch_of(audio, system.sample_rate))
    length, factor = batch["spectrogram_length"], quantizer.combine_time_steps
    spectrogram = pad_to_multiple(batch["spectrogram"], factor)
    vectors = quantizer.features(spectrogram, length)
    return vectors[:, 0, : -(-int(length[0]) // factor)].float().cpu()


@torch.inference_mode()
def draw_vectors(
    system: Any, quantizer: ClusterQuantizer, arguments: argparse.Namespace
) -> Iterator[Tensor]:
    """The features of recordings in random order, until there are enough frames."""
    dataset = open_audio(arguments.audio, system.sample_rate)
    generator = torch.Generator().manual_seed(arguments.seed)
    left = arguments.frames
    with tqdm(total=left, desc="features", unit="frames") as bar:
        for index in torch.randperm(len(dataset), generator=generator).tolist():
            vectors = vectors_of(system, quantizer, dataset[index]["audio"])[:, :left]
            left -= vectors.shape[1]
            bar.update(vectors.shape[1])
            yield vectors
            if not left:
                return


def cluster(arguments: argparse.Namespace) -> None:
    """Compute the centres and write the quantizer.

    Raises:
        ValueError: an option is out of range, or the recordings are too short.
    """
    if arguments.out.suffix != ".safetensors":
        raise ValueError(f"{arguments.out}: the name must end in .safetensors.")
    check_whole("--clusters", arguments.clusters, low=2)
    check_whole("--frames", arguments.frames, low=arguments.clusters)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    opening = open_frames if str(arguments.run) in STACKED else open_encoder
    system, quantizer, node, features = opening(arguments, device)
    quantizer.to(device)
    drawn = list(draw_vectors(system, quantizer, arguments))
    vectors = torch.cat(drawn, dim=1)
    if vectors.shape[1] < arguments.clusters:
        raise ValueError(f"{arguments.audio}: {vectors.shape[1]} frames, too few to cluster.")
    for number, own in enumerate(vectors):
        centres, explained = kmeans(own, arguments.clusters, arguments.seed)
        quantizer.codebooks[number] = centres.to(device)
        what = f"layer {arguments.layer[number]}" if arguments.layer else arguments.run
        print(f"{what}: {arguments.clusters} clusters explain {100 * explained:.1f} % of variance")
    save_clusters(arguments.out, quantizer, node, features, system.sample_rate)
    print(f"{arguments.out}: from {vectors.shape[1]} frames of {len(drawn)} recordings")


def main() -> None:
    """Parse the command line and cluster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run, .nemo file, or one of mfcc and log_mel")
    parser.add_argument("audio", type=Path, help="folder of recordings, or a manifest")
    parser.add_argument("out", type=Path, help=".safetensors file to write")
    parser.add_argument(
        "--layer", type=int, nargs="+", help="of the encoder, 0 being the input of the first block"
    )
    parser.add_argument("--clusters", type=int, default=256, help="number of clusters")
    parser.add_argument("--frames", type=int, default=200_000, help="of random recordings to use")
    parser.add_argument("--seed", type=int, default=1, help="of the recordings and the centres")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="key=value, of ssl_nest, for mfcc and log_mel"
    )
    run_command(lambda: cluster(parser.parse_args()))


if __name__ == "__main__":
    main()
