"""Show a transcript as it grows: python scripts/listen.py RUN [FILE].

From a file at the speed of speech, or from the microphone (which needs `pip install sounddevice`)
until Ctrl-C. Words that may still change are dim.
"""

import argparse
import queue
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from omegaconf import OmegaConf

from src.run import load_run
from src.stream import Partial, Stream
from src.utils.audio_files import open_audio
from src.utils.entry import run_command

BEAM_SEARCH = "src.text_encoder.decoders.beam_search.BeamSearchDecoder"
DIM, NORMAL, ERASE = "\x1b[2m", "\x1b[0m", "\r\x1b[K"

Packet = tuple[np.ndarray, float]  # samples [T] or [channels, T], and when the last one was spoken


class Screen:
    """A growing transcript in a terminal, whose last line is written again and again.

    Where the output is no terminal, only final words are written.

    Args:
        width: columns.
        live: whether the output is a terminal.
    """

    def __init__(self, width: int, live: bool):
        self.width, self.live = width, live
        self.shown = 0  # final characters so far
        self.line = ""  # final text of the last line

    def show(self, partial: Partial) -> None:
        """Show the final words, and what follows them dim."""
        new, self.shown = partial.final[self.shown :].split(), len(partial.final)
        if not self.live and not new:
            return
        self.write(ERASE if self.live else "")
        for word in new:
            if self.line and len(self.line) + 1 + len(word) > self.width:
                self.write((self.line if self.live else "") + "\n")
                self.line = ""
            space = " " if self.line else ""
            self.line += space + word
            self.write("" if self.live else space + word)
        if self.live:
            room = max(0, self.width - len(self.line) - 1)
            pending = (partial.space + partial.pending)[:room].rstrip()
            self.write(f"{self.line}{DIM}{pending}{NORMAL}")
        sys.stdout.flush()

    def end(self, text: str) -> None:
        """Show the whole transcript."""
        self.show(Partial(text, ""))
        self.write("\n")

    def write(self, text: str) -> None:
        """Write to the terminal."""
        sys.stdout.write(text)


def play(path: Path, seconds: float, speed: float) -> Iterator[Packet]:
    """Packets of a file [channels, T], at the speed of speech times a factor; 0: at once."""
    begin, spoken = time.monotonic(), 0.0
    with open_audio(path) as file:
        frames = max(1, round(seconds * file.samplerate))
        while len(samples := file.read(frames, "float32", always_2d=True)):
            spoken += len(samples) / file.samplerate
            due = begin + spoken / speed if speed else time.monotonic()
            time.sleep(max(0.0, due - time.monotonic()))
            yield samples.T, due


@contextmanager
def microphone(sample_rate: int, seconds: float) -> Iterator[Iterator[Packet]]:
    """Packets [T] of the default microphone.

    Raises:
        ValueError: there is none, or sounddevice isn't installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ValueError(
            f"The microphone needs sounddevice ({error}): pip install sounddevice, or name a FILE."
        ) from None
    packets: queue.SimpleQueue[Packet] = queue.SimpleQueue()

    def receive(samples: np.ndarray, frames: int, clock: Any, status: Any) -> None:
        packets.put((samples[:, 0].copy(), time.monotonic()))

    try:
        with sounddevice.InputStream(
            sample_rate, round(seconds * sample_rate), channels=1, callback=receive
        ):
            print("Speak; Ctrl-C ends.", file=sys.stderr)
            yield iter(packets.get, None)
    except sounddevice.PortAudioError as error:
        raise ValueError(f"The microphone can't be opened: {error}.") from None


def follow(stream: Stream, packets: Iterator[Packet], sample_rate: int, screen: Screen) -> None:
    """Transcribe packets until they end or Ctrl-C is pressed, and print how fast that was."""
    delays, busy = [], 0.0
    try:
        for samples, due in packets:
            begin = time.monotonic()
            screen.show(stream.accept(samples, sample_rate))
            now = time.monotonic()
            busy += now - begin
            delays.append(now - due)
    except KeyboardInterrupt:
        pass
    begin = time.monotonic()
    screen.end(stream.finish())
    busy += time.monotonic() - begin
    if not delays:
        raise ValueError("no audio.")
    print(
        f"\n{stream.seconds:.1f} s of audio, real-time factor {busy / stream.seconds:.3f}. "
        f"Latency: {stream.recogniser.latency:.3f} s of look-ahead, and computing "
        f"{np.mean(delays):.3f} s a packet (95 % below {np.quantile(delays, 0.95):.3f} s)."
    )


def listen(arguments: argparse.Namespace) -> None:
    """Transcribe a file or the microphone."""
    beam = {"_target_": BEAM_SEARCH, "beam_size": arguments.beam}
    changes = {"task": {"decoders": {"beam": beam}}} if arguments.beam else {}
    recogniser = load_run(arguments.run, arguments.checkpoint, changes=OmegaConf.create(changes))
    context = tuple(arguments.context) if arguments.context else None
    stream = recogniser.stream(context, "beam" if arguments.beam else arguments.decoder)
    # The first computations of a process take longer than all others.
    recogniser.stream(context).accept(np.zeros(2 * recogniser.sample_rate), recogniser.sample_rate)
    screen = Screen(shutil.get_terminal_size().columns, sys.stdout.isatty())
    if arguments.file is None:
        with microphone(recogniser.sample_rate, arguments.packet) as packets:
            follow(stream, packets, recogniser.sample_rate, screen)
    else:
        with open_audio(arguments.file) as file:
            sample_rate = file.samplerate
        speed = 0.0 if arguments.fast else 1.0
        follow(stream, play(arguments.file, arguments.packet, speed), sample_rate, screen)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a run of a streaming recogniser, or a .nemo file")
    parser.add_argument("file", nargs="?", type=Path, help="recording; without it, the microphone")
    parser.add_argument(
        "--context", type=int, nargs=2, metavar=("LEFT", "RIGHT"), help="of attention, in frames"
    )
    parser.add_argument("--decoder", help="name of one of the run's; default: the first")
    parser.add_argument("--beam", type=int, metavar="SIZE", help="beam search instead")
    parser.add_argument("--packet", type=float, default=0.1, help="seconds (default: 0.1)")
    parser.add_argument("--fast", action="store_true", help="don't wait for the file's speech")
    parser.add_argument("--checkpoint", default="best", help="best or last")
    arguments = parser.parse_args()
    if not 0 < arguments.packet <= 60:
        parser.error(f"--packet: {arguments.packet:g}; more than 0 and at most 60 seconds.")
    run_command(lambda: listen(arguments))


if __name__ == "__main__":
    main()
