"""Programs that use an exported recogniser, by their own Python packages."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from src.interop.export.packages import installed, required

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
    recogniser = required("sherpa_onnx").OfflineRecognizer.from_nemo_ctc(
        model=str(folder / model),
        tokens=str(folder / "tokens.txt"),
        num_threads=threads,
        feature_dim=bins,
        sample_rate=sample_rate,
    )

    def transcribe(audio: Tensor) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(sample_rate, audio.numpy().astype(np.float32))
        recogniser.decode_stream(stream)
        return stream.result.text

    return transcribe


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
    """

    package: str
    make: Callable[..., Transcribe]
    bins: tuple[int, ...] | None = None

    def obstacle(self, bins: int) -> str | None:
        """Why it can't be run on spectrograms of a size, or None if it can."""
        if not installed(self.package):
            return "not installed"
        if self.bins is not None and bins not in self.bins:
            return f"computes {' or '.join(map(str, self.bins))} bins, the model has {bins}"
        return None


CLIENTS = {
    "sherpa-onnx": Client("sherpa_onnx", sherpa_onnx),
    "onnx-asr": Client("onnx_asr", onnx_asr, bins=(80, 128)),
}
