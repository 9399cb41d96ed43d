"""Tune the language model's weights on the validation set: python scripts/tune_decoder.py RUN LM.

LM is an ARPA file or a binary file of KenLM. The log-probabilities are computed once; then beam
search is run for each alpha and beta of a grid, and of a finer one around the best, in several
processes. Of all weights whose WER isn't above the lowest one by more than one standard error of
their difference, or by a single word, those are chosen that are nearest to the defaults of the beam
search, so that what is noise in the validation set changes nothing (the rule of one standard error
of Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3). The error is that of
a paired bootstrap over speakers, or over utterances where speakers aren't known.

Written is a table of all weights (by default LM.tuning.tsv), printed the command that uses the
chosen ones. The test set is not used.
"""

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from tqdm.auto import tqdm

from src.config import inference_config
from src.datasets.loading.collate import collate
from src.metrics.base import ratio
from src.metrics.bootstrap import paired_bootstrap
from src.metrics.cer import CER
from src.metrics.wer import WER
from src.run import open_source, restore
from src.system import System
from src.text_encoder.base import TextEncoder
from src.text_encoder.decoders.beam_search import (
    ALPHA,
    BETA,
    MOST,
    BeamSearchDecoder,
    check_threshold,
)
from src.text_encoder.decoders.kenlm import read_language_model
from src.trainer.setup import open_dataset
from src.utils.entry import run_command
from src.utils.files import write_beside
from src.utils.options import check_number, check_whole

AT_ONCE = 8  # utterances in a batch of the model
SEARCHED_AT_ONCE = 64  # in one of the beam search
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
BETAS = (-1.0, 0.0, 1.0, 2.0, 3.0)
FINER = (-0.5, 0.0, 0.5)  # around the best value, in steps of the first grid
STEPS = (0.25, 1.0)  # of alpha and beta
KEYS = ("alpha", "beta", "WER", "CER", "standard_error")
DRAWS = 1000  # of the bootstrap
DEFAULTS = (ALPHA, BETA)
ROUNDING = 1 + 1e-9

Point = tuple[float, float]  # alpha, beta
Results = dict[Point, np.ndarray]  # errors and reference lengths, see `Search.counts`


@dataclass(frozen=True)
class ValidationSet:
    """What the weights are tuned on.

    Attributes:
        utterances: log-probabilities [T, V] of each; arrays, as processes get each tensor in a file
            of shared memory of its own, and may open few.
        references: normalised texts.
        speakers: of the utterances; None: unknown.
    """

    utterances: list[np.ndarray]
    references: list[str]
    speakers: list[str] | None = None


class Search:
    """The errors in a validation set by the weights of the language model.

    Args:
        data: the validation set.
        encoder: of the recogniser.
        arguments: of the command line.
    """

    def __init__(self, data: ValidationSet, encoder: TextEncoder, arguments: argparse.Namespace):
        self.data, self.encoder, self.arguments = data, encoder, arguments
        self.model = read_language_model(arguments.language_model)

    def decoder(self, point: Point) -> BeamSearchDecoder:
        """The beam search with these weights.

        Raises:
            ValueError: an option is out of range, or the lexicon is damaged.
        """
        options = self.arguments
        decoder = BeamSearchDecoder(
            options.beam_size, options.token_threshold, self.model, *point, lexicon=options.lexicon
        )
        decoder.set_text_encoder(self.encoder)
        return decoder

    def counts(self, point: Point) -> np.ndarray:
        """Errors and reference lengths of the utterances with these weights, in words and in
        characters: [2, 2, N]."""
        decoder, found = self.decoder(point), []
        for start in range(0, len(self.data.utterances), SEARCHED_AT_ONCE):
            arrays = self.data.utterances[start : start + SEARCHED_AT_ONCE]
            batch = [torch.from_numpy(one) for one in arrays]
            lengths = torch.tensor([len(one) for one in batch])
            padded = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
            found += [self.encoder.decode(tokens) for tokens in decoder(padded, lengths)]
        rows = [
            {"target": reference, "prediction": text}
            for reference, text in zip(self.data.references, found, strict=True)
        ]
        fractions = [[metric.fraction(0.0, row) for row in rows] for metric in (WER(), CER())]
        return np.array(fractions).swapaxes(1, 2)


SEARCH: list[Search] = []  # the one of this process


def start(search: partial[Search]) -> None:
    """Prepare a process of the pool, which ends without a word at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    SEARCH.append(search())


def counts_of(point: Point) -> np.ndarray:
    """Errors and lengths [2, 2, N] with these weights, in a process of the pool."""
    return SEARCH[0].counts(point)


def validation_set(
    arguments: argparse.Namespace, limit: int | None = None
) -> tuple[System, ValidationSet]:
    """The recogniser, and its outputs for the validation set.

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
    utterances, references, speakers = [], [], []
    size = min(len(dataset), limit or len(dataset))
    for first in tqdm(range(0, size, AT_ONCE), desc="log-probabilities", disable=None):
        last = min(first + AT_ONCE, size)
        batch = system.evaluation_step(collate([dataset[i] for i in range(first, last)]))
        if "log_probs" not in batch:
            raise ValueError(f"{arguments.run}: no recogniser with CTC.")
        for log_probs, length in zip(
            batch["log_probs"], batch["log_probs_length"].tolist(), strict=True
        ):
            utterances.append(log_probs[:length].float().cpu().numpy())
        references += batch["text"]
        speakers += batch.get("speaker", [])
    known = len(speakers) == len(references)
    return system, ValidationSet(utterances, references, speakers if known else None)


def finer(best: Point, step: Sequence[float]) -> list[Point]:
    """Points around the best one that the beam search allows."""
    alphas, betas = ([round(x + k * z, 4) for k in FINER] for x, z in zip(best, step, strict=True))
    return [(a, b) for a in alphas if a >= 0 for b in betas if abs(b) <= MOST]


def check_out(path: Path) -> None:
    """Raise unless a file can be written, before hours are spent on what belongs in it.

    Raises:
        ValueError: it is a folder, or its folder can't be written to.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"--out: {path}; a file in a folder that can be written to.")


def tune(arguments: argparse.Namespace) -> None:
    """Search the best weights, print them and write the table.

    Raises:
        ValueError: an option is out of range, or the run or the language model can't be used.
    """
    check_whole("--beam-size", arguments.beam_size)
    check_whole("--processes", arguments.processes)
    check_threshold("--token-threshold", arguments.token_threshold)
    for alpha in arguments.alpha:
        check_number("--alpha", alpha, inclusive=True)
    for beta in arguments.beta:
        check_number("--beta", beta, -MOST, MOST, inclusive=True)
    check_out(table_of(arguments))
    if arguments.set in ("test", "train"):
        raise ValueError(f"--set: '{arguments.set}'; weights are tuned on a validation set.")
    read_language_model(arguments.language_model)  # raises before the model is run
    system, data = validation_set(arguments)
    search = partial(Search, data, system.text_encoder, arguments)
    search().decoder(DEFAULTS)  # raises
    if arguments.processes == 1:
        results = searched(map, search().counts, arguments)
    else:
        spawn = get_context("spawn")  # forks of a process that has run torch may hang
        with spawn.Pool(arguments.processes, start, (search,)) as pool:
            results = searched(pool.imap, counts_of, arguments)
    report(results, data.speakers, arguments)


def searched(
    apply: Callable[..., Iterator[np.ndarray]],
    counts: Callable[[Point], np.ndarray],
    arguments: argparse.Namespace,
) -> Results:
    """The counts at the points of the grid, at the defaults, and around the best of them.

    Args:
        apply: `map`, or that of a pool of processes.
        counts: of a point.
        arguments: of the command line.
    """
    results: Results = {}
    points = [(alpha, beta) for alpha in arguments.alpha for beta in arguments.beta]
    points = list(dict.fromkeys([*points, DEFAULTS]))
    for _ in range(2):
        values = tqdm(apply(counts, points), total=len(points), desc="WER", disable=None)
        results |= dict(zip(points, values, strict=True))
        points = [point for point in finer(lowest_of(results), STEPS) if point not in results]
    return results


def rates_of(counts: np.ndarray) -> list[float]:
    """WER and CER in percent from counts [2, 2, N]."""
    return [100 * ratio(*own) for own in counts.sum(-1).tolist()]


def distance(point: Point) -> float:
    """How far weights are from the defaults, in steps of the first grid."""
    return math.hypot(*((x - y) / z for x, y, z in zip(point, DEFAULTS, STEPS, strict=True)))


def lowest_of(results: Results) -> Point:
    """The point with the lowest WER; of several, with the lowest CER, nearest to the defaults."""
    return min(results, key=lambda point: (*rates_of(results[point]), distance(point)))


def standard_errors(results: Results, speakers: list[str] | None) -> dict[Point, float]:
    """Standard errors in percent of the differences between the WER of points and the lowest one.

    Args:
        results: of the points.
        speakers: of the utterances; None: unknown.
    """
    counts = np.stack([results[lowest_of(results)], *results.values()])[:, 0]  # [R, 2, N]
    if counts.shape[-1] < 2:
        return dict.fromkeys(results, 0.0)
    drawn = paired_bootstrap(counts[:, 0], counts[:, 1], speakers, DRAWS).drawn
    errors = 100 * np.nanstd(drawn[:, 1:] - drawn[:, :1], axis=0)
    return dict(zip(results, errors.tolist(), strict=True))


def chosen_of(results: Results, errors: dict[Point, float]) -> Point:
    """The point nearest to the defaults of those within a standard error, or a single word, of the
    lowest WER."""
    counts = results[lowest_of(results)]
    lowest, word = rates_of(counts)[0], 100 / max(1.0, counts[0, 1].sum())
    near = [
        point
        for point, own in results.items()
        if rates_of(own)[0] <= lowest + max(errors[point], word) * ROUNDING
    ]
    return min(near, key=lambda point: (distance(point), *rates_of(results[point])))


def report(results: Results, speakers: list[str] | None, arguments: argparse.Namespace) -> None:
    """Print the grid and the chosen weights, and write the table of all weights."""
    errors = standard_errors(results, speakers)
    rates = {point: rates_of(counts) for point, counts in results.items()}
    betas = sorted({b for _, b in rates})
    print(
        f"WER of the set {arguments.set} in %\n{'alpha':>7} beta "
        + "".join(f"{b:8g}" for b in betas)
    )
    for alpha in sorted({a for a, _ in rates}):
        own = [rates.get((alpha, beta)) for beta in betas]
        print(f"{alpha:7g}      " + "".join(f"{r[0]:8.2f}" if r else " " * 8 for r in own))
    chosen = chosen_of(results, errors)
    print()
    for name, point in (
        ("Defaults", DEFAULTS),
        ("Lowest", lowest_of(results)),
        ("Chosen, nearest to the defaults within a standard error of the lowest", chosen),
    ):
        print(f"{name}: alpha {point[0]:g}, beta {point[1]:g}, WER {rates[point][0]:.2f} %")
    print(command_of(chosen, arguments))
    out = table_of(arguments)  # written last: what was printed isn't lost with a full disk
    with write_beside(out) as beside:
        rows = ["\t".join(KEYS)]
        rows += [
            f"{a:g}\t{b:g}\t{wer:.4f}\t{cer:.4f}\t{errors[a, b]:.4f}"
            for (a, b), (wer, cer) in sorted(rates.items())
        ]
        beside.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"Table: {out}")


def table_of(arguments: argparse.Namespace) -> Path:
    """The file that the table is written to."""
    return arguments.out or Path(f"{arguments.language_model}.tuning.tsv")


def command_of(point: Point, arguments: argparse.Namespace) -> str:
    """The command that evaluates the run with these weights and the options of the search."""
    options = {
        "beam_size": arguments.beam_size,
        "token_threshold": arguments.token_threshold,
        "language_model": arguments.language_model,
        "alpha": f"{point[0]:g}",
        "beta": f"{point[1]:g}",
        "lexicon": arguments.lexicon,
    }
    given = {key: value for key, value in options.items() if value is not None}
    overrides = " ".join(f"task.decoders.beam.{key}={value}" for key, value in given.items())
    return f"python inference.py -cn=inference_asr run={arguments.run} {overrides}"


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
    parser.add_argument("--lexicon", help="words allowed: model, or a file (default: any)")
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
