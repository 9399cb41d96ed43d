"""Compare the speed of our CTC beam search with flashlight-text's C++ decoder.

python scripts/benchmark_beam_search.py

Needs: pip install flashlight-text==0.0.7
"""

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

INSTALL = "error: flashlight-text is not installed; run: pip install flashlight-text==0.0.7"


def random_log_probs(batch: int, frames: int, tokens: int, seed: int, peaky: bool) -> Tensor:
    """Random log-probabilities [B, T, V] that resemble those of a recogniser, or noise.

    Args:
        batch, frames, tokens: B, T and V, with the blank as token 0.
        seed: of the random generator.
        peaky: True favours the blank, and in every seventh frame on average a token; False is
            noise.
    """
    draw = generator(seed, "benchmark")
    logits = torch.randn(batch, frames, tokens, generator=draw)
    if peaky:
        logits[..., 0] += 6
        for _ in range(2):
            emitted = torch.rand(batch, frames, generator=draw) < 1 / 7
            token = torch.randint(1, tokens, (batch, frames, 1), generator=draw)
            height = 7 + 3 * torch.randn(batch, frames, 1, generator=draw)
            logits.scatter_add_(2, token, height * emitted.unsqueeze(2))
    return logits.log_softmax(dim=-1)


def flashlight(beam_size: int, tokens: int) -> Callable[[Tensor], list[list[int]]]:
    """A decoder of flashlight-text without lexicon and language model, equivalent to ours.

    Args:
        beam_size: number of hypotheses in the beam.
        tokens: V, including the blank.

    Returns:
        A function from log-probabilities [B, T, V] to the token ids of the best hypotheses.

    Raises:
        SystemExit: flashlight-text is not installed.
    """
    try:
        from flashlight.lib.text import decoder as library
    except ImportError:
        sys.exit(INSTALL)
    options = library.LexiconFreeDecoderOptions(
        beam_size=beam_size,
        beam_size_token=tokens,
        beam_threshold=1e9,  # prune by the beam size alone
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,  # sum over alignments
        criterion_type=library.CriterionType.CTC,
    )
    # Hypotheses start with the silence token, whose index `tokens` is outside of the vocabulary.
    decoder = library.LexiconFreeDecoder(options, library.ZeroLM(), tokens, 0, [])

    def decode(log_probs: Tensor) -> list[list[int]]:
        hypotheses = []
        for item in log_probs:
            best = decoder.decode(item.contiguous().data_ptr(), *item.shape)[0]
            hypotheses.append([token for token, _ in groupby(best.tokens[1:-1]) if token])
        return hypotheses

    return decode


def timed(decode: Callable[[], list[list[int]]]) -> tuple[float, list[list[int]]]:
    """Duration of a call in seconds, and the hypotheses that it returns."""
    start = time.perf_counter()
    hypotheses = decode()
    return time.perf_counter() - start, hypotheses


def compare(arguments: argparse.Namespace, peaky: bool) -> None:
    """Print the times of both decoders, their ratio, and how many hypotheses agree.

    Args:
        arguments: of the command line.
        peaky: True for log-probabilities that resemble a recogniser's, False for noise.
    """
    sizes = (arguments.batch, arguments.frames, arguments.tokens)
    log_probs = random_log_probs(*sizes, arguments.seed, peaky)
    lengths = torch.full((arguments.batch,), arguments.frames)
    ours = BeamSearchDecoder(arguments.beam_size)
    theirs = flashlight(arguments.beam_size, arguments.tokens)
    times: list[tuple[float, float]] = []
    for _ in range(arguments.rounds):
        our_time, hypotheses = timed(lambda: ours(log_probs, lengths))
        their_time, expected = timed(lambda: theirs(log_probs))
        times.append((our_time, their_time))
    our_time, their_time = (statistics.median(column) for column in zip(*times, strict=True))
    same = sum(a == b for a, b in zip(hypotheses, expected, strict=True))
    print(
        f"{'speech-like' if peaky else 'noise      '}: ours {our_time:.2f} s, "
        f"flashlight {their_time:.2f} s, "
        f"ratio {our_time / their_time:.2f}; {same} of {arguments.batch} best hypotheses agree"
    )


def main() -> None:
    """Parse the command line; compare on peaky log-probabilities and on noise."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8, help="utterances (default: 8)")
    parser.add_argument("--frames", type=int, default=500, help="per utterance (default: 500)")
    parser.add_argument("--tokens", type=int, default=29, help="including the blank (default: 29)")
    parser.add_argument("--beam-size", type=int, default=100, help="hypotheses (default: 100)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds; the median is printed")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the random input")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = f"{arguments.batch} utterances of {arguments.frames} frames, {arguments.tokens} tokens"
    print(f"{sizes}, beam size {arguments.beam_size}, threads: {arguments.threads}")
    for peaky in (True, False):
        compare(arguments, peaky)


if __name__ == "__main__":
    main()
