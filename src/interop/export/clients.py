"""Programs that use an exported recogniser, by their own Python packages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.interop.export.packages import installed, required

HALF_HOP = 0.005  # seconds
TAIL = 2.0  # seconds

Transcribe = Callable[[Tensor], str]  # of samples [T] at the sample rate of the model


def sherpa_onnx(folder: Path, model: str, bins: int, sample_rate: int, threads: int) -> Transcribe:
    """sherpa-onnx on an exported folder, greedy.

    Args:
        folder: of the export.
        model: name of the file of ONNX.
        bins: of the spectrogram.
        sample_rate: in Hz.
        threads: of the CPU.

    Raises:
        ValueError: it is not installed.
    """
    recogniser = load_sherpa("OfflineRecognizer", folder, model, bins, sample_rate, threads)

    def transcribe(audio: Tensor) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(sample_rate, audio.numpy().astype(np.float32))
        recogniser.decode_stream(stream)
        return stream.result.text

    return transcribe


def sherpa_onnx_streaming(
    folder: Path, model: str, bins: int, sample_rate: int, threads: int
) -> Transcribe:
    """sherpa-onnx on the streaming form of a recogniser, greedy, in packets of 0.1 s.

    Its frames lie half a hop later than centred ones, which as much silence before makes up for;
    silence after makes it decode the last chunk, which must be complete.

    Args:
        folder: of the export.
        model: name of the file of ONNX.
        bins: of the spectrogram.
        sample_rate: in Hz.
        threads: of the CPU.

    Raises:
        ValueError: it is not installed.
    """
    recogniser = load_sherpa("OnlineRecognizer", folder, model, bins, sample_rate, threads)
    before = np.zeros(round(HALF_HOP * sample_rate), dtype=np.float32)
    after = np.zeros(round(TAIL * sample_rate), dtype=np.float32)

    def transcribe(audio: Tensor) -> str:
        stream = recogniser.create_stream()
        for packet in (before, *audio.float().split(sample_rate // 10), after):
            stream.accept_waveform(sample_rate, np.asarray(packet))
            while recogniser.is_ready(stream):
                recogniser.decode_stream(stream)
        stream.input_finished()
        while recogniser.is_ready(stream):
            recogniser.decode_stream(stream)
        return recogniser.get_result(stream)

    return transcribe


def load_sherpa(
    kind: str, folder: Path, model: str, bins: int, sample_rate: int, threads: int
) -> Any:
    """sherpa-onnx's `OfflineRecognizer` or `OnlineRecognizer` of an exported folder.

    Raises:
        ValueError: it is not installed.
    """
    return getattr(required("sherpa_onnx"), kind).from_nemo_ctc(
        model=str(folder / model),
        tokens=str(folder / "tokens.txt"),
        num_threads=threads,
        feature_dim=bins,
        sample_rate=sample_rate,
    )


def onnx_asr(folder: Path, model: str, bins: int, sample_rate: int, threads: int) -> Transcribe:
    """onnx-asr on an exported folder.

    Args:
        folder: of the export.
        model: name of the file of ONNX: model.onnx, or model.<quantization>.onnx.
        bins: of the spectrogram, which it reads from config.json itself.
        sample_rate: in Hz.
        threads: of the CPU.

    Raises:
        ValueError: it is not installed.
    """
    options = required("onnxruntime").SessionOptions()
    options.intra_op_num_threads = threads
    recogniser = required("onnx_asr").load_model(
        "nemo-conformer-ctc",
        folder,
        quantization=model.removeprefix("model").removesuffix("onnx").strip(".") or None,
        sess_options=options,
        providers=["CPUExecutionProvider"],
    )

    def transcribe(audio: Tensor) -> str:
        return recogniser.recognize(audio.numpy().astype(np.float32), sample_rate=sample_rate)

    return transcribe


@dataclass(frozen=True)
class Client:
    """A program that uses an exported recogniser.

    Attributes:
        package: that has to be installed.
        make: a function of folder, file, bins, sample rate and threads that transcribes.
        bins: sizes of spectrograms that it can compute; None: any.
        streaming: whether it runs the streaming form.
    """

    package: str
    make: Callable[..., Transcribe]
    bins: tuple[int, ...] | None = None
    streaming: bool = False

    def obstacle(self, bins: int) -> str | None:
        """Why it can't be run on spectrograms of a size, or None if it can."""
        if not installed(self.package):
            return "not installed"
        if self.bins is not None and bins not in self.bins:
            return f"computes {' or '.join(map(str, self.bins))} bins, the model has {bins}"
        return None


CLIENTS = {
    "sherpa-onnx": Client("sherpa_onnx", sherpa_onnx),
    "sherpa-onnx, stream": Client("sherpa_onnx", sherpa_onnx_streaming, streaming=True),
    "onnx-asr": Client("onnx_asr", onnx_asr, bins=(80, 128)),
}
