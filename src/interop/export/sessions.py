"""Exported files as functions of tensors, and as modules in place of a model or front end."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from src.interop.export.packages import required
from src.utils.files import check_regular


class OnnxFile:
    """A file of ONNX, run on the CPU.

    Args:
        path: of the file.
        threads: of the CPU; None: all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: onnxruntime is not installed, or can't load it.
    """

    def __init__(self, path: Path, threads: int | None = None):
        check_regular(path)
        runtime = required("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        options.intra_op_num_threads = threads or 0
        try:
            self.session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # those of onnxruntime have no common base class
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"{path}: onnxruntime can't load it ({reason}).") from None
        self.inputs = [one.name for one in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """The outputs for inputs in their order."""
        arrays = [value.detach().cpu().numpy() for value in inputs]
        outputs = self.session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        return [torch.from_numpy(output) for output in outputs]


def load_program(path: Path) -> Callable[..., Sequence[Tensor]]:
    """An exported file as a function of tensors.

    Args:
        path: .onnx, .ts or .pt2.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be loaded.
    """
    check_regular(path)
    if path.suffix == ".onnx":
        return OnnxFile(path)
    if path.suffix == ".ts":
        return torch.jit.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights are read from memory that can't be written
        return torch.export.load(path).module()


class OnnxModule(nn.Module):
    """A file of ONNX in place of a model or a front end of batches.

    Args:
        file: the file.
        reads: batch keys of its inputs.
        writes: batch keys of its outputs.
        copies: further batch keys, and those whose values they have.
    """

    def __init__(
        self,
        file: OnnxFile,
        reads: Sequence[str],
        writes: Sequence[str],
        copies: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.file, self.reads, self.writes, self.copies = file, reads, writes, copies or {}

    def forward(self, **batch) -> dict[str, Any]:
        """The outputs under their batch keys."""
        outputs = self.file(*(batch[key] for key in self.reads))
        copied = {key: batch[other] for key, other in self.copies.items()}
        return dict(zip(self.writes, outputs, strict=True)) | copied


class OnnxStreamingModule(nn.Module):
    """The streaming form of a recogniser in place of its model: chunk by chunk, one utterance.

    Args:
        file: streaming.onnx or its version of eight bits.
        size: frames of the spectrogram in a chunk.
        caches: those of a new stream.
        flushes: chunks of length 0 at the end, which give the outputs that are left.
        silence: log energy of the frames that follow an utterance until a chunk is complete, and
            for one more chunk, as clients append silence; None: there are none.
    """

    def __init__(
        self,
        file: Callable[..., Sequence[Tensor]],
        size: int,
        caches: Sequence[Tensor],
        flushes: int = 0,
        silence: float | None = None,
    ):
        super().__init__()
        self.file, self.size, self.caches, self.silence = file, size, list(caches), silence
        self.flushes = flushes

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor, **_) -> dict[str, Any]:
        """`log_probs` [1, T', V] of log energies [1, F, T] with their lengths [1].

        Without silence, the outputs of a Conformer that have no input frame of their own are left
        out: its strided convolutions have up to two of them at the end.
        """
        caches, parts = self.caches, []
        energies = spectrogram[..., : int(spectrogram_length[0])]
        if self.silence is not None:
            more = self.size - energies.shape[2] % self.size + self.size
            energies = pad(energies, (0, more), value=self.silence)
        for chunk in (*energies.split(self.size, 2), *[energies[..., :0]] * self.flushes):
            length = torch.tensor([chunk.shape[2]])
            chunk = pad(chunk, (0, self.size - chunk.shape[2]))
            log_probs, count, *caches = self.file(chunk, length, *caches)
            parts.append(log_probs[:, : int(count[0])])
        joined = torch.cat(parts, 1)
        return {"log_probs": joined, "log_probs_length": torch.tensor([joined.shape[1]])}
