"""WER and latency of each look-ahead of a streaming recogniser: scripts/measure_streaming.py RUN.

Every utterance of a manifest is sent in packets to a stream; the transcript must be that of the
recording. Prints a table; exits with 1 where a transcript differs.
"""

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from omegaconf import OmegaConf
from tqdm.auto import tqdm

from src.metrics.wer import word_error_rate
from src.run import load_run
from src.stream import accept_all, finish_all
from src.system import System
from src.utils.audio import read_recordings
from src.utils.entry import run_command
from src.utils.files import read_jsonl

MINUTES = 1.0  # of the shortest stream that is measured
BEAM = {"_target_": "src.text_encoder.decoders.beam_search.BeamSearchDecoder", "beam_size": 100}


def stream_all(
    recogniser: System,
    context: tuple[int, int] | None,
    decoder: str,
    recordings: list[torch.Tensor],
    seconds: float,
    at_once: int,
) -> list[str]:
    """The transcripts of recordings [T] that are streamed in packets, several at a time."""
    size = round(seconds * recogniser.sample_rate)
    texts: list[str] = []
    for first in tqdm(
        range(0, len(recordings), at_once), desc=f"{context}, {decoder}", leave=False
    ):
        audios = recordings[first : first + at_once]
        streams = [recogniser.stream(context, decoder) for _ in audios]
        for start in range(0, max(map(len, audios)), size):
            going = [i for i, audio in enumerate(audios) if start < len(audio)]
            packets = [audios[i][start : start + size] for i in going]
            accept_all([streams[i] for i in going], packets, recogniser.sample_rate)
            finish_all([streams[i] for i in going if start + size >= len(audios[i])])
        texts += [str(stream.partial) for stream in streams]
    return texts


def offline(
    recogniser: System, context: tuple[int, int] | None, decoder: str, recordings: list
) -> list[str]:
    """The transcripts of whole recordings [T] with one context and decoder."""
    task: Any = recogniser.task
    encoder: Any = getattr(recogniser.model, "encoder", None)
    decoders, contexts = task.decoders, getattr(encoder, "att_context_sizes", None)
    task.decoders = {decoder: decoders[decoder]}
    if context is not None:
        encoder.att_context_sizes = [context]
    rate = recogniser.sample_rate
    texts = [recogniser(audio, rate) for audio in tqdm(recordings, leave=False)]
    task.decoders = decoders
    if context is not None:
        encoder.att_context_sizes = contexts
    return texts


def measure_long(recogniser: System, recordings: list[torch.Tensor], arguments: Any) -> None:
    """Print time and memory of each sixth of one long stream, greedy."""
    stream = recogniser.stream()
    size = round(arguments.packet * recogniser.sample_rate)
    audio = torch.cat(recordings)
    times = []
    for number in tqdm(range(round(60 * arguments.minutes / arguments.packet)), leave=False):
        start = number * size % (len(audio) - size)
        begin = time.monotonic()
        stream.accept(audio[start : start + size], recogniser.sample_rate)
        times.append(time.monotonic() - begin)
        if len(times) % (round(60 * arguments.minutes / arguments.packet) // 6) == 0:
            state = sum(value.numel() * value.element_size() for value in stream.state().values())
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{stream.seconds / 60:4.0f} minutes: {1000 * np.median(times):.2f} ms a packet of "
                f"{arguments.packet:g} s (median), state {state / 1024:.0f} KiB, peak memory "
                f"{memory:.0f} MiB"
            )
            times.clear()


def measure(arguments: argparse.Namespace) -> int:
    """Measure and print everything; the number of transcripts that differ."""
    changes = OmegaConf.create({"task": {"decoders": {"beam": BEAM}}} if arguments.beam else {})
    recogniser = load_run(arguments.run, device="cpu", changes=changes)
    recordings = read_recordings(arguments.manifest, recogniser.sample_rate)[: arguments.limit]
    rows = read_jsonl(arguments.manifest)[: arguments.limit]
    encoder = recogniser.text_encoder
    references = [encoder.normalize(row["text"]) for row in rows]
    if arguments.minutes:
        measure_long(recogniser, recordings, arguments)
        return 0
    contexts = getattr(getattr(recogniser.model, "encoder", None), "att_context_sizes", [None])
    seconds = sum(map(len, recordings)) / recogniser.sample_rate
    print("| look-ahead | latency | decoder | WER | WER of recordings | real-time factor |")
    print("|---|---|---|---|---|---|")
    different, task = 0, recogniser.task
    for context in contexts:
        for decoder in getattr(task, "decoders", {}):
            begin = time.monotonic()
            texts = stream_all(
                recogniser, context, decoder, recordings, arguments.packet, arguments.at_once
            )
            factor = (time.monotonic() - begin) / seconds
            whole = offline(recogniser, context, decoder, recordings)
            different += sum(a != b for a, b in zip(texts, whole, strict=True))
            frames = "" if context is None else f"{context[1]} frames"
            latency = recogniser.stream(context, decoder).recogniser.latency
            streamed, recorded = (word_error_rate(references, own) for own in (texts, whole))
            print(
                f"| {frames} | {latency:.2f} s | {decoder} | {streamed:.2f} % | {recorded:.2f} % "
                f"| {factor:.3f} |"
            )
    print(f"\n{len(rows)} recordings, {seconds:.0f} s; {different} transcripts differ.")
    for other in arguments.beside:
        texts = load_run(other, device="cpu")(list(recordings), recogniser.sample_rate)
        print(f"{other}, of recordings: WER {word_error_rate(references, texts):.2f} %")
    return different


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a run of a streaming recogniser, or a .nemo file")
    parser.add_argument("--manifest", type=Path, default=Path("data/demo_speech/test.jsonl"))
    parser.add_argument("--limit", type=int, help="number of recordings (default: all)")
    parser.add_argument("--packet", type=float, default=0.5, help="seconds (default: 0.5)")
    parser.add_argument("--at-once", type=int, default=16, help="streams in a batch (default: 16)")
    parser.add_argument("--beam", action="store_true", help="beam search, too")
    parser.add_argument(
        "--minutes", type=float, default=0, help="instead, time and memory of one stream so long"
    )
    parser.add_argument(
        "--beside", nargs="*", default=[], help="other runs, which transcribe the recordings"
    )
    arguments = parser.parse_args()
    for name in ("limit", "packet", "at_once"):
        if getattr(arguments, name) is not None and getattr(arguments, name) <= 0:
            parser.error(f"--{name.replace('_', '-')}: {getattr(arguments, name)}; more than 0.")
    if arguments.minutes and arguments.minutes < MINUTES:
        parser.error(f"--minutes: {arguments.minutes:g}; from {MINUTES:g} on.")
    if run_command(lambda: measure(arguments)):
        sys.exit(1)


if __name__ == "__main__":
    main()
