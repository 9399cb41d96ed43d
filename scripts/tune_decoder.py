"""Tune the language model's weights on the validation set: python scripts/tune_decoder.py RUN LM.

LM is an ARPA file or a binary file of KenLM. The log-probabilities are computed once; then beam
search is run for each alpha and beta of a grid, and of a finer one around the best, in several
processes. Written is a table of all of them (by default LM.tuning.tsv), printed the command that
uses the best ones. The test set is not used.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from src.config import inference_config
from src.datasets.collate import collate
from src.metrics.wer import word_error_rate
from src.run import open_source, restore
from src.system import System
from src.text_encoder.base import TextEncoder
from src.text_encoder.decoders.beam_search import BeamSearchDecoder
from src.text_encoder.decoders.kenlm import read_language_model
from src.trainer.setup import open_dataset
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_number, check_whole

AT_ONCE = 8  # utterances in a batch
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
BETAS = (-1.0, 0.0, 1.0, 2.0, 3.0)
FINER = (-0.5, 0.0, 0.5)  # around the best value, in steps of the first grid
STEPS = (0.25, 1.0)  # of alpha and beta
KEYS = ("alpha", "beta", "WER")

Point = tuple[float, float]  # alpha, beta


class Search:
    """The WER of a validation set by the weights of the language model.

    Args:
        utterances: log-probabilities [T, V] of each.
        references: normalised texts.
        encoder: of the recogniser.
        arguments: of the command line.
    """

    def __init__(
        self,
        utterances: list[Tensor],
        references: list[str],
        encoder: TextEncoder,
        arguments: argparse.Namespace,
    ):
        self.utterances, self.references, self.encoder = utterances, references, encoder
        self.beam_size, self.threshold = arguments.beam_size, arguments.token_threshold
        self.model = read_language_model(arguments.language_model)

    def wer(self, point: Point) -> float:
        """WER in percent with these weights."""
        decoder = BeamSearchDecoder(self.beam_size, self.threshold, self.model, *point)
        decoder.set_text_encoder(self.encoder)
        texts = []
        for start in range(0, len(self.utterances), AT_ONCE):
            batch = self.utterances[start : start + AT_ONCE]
            lengths = torch.tensor([len(one) for one in batch])
            padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            texts += [self.encoder.decode(tokens) for tokens in decoder(padded, lengths)]
        return word_error_rate(self.references, texts)


SEARCH: list[Search] = []  # the one of this process


def start(search: partial[Search]) -> None:
    """Prepare a process of the pool, which ends without a word at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    SEARCH.append(search())


def wer_of(point: Point) -> float:
    """WER in percent with these weights, in a process of the pool."""
    return SEARCH[0].wer(point)


def validation_set(
    arguments: argparse.Namespace, limit: int | None = None
) -> tuple[System, list[Tensor], list[str]]:
    """The recogniser, and log-probabilities [T, V] and references of the validation set.

    Args:
        arguments: of the command line: `run`, `set`, `device` and `trust`.
        limit: number of utterances; None: all.

    Raises:
        ValueError: the run is no CTC recogniser, or the set has no transcripts.
    """
    run = open_source(arguments.run, arguments.trust)
    config = inference_config(run.read_config(), None)
    system = restore(run, config, "best", arguments.device)
    if system.text_encoder is None:
        raise ValueError(f"{arguments.run}: no recogniser; only one has a language model.")
    system.task.window_seconds = None
    dataset = open_dataset(config, arguments.set, system, train=False)
    if not dataset.has_targets:
        raise ValueError(f"datasets.{arguments.set}: has no transcripts to tune on.")
    utterances, references = [], []
    size = min(len(dataset), limit or len(dataset))
    for first in tqdm(range(0, size, AT_ONCE), desc="log-probabilities", disable=None):
        last = min(first + AT_ONCE, size)
        batch = system.evaluation_step(collate([dataset[i] for i in range(first, last)]))
        if "log_probs" not in batch:
            raise ValueError(f"{arguments.run}: no recogniser with CTC.")
        for log_probs, length in zip(
            batch["log_probs"], batch["log_probs_length"].tolist(), strict=True
        ):
            utterances.append(log_probs[:length].float().cpu())
        references += batch["text"]
    return system, utterances, references


def finer(best: Point, step: Sequence[float]) -> list[Point]:
    """Points around the best one."""
    alphas = [round(best[0] + k * step[0], 4) for k in FINER]
    return [(a, round(best[1] + k * step[1], 4)) for a in alphas if a >= 0 for k in FINER]


def tune(arguments: argparse.Namespace) -> None:
    """Search the best weights, print them and write the table.

    Raises:
        ValueError: an option is out of range, or the run or the language model can't be used.
    """
    check_whole("--beam-size", arguments.beam_size)
    check_whole("--processes", arguments.processes)
    check_number("--token-threshold", arguments.token_threshold, -np.inf, optional=True)
    if arguments.set in ("test", "train"):
        raise ValueError(f"--set: '{arguments.set}'; weights are tuned on a validation set.")
    read_language_model(arguments.language_model)  # raises before the model is run
    system, utterances, references = validation_set(arguments)
    search = partial(Search, utterances, references, system.text_encoder, arguments)
    if arguments.processes == 1:
        results = searched(map, search().wer, arguments)
    else:
        spawn = get_context("spawn")  # forks of a process that has run torch may hang
        with spawn.Pool(arguments.processes, start, (search,)) as pool:
            results = searched(pool.imap, wer_of, arguments)
    report(results, best_of(results), arguments)


def searched(
    apply: Callable[..., Iterator[float]],
    wer: Callable[[Point], float],
    arguments: argparse.Namespace,
) -> dict[Point, float]:
    """The WER at the points of the grid, and of a finer grid around the best of them.

    Args:
        apply: `map`, or that of a pool of processes.
        wer: of a point.
        arguments: of the command line.
    """
    results: dict[Point, float] = {}
    points = [(alpha, beta) for alpha in arguments.alpha for beta in arguments.beta]
    for _ in range(2):
        values = tqdm(apply(wer, points), total=len(points), desc="WER", disable=None)
        results |= dict(zip(points, values, strict=True))
        points = [point for point in finer(best_of(results), STEPS) if point not in results]
    return results


def best_of(results: dict[Point, float]) -> Point:
    """The point with the lowest WER; of several, that of the smallest weights."""
    return min(results, key=lambda point: (results[point], abs(point[0]), abs(point[1])))


def report(results: dict[Point, float], best: Point, arguments: argparse.Namespace) -> None:
    """Print the grid and the best weights, and write the table of all weights."""
    out = arguments.out or Path(f"{arguments.language_model}.tuning.tsv")
    with write_beside(out) as beside:
        rows = ["\t".join(KEYS)]
        rows += [f"{a:g}\t{b:g}\t{wer:.4f}" for (a, b), wer in sorted(results.items())]
        beside.write_text("\n".join(rows) + "\n", encoding="utf-8")
    betas = sorted({b for _, b in results})
    print(
        f"WER of the set {arguments.set} in %\n{'alpha':>7} beta "
        + "".join(f"{b:8g}" for b in betas)
    )
    for alpha in sorted({a for a, _ in results}):
        own = [results.get((alpha, beta)) for beta in betas]
        print(f"{alpha:7g}      " + "".join(" " * 8 if w is None else f"{w:8.2f}" for w in own))
    print(f"\nBest: alpha {best[0]:g}, beta {best[1]:g}, WER {results[best]:.2f} %. Table: {out}")
    key = "task.decoders.beam"
    print(
        f"python inference.py -cn=inference_asr run={arguments.run} "
        f"{key}.beam_size={arguments.beam_size} {key}.language_model={arguments.language_model} "
        f"{key}.alpha={best[0]:g} {key}.beta={best[1]:g}"
    )


def main() -> None:
    """Parse the command line and tune."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a CTC recogniser's run, or a .nemo file")
    parser.add_argument("language_model", type=Path, help="ARPA file or binary file of KenLM")
    parser.add_argument("--set", default="val", help="dataset of the run's config (default: val)")
    parser.add_argument("--alpha", type=float, nargs="+", default=ALPHAS, help="first grid")
    parser.add_argument("--beta", type=float, nargs="+", default=BETAS, help="first grid")
    parser.add_argument("--beam-size", type=int, default=100, help="hypotheses (default: 100)")
    parser.add_argument("--token-threshold", type=float, help="log-probability (default: none)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", help="of the recogniser (default: a GPU if there is one)")
    parser.add_argument("--out", type=Path, help="table (default: LM.tuning.tsv)")
    parser.add_argument(
        "--trust", nargs="*", default=[], metavar="PACKAGE", help="that the run's config may name"
    )
    arguments = parser.parse_args()
    run_command(lambda: tune(arguments))


if __name__ == "__main__":
    main()
