"""Decoding of CTC log-probabilities: greedy, and beam search beside flashlight-text."""

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from scripts import benchmark_beam_search as beam
from scripts.benchmarks.measuring import OURS, Case, Options, Step, installed, missing
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.greedy import GreedyDecoder

THEIRS = "flashlight-text"
ALONE = missing("flashlight-text (or KenLM)")


def greedy_cases(options: Options) -> Iterator[Case]:
    """Greedy decoding of characters and of subwords."""
    items, frames = (2, 50) if options.quick else (32, 500)
    for tokens in (29, 1024):
        log_probs = beam.random_log_probs(items, frames, tokens, 0, peaky=True).to(options.device)
        lengths = torch.full((items,), frames)
        steps: dict[str, Step] = {OURS: partial(GreedyDecoder(), log_probs, lengths)}
        yield Case(f"Greedy decoding, {items} x {frames} frames, {tokens} tokens", steps, "alone")


def beam_cases(options: Options) -> Iterator[Case]:
    """Beam search on a CPU, one thread: lexicon-free, and with a language model and its words."""
    items, frames, size = (2, 30, 10) if options.quick else (8, 500, 100)
    lengths = torch.full((items,), frames)
    for name, peaky in (("speech-like", True), ("noise", False)):
        log_probs = beam.random_log_probs(items, frames, 29, 0, peaky)
        steps: dict[str, Step] = {OURS: partial(BeamSearchDecoder(size), log_probs, lengths)}
        if installed("flashlight"):
            steps[THEIRS] = partial(beam.flashlight(size, 29), log_probs)
        note = "" if len(steps) > 1 else ALONE
        title = f"Beam search, {name}, {items} x {frames} frames, beam {size}"
        yield Case(title, one_thread(steps, options), note)
    arguments = argparse.Namespace(
        seed=0,
        tokens=29,
        words=20 if options.quick else 300,
        batch=2 if options.quick else 100,
        frames=60 if options.quick else 500,
        beam_size=size,
        token_threshold=None,
        alpha=0.5,
        beta=1.0,
        at_once=100,
        language_model=None,
    )
    speech = beam.RandomSpeech(arguments).speech
    with tempfile.TemporaryDirectory() as folder:
        steps = {OURS: beam.our_decoder(speech, arguments)[1]}
        if installed("flashlight") and installed("kenlm"):
            theirs = beam.FlashlightWithWords(speech, arguments, Path(folder))
            prepared = [theirs.prepare(one).contiguous() for one in speech.utterances]
            steps[THEIRS] = partial(theirs, prepared)
        note = "" if len(steps) > 1 else ALONE
        title = (
            f"Beam search, {arguments.words} words, {arguments.batch} x {arguments.frames} frames"
        )
        yield Case(title, one_thread(steps, options), note)


def one_thread(steps: dict[str, Step], options: Options) -> dict[str, Step]:
    """The same functions with a single thread, which is all that flashlight-text uses."""

    def limited(step: Step) -> None:
        torch.set_num_threads(1)
        step()
        torch.set_num_threads(options.threads)

    return {name: partial(limited, step) for name, step in steps.items()}
