"""What a block of a MossFormer2 listens to: python scripts/plot_attention.py RUN AUDIO OUT.png.

Within a group of 256 frames each frame weighs each other by the squared ReLU of query times key.
The picture shows these weights for one group.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from src.models.layers.mossformer.gated_attention import GROUP, grouped
from src.models.mossformer2 import MossFormer2
from src.run import Run, load_run
from src.utils.audio import read_audio
from src.utils.entry import run_command
from src.utils.plots import new_figure, save_figure


def weights_of(run: Run, audio: Tensor, block: int) -> Tensor:
    """Of every group of a recording [T]: [groups, GROUP, GROUP]."""
    model: Any = run.model
    attention = model.mask_net.blocks[block].attention
    seen: list[tuple] = []
    handle = attention.register_forward_pre_hook(lambda module, given: seen.append(given))
    with torch.inference_mode():
        # The model itself, since the task would hand it long recordings in windows.
        model(audio=audio[None], audio_length=torch.tensor([len(audio)]), id=["the recording"])
        handle.remove()
        x, turn, padding = seen[0]
        _, heads = attention.listen(x, turn, padding)
        query, _, key, _ = (grouped(head) for head in heads)
        return attention.weights(query, key).cpu()


def draw(arguments: argparse.Namespace) -> None:
    """Write the picture.

    Raises:
        ValueError: the run has no such model, block or group.
    """
    run = load_run(arguments.run, device="cpu")
    if not isinstance(run.model, MossFormer2):
        raise ValueError(f"{arguments.run}: holds {type(run.model).__name__}; wanted MossFormer2.")
    blocks = len(run.model.mask_net.blocks)
    block = blocks - 1 if arguments.block is None else arguments.block
    if not 0 <= block < blocks:
        raise ValueError(f"--block {block}: {arguments.run} has 0 to {blocks - 1}.")
    audio = read_audio(arguments.audio, run.config.sample_rate)
    weights = weights_of(run, audio, block)
    if not 0 <= arguments.group < len(weights):
        raise ValueError(
            f"--group {arguments.group}: {arguments.audio} has 0 to {len(weights) - 1}."
        )
    seconds = run.model.stride / run.config.sample_rate
    first = arguments.group * GROUP
    last = min(first + GROUP, run.model.frames(len(audio)))
    start, end = first * seconds, last * seconds
    figure = new_figure(6, 5.5)
    axes = figure.subplots()
    own = weights[arguments.group, : last - first, : last - first]
    values = own.sqrt().numpy()  # the root, or one pair would hide the others
    image = axes.imshow(values, extent=(start, end, end, start), interpolation="nearest")
    axes.set(
        xlabel="second listened to",
        ylabel="second that listens",
        title=f"block {block}, group {arguments.group}: root of the weights",
    )
    figure.colorbar(image)
    save_figure(figure, arguments.out)
    print(f"{arguments.out}: block {block}, {start:.2f} to {end:.2f} s")
    if not own.any():
        print("All weights are 0: this block has learnt to listen to far frames only.")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--block", type=int, help="default: the last")
    parser.add_argument("--group", type=int, default=0)
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
