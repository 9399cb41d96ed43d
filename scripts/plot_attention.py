"""Plot the local attention of a MossFormer2: python scripts/plot_attention.py RUN AUDIO OUT.png.

The attention weights in a group of 256 frames are relu(q k / 256)^2. The image shows the square
root of the weights of one group; rows are queries.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from src.models.layers.mossformer.gated_attention import GROUP_SIZE, token_shift
from src.models.mossformer2 import MossFormer2
from src.models.ops.group_attention import attention_weights, to_groups
from src.run import load_run
from src.utils.audio import read_audio
from src.utils.entry import run_command
from src.utils.plots import new_figure, save_figure


def local_attention(system: Any, audio: Tensor, block: int) -> Tensor:
    """Attention weights of all groups of a recording: [groups, GROUP_SIZE, GROUP_SIZE].

    Args:
        system: of a run of MossFormer2.
        audio: [T], at the system's sample rate.
        block: index of the block.
    """
    attention = system.model.mask_net.blocks[block].attention
    inputs: list[tuple] = []
    # One window, so that the groups are those of the whole recording.
    system.task.window = max(system.task.window, len(audio))
    handle = attention.register_forward_pre_hook(lambda module, given: inputs.append(given))
    with torch.inference_mode():
        system(audio, system.sample_rate)
        handle.remove()
        x, rotary, padding_mask = inputs[0]
        _, qk = attention.project(token_shift(x), padding_mask)
        quad_q, _, quad_k, _ = attention.project_qk(qk, rotary)
        groups = to_groups(quad_q, GROUP_SIZE), to_groups(quad_k, GROUP_SIZE)
        return attention_weights(*groups, GROUP_SIZE).cpu()


def check_index(option: str, index: int, count: int, path: Path) -> None:
    """Raise ValueError unless an index is from 0 to `count` - 1."""
    if not 0 <= index < count:
        raise ValueError(f"{option} {index}: {path} has indices 0 to {count - 1}.")


def draw(arguments: argparse.Namespace) -> None:
    """Write the image.

    Raises:
        ValueError: the run has another model, or there is no such block or group.
    """
    system = load_run(arguments.run, device="cpu")
    model, sample_rate = system.model, system.sample_rate
    if not isinstance(model, MossFormer2):
        raise ValueError(f"{arguments.run}: holds {type(model).__name__}; wanted MossFormer2.")
    blocks = len(model.mask_net.blocks)
    block = blocks - 1 if arguments.block is None else arguments.block
    check_index("--block", block, blocks, arguments.run)
    audio = read_audio(arguments.audio, sample_rate)
    weights = local_attention(system, audio, block)
    check_index("--group", arguments.group, len(weights), arguments.audio)
    first = arguments.group * GROUP_SIZE
    last = min(first + GROUP_SIZE, model.num_frames(max(len(audio), model.kernel_size)))
    weights = weights[arguments.group, : last - first, : last - first]
    start, end = (frame * model.stride / sample_rate for frame in (first, last))
    figure = plot(weights, start, end, f"block {block}, group {arguments.group}")
    save_figure(figure, arguments.out)
    print(f"{arguments.out}: block {block}, {start:.2f} to {end:.2f} s")
    if not weights.any():
        print("All weights are 0: this block uses linear attention only.")


def plot(weights: Tensor, start: float, end: float, name: str) -> Any:
    """Figure of the attention weights of one group.

    Args:
        weights: [frames, frames], rows are queries.
        start, end: of the group, in seconds.
        name: of the group, for the title.
    """
    figure = new_figure(6, 5.5)
    axes = figure.subplots()
    values = weights.sqrt().numpy()  # the root makes small weights visible
    image = axes.imshow(values, extent=(start, end, end, start), interpolation="nearest")
    axes.set(xlabel="key (s)", ylabel="query (s)", title=f"{name}: root of the weights")
    figure.colorbar(image)
    return figure


def main() -> None:
    """Parse the command line and plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a run of MossFormer2")
    parser.add_argument("audio", type=Path, help="recording of a mixture")
    parser.add_argument("out", type=Path, help="image to write")
    parser.add_argument("--block", type=int, help="index of the block (default: the last)")
    parser.add_argument("--group", type=int, default=0, help="index of the group (default: 0)")
    arguments = parser.parse_args()
    run_command(lambda: draw(arguments))


if __name__ == "__main__":
    main()
