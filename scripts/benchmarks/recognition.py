"""Recognisers: training of DeepSpeech2, and forward passes beside NVIDIA NeMo's."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.benchmarks.measuring import OURS, Case, Options, Step, installed, missing
from scripts.compare_recognisers import TIMED, Ours, Theirs, make_audio, write
from scripts.side_by_side import memory_added
from src.loss.ctc import CTCLoss
from src.models.deepspeech2 import DeepSpeech2

VOCABULARY = 29
BINS = 161
NOT_ON_PYPI = "deepspeech.pytorch is not on PyPI; its architecture was written anew"
SMALL = {"FastConformer, tiny": ({"num_layers": 2, "d_model": 64, "num_heads": 4}, True, 80)}


class PackedDeepSpeech2(nn.Module):
    """DeepSpeech2 as deepspeech.pytorch builds it: torch's layers on packed sequences.

    Args:
        layers: recurrent layers.
        hidden: size of their states.
    """

    def __init__(self, layers: int, hidden: int):
        super().__init__()
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(1, 32, (41, 11), (2, 2), (20, 5)),
                nn.Conv2d(32, 32, (21, 11), (2, 1), (10, 5)),
            ]
        )
        self.conv_norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in self.convolutions)
        sizes = [32 * 41] + [hidden] * layers
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in range(layers))
        self.rnns = nn.ModuleList(
            nn.LSTM(size, hidden, bidirectional=True, batch_first=True) for size in sizes[:-1]
        )
        self.head = nn.Linear(hidden, VOCABULARY, bias=False)

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor) -> dict[str, Tensor]:
        """Log-probabilities [B, T', V] of spectrograms [B, F, T], the longest first."""
        x, length = spectrogram[:, None], (spectrogram_length - 1) // 2 + 1
        for conv, norm in zip(self.convolutions, self.conv_norms, strict=True):
            x = conv(x)
            beyond = torch.arange(x.shape[3], device=x.device) >= length[:, None, None, None]
            for layer in (norm, partial(nn.functional.hardtanh, min_val=0.0, max_val=20.0)):
                x = layer(x.masked_fill(beyond, 0.0))
            x = x.masked_fill(beyond, 0.0)
        x = x.flatten(1, 2).transpose(1, 2)
        for i, rnn in enumerate(self.rnns):
            x = x if i == 0 else self.normalised(x, self.norms[i - 1])
            packed = nn.utils.rnn.pack_padded_sequence(x, length.cpu(), batch_first=True)
            states, _ = nn.utils.rnn.pad_packed_sequence(rnn(packed)[0], batch_first=True)
            x = torch.stack(states.chunk(2, dim=2)).sum(0)
        logits = self.head(self.normalised(x, self.norms[-1]))
        return {"log_probs": logits.float().log_softmax(2), "log_probs_length": length}

    @staticmethod
    def normalised(x: Tensor, norm: nn.Module) -> Tensor:
        """Batch normalisation of [B, T, D], padding included."""
        return norm(x.flatten(0, 1)).view_as(x)


def ctc_step(model: nn.Module, batch: dict[str, Tensor], options: Options) -> Step:
    """A function that makes one optimisation step on the CTC loss."""
    loss, optimizer = CTCLoss(), torch.optim.AdamW(model.parameters(), lr=1e-5)
    given = {key: batch[key] for key in ("spectrogram", "spectrogram_length")}

    def step() -> None:
        optimizer.zero_grad()
        with options.autocast():
            outputs = model(**given)
        loss(**(batch | outputs))["loss"].backward()
        optimizer.step()

    return step


def spectrogram_memory(kind: str, answer: Any, sizes: tuple[int, ...], threads: int) -> None:
    """Put the memory that a training step of DeepSpeech2 adds to a new process in `answer`."""
    torch.set_num_threads(threads)
    items, seconds, layers, hidden = sizes
    options = Options(threads=threads)
    model = deepspeech2(kind, layers, hidden)
    ctc_step(model, spectrograms(1, 1), options)()  # libraries and the optimizer's state
    answer.put(memory_added(ctc_step(model, spectrograms(items, seconds), options)))


def deepspeech2(kind: str, layers: int, hidden: int) -> nn.Module:
    """DeepSpeech2 of either kind with random weights."""
    torch.manual_seed(0)
    if kind == OURS:
        return DeepSpeech2(BINS, VOCABULARY, num_layers=layers, hidden_size=hidden)
    return PackedDeepSpeech2(layers, hidden)


def spectrograms(items: int, seconds: int) -> dict[str, Tensor]:
    """Random spectrograms [B, F, T] with 100 frames a second, and tokens."""
    draw = torch.Generator().manual_seed(1)
    length = torch.tensor([100 * seconds - 20 * i for i in range(items)])
    frames = torch.arange(100 * seconds)
    noise = torch.randn(items, BINS, 100 * seconds, generator=draw)
    tokens = torch.randint(1, VOCABULARY, (items, 10 * seconds), generator=draw)
    return {
        "spectrogram": noise * (frames < length[:, None, None]),
        "spectrogram_length": length,
        "tokens": tokens,
        "tokens_length": torch.full((items,), 10 * seconds),
    }


def deepspeech2_cases(options: Options) -> Iterator[Case]:
    """Training steps of DeepSpeech2 with 87 M parameters."""
    items, seconds, layers, hidden = (2, 2, 2, 32) if options.quick else (4, 10, 5, 1024)
    batch = {k: v.to(options.device) for k, v in spectrograms(items, seconds).items()}
    kinds = [OURS, "deepspeech.pytorch"]
    steps = {
        kind: ctc_step(deepspeech2(kind, layers, hidden).to(options.device), batch, options)
        for kind in kinds
    }
    memory = (spectrogram_memory, kinds, ((items, seconds, layers, hidden), options.threads))
    name = f"DeepSpeech2, training step, {items} x {seconds} s"
    yield Case(name, steps, NOT_ON_PYPI, None if options.quick else memory)


def forward_memory(kind: str, answer: Any, path: Path, size: tuple, threads: int) -> None:
    """Put the memory that a forward pass adds to a new process in `answer`."""
    torch.set_num_threads(threads)
    system: Any = Ours(path) if kind == OURS else Theirs(path)
    system(*make_audio(1, 1.0))  # loads libraries, which are not to be measured
    audio, length = make_audio(*size)
    answer.put(memory_added(lambda: system(audio, length)))


def recogniser_cases(options: Options) -> Iterator[Case]:
    """Forward passes of recognisers, from audio to log-probabilities, beside NeMo's."""
    kinds = [OURS, *(["NeMo"] if installed("nemo") else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nemo"
        for name, values in (SMALL if options.quick else TIMED).items():
            write(path, *values)
            classes: dict[str, Any] = {OURS: Ours, "NeMo": Theirs}
            systems = {kind: classes[kind](path) for kind in kinds}
            for system in systems.values():
                system.model.to(options.device)
            systems[OURS].features.to(options.device)
            for items in (1,) if options.quick else (1, 8):
                size = (items, 1.0 if options.quick else 10.0)
                given = [one.to(options.device) for one in make_audio(*size)]
                steps = {
                    kind: autocast_step(partial(system, *given), options)
                    for kind, system in systems.items()
                }
                memory = (forward_memory, kinds, (path, size, options.threads))
                note = "" if len(kinds) > 1 else missing("NeMo")
                title = f"{name}, {items} x {size[1]:g} s"
                yield Case(title, steps, note, None if options.quick else memory)


def autocast_step(call: Step, options: Options) -> Step:
    """A function that is called in the precision of the options."""

    def step() -> None:
        with options.autocast():
            call()

    return step
