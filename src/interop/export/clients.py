"""Programs that use an exported recogniser, by their own Python packages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from src.interop.export.packages import REQUIREMENTS, installed, required

STREAMING_DELAY = "streaming_delay"  # key of config.json: seconds by which outputs are held back
HALF_HOP = 0.005  # seconds
TAIL = 2.0  # seconds
CLIENT_FEATURES = "log-mel spectrograms every 10 ms at 16 kHz, each bin normalised"

Transcribe = Callable[[Tensor], str]  # of samples [T] at the sample rate of the model


def sherpa_onnx(folder: Path, model: str, bins: int, sample_rate: int, threads: int) -> Transcribe:
    """sherpa-onnx on the file of samples of an exported recogniser, greedy.

    Its own log-mel spectrograms, as for NeMo's models, have frames that lie half a hop later.

    Args:
        folder: of the export.
        model: name of the file of ONNX.
        bins: not used.
        sample_rate: in Hz.
        threads: of the CPU.

    Raises:
        ValueError: it is not installed.
    """
    recogniser = required("sherpa_onnx").OfflineRecognizer.from_omnilingual_asr_ctc(
        model=str(folder / model), tokens=str(folder / "tokens.txt"), num_threads=threads
    )

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
    recogniser = required("sherpa_onnx").OnlineRecognizer.from_nemo_ctc(
        model=str(folder / model),
        tokens=str(folder / "tokens.txt"),
        num_threads=threads,
        feature_dim=bins,
        sample_rate=sample_rate,
    )
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
        graph: name of the graph that it runs.
        bins: sizes of the log-mel spectrograms that it computes itself; empty: it computes none,
            or of any size.
    """

    package: str
    make: Callable[..., Transcribe]
    graph: str
    bins: tuple[int, ...] = ()

    def obstacle(self, config: Mapping[str, Any]) -> str | None:
        """Why it can't run an export, or None if it can.

        Args:
            config: content of config.json.
        """
        size = config["features_size"]
        if not installed(self.package):
            return f"not installed (pip install -r {REQUIREMENTS})"
        if self.graph == "streaming" and config[STREAMING_DELAY]:
            return "it never ends a stream, and the model looks ahead to its end"
        if self.bins and not config["takes_client_features"]:
            return f"it computes {CLIENT_FEATURES}, which the front end of this model doesn't"
        if self.bins and size not in self.bins:
            return f"computes {' or '.join(map(str, self.bins))} bins, the model has {size}"
        return None


CLIENTS = {
    "sherpa-onnx": Client("sherpa_onnx", sherpa_onnx, "samples"),
    "sherpa-onnx, stream": Client("sherpa_onnx", sherpa_onnx_streaming, "streaming"),
    "onnx-asr": Client("onnx_asr", onnx_asr, "model", bins=(80, 128)),
}
