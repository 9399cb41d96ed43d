"""Our beam search beside flashlight-text's: python scripts/benchmark_beam_search.py."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import Tensor

from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.utils.random import generator

INSTALL = "error: flashlight-text is not installed; get it with: pip install flashlight-text==0.0.7"


def random_log_probs(batch: int, frames: int, tokens: int, seed: int, peaky: bool) -> Tensor:
    """Log-probabilities [B, T, V] of a recogniser that is often unsure, or pure noise.

    Peaky ones favour the blank, and one token or two in every seventh frame.
    """
    draw = generator(seed, "benchmark")
    logits = torch.randn(batch, frames, tokens, generator=draw)
    if peaky:
        logits[..., 0] += 6
        for _ in range(2):
            spoken = torch.rand(batch, frames, generator=draw) < 1 / 7
            token = torch.randint(1, tokens, (batch, frames, 1), generator=draw)
            height = 7 + 3 * torch.randn(batch, frames, 1, generator=draw)
            logits.scatter_add_(2, token, height * spoken.unsqueeze(2))
    return logits.log_softmax(dim=-1)


def flashlight(beam_size: int, tokens: int) -> Callable[[Tensor], list[list[int]]]:
    """Flashlight's decoder without lexicon and language model, set to compute what ours does."""
    try:
        from flashlight.lib.text import decoder as library
    except ImportError:
        sys.exit(INSTALL)
    options = library.LexiconFreeDecoderOptions(
        beam_size=beam_size,
        beam_size_token=tokens,
        beam_threshold=1e9,  # prunes by the size of the beam alone
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,  # sums over alignments
        criterion_type=library.CriterionType.CTC,
    )
    # It takes every utterance to start in its silence token: one that doesn't exist.
    decoder = library.LexiconFreeDecoder(options, library.ZeroLM(), tokens, 0, [])

    def decode(log_probs: Tensor) -> list[list[int]]:
        found = []
        for item in log_probs:
            best = decoder.decode(item.contiguous().data_ptr(), *item.shape)[0]
            found.append([token for token, _ in groupby(best.tokens[1:-1]) if token])
        return found

    return decode


def timed(decode: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Seconds that a call takes, and what it gives."""
    start = time.perf_counter()
    found = decode()
    return time.perf_counter() - start, found


def compare(arguments: argparse.Namespace, peaky: bool) -> None:
    """Run both in turn and print their times, the ratio, and how often they agree."""
    sizes = (arguments.batch, arguments.frames, arguments.tokens)
    log_probs = random_log_probs(*sizes, arguments.seed, peaky)
    lengths = torch.full((arguments.batch,), arguments.frames)
    ours = BeamSearchDecoder(arguments.beam_size)
    theirs = flashlight(arguments.beam_size, arguments.tokens)
    times: list[tuple[float, float]] = []
    for _ in range(arguments.rounds):
        own, found = timed(lambda: ours(log_probs, lengths))
        other, expected = timed(lambda: theirs(log_probs))
        times.append((own, other))
    own, other = (statistics.median(column) for column in zip(*times, strict=True))
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    print(
        f"{'like speech' if peaky else 'pure noise '}: ours {own:.2f} s, flashlight {other:.2f} s, "
        f"ratio {own / other:.2f}; {same} of {arguments.batch} best hypotheses agree"
    )


def main() -> None:
    """Compare on data like a recogniser's, and on noise, where pruning matters most."""
    parser = argparse.ArgumentParser(description="Our beam search beside flashlight-text's.")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=29, help="with the blank")
    parser.add_argument("--beam-size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="the median counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = f"{arguments.batch} utterances of {arguments.frames} frames, {arguments.tokens} tokens"
    print(f"{sizes}, beam of {arguments.beam_size}, threads: {arguments.threads}")
    for peaky in (True, False):
        compare(arguments, peaky)


if __name__ == "__main__":
    main()
