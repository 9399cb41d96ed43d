"""How fast training is: steps, audio, operations, waiting for data, memory."""

import math
import time
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from src.trainer.compiling import is_compiled
from src.utils.flops import FlopCounter, matrix_rate
from src.utils.memory import peak_memory
from src.utils.phases import phase

LENGTHS_PER_OCTAVE = 8  # lengths that are told apart when operations are counted
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Throughput:
    """Measures training between two rows of metrics, without synchronising a GPU.

    The operations of a forward pass are counted in one batch for each class of lengths, which
    differ by less than 10 %, and scaled by the size of the batch for the others. A backward pass
    counts twice as much for the parameters that are trained, as is usual for the fraction of a
    machine's rate that a model reaches (MFU, arXiv 2204.02311, appendix B); what activation
    checkpointing computes again doesn't count.

    Args:
        system: `src.system.System`, whose training steps are counted.
        accelerator: device, precision and processes.
    """

    def __init__(self, system: Any, accelerator: Accelerator):
        self.sample_rate, self.accelerator, model = system.sample_rate, accelerator, system.model
        self.flops_by_length: dict[int, float] = {}  # of a forward pass, per sample of the batch
        self.counter: FlopCounter | None = None
        sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
        total, trained = sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained)
        self.passes = 1 + 2 * trained / max(total, 1)
        # Counting needs the uncompiled model, which rounds differently: on a CPU, the weights of a
        # run must not depend on when that was.
        self.counts = not is_compiled(model) or accelerator.device.type == "cuda"
        if self.counts:
            system.register_forward_pre_hook(self.before_forward)
            system.register_forward_hook(self.after_forward, always_call=True)
        self.reset()

    def reset(self) -> None:
        """Begin a new row."""
        self.steps, self.seconds, self.waiting = 0, 0.0, 0.0
        self.audio_seconds, self.flops = 0.0, 0.0

    def take(self, loader: Any, count: int) -> list[dict[str, Any]]:
        """The next batches of a loader."""
        start = time.perf_counter()
        with phase("data"):
            batches = [next(loader) for _ in range(count)]
        self.waiting += time.perf_counter() - start
        samples = sum(int(batch["audio_length"].sum()) for batch in batches if "audio" in batch)
        self.audio_seconds += samples / self.sample_rate
        return batches

    def __enter__(self) -> None:
        """Begin an optimisation step."""
        self.started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """End an optimisation step."""
        self.seconds += time.perf_counter() - self.started
        self.steps += 1

    def before_forward(self, system: Any, given: tuple[Any, ...]) -> None:
        """Count the operations of a training batch, or know them from another one."""
        if not isinstance(given[0], dict) or not given[0]["id"]:
            return
        samples, length = size_of(given[0])
        if length in self.flops_by_length:
            self.flops += self.flops_by_length[length] * samples
            return
        torch.compiler.set_stance("force_eager")
        self.counter = FlopCounter()
        self.counter.__enter__()

    def after_forward(self, system: Any, given: tuple[Any, ...], parts: Any) -> None:
        """End counting, after an error too."""
        if self.counter is None:
            return
        counter, self.counter = self.counter, None
        counter.__exit__(None, None, None)
        torch.compiler.set_stance("default")
        samples, length = size_of(given[0])
        self.flops_by_length[length] = counter.flops / samples
        self.flops += counter.flops

    def row(self) -> dict[str, float]:
        """Values since the last row; all processes must call this.

        Returns:
            `steps_per_second`; `audio_hours_per_second`, padding not included; `data_wait`, the
            fraction of the time that this process waited for data; `mfu`, the fraction of the
            machines' rate of matrix products, unless it is unknown; and `memory_mib`, the most
            that a process used.
        """
        device = self.accelerator.device
        own = (self.audio_seconds, self.flops * self.passes, peak_memory(device) / 2**20)
        audio, flops, memory = zip(*gather_object([own]), strict=True)
        seconds = self.seconds + self.waiting
        values = {
            "steps_per_second": self.steps / seconds,
            "audio_hours_per_second": sum(audio) / 3600 / seconds,
            "data_wait": self.waiting / seconds,
            "memory_mib": max(memory),
        }
        if self.counts:
            dtype = DTYPES.get(self.accelerator.mixed_precision, torch.float32)
            rate = matrix_rate(device, dtype) * self.accelerator.num_processes
            values["mfu"] = sum(flops) / seconds / rate
        self.reset()
        return values


def size_of(batch: dict[str, Any]) -> tuple[int, int]:
    """Values of the largest tensor of a batch, and the class of its length."""
    shapes = [value.shape for value in batch.values() if isinstance(value, Tensor) and value.dim()]
    largest = max(shapes, key=math.prod, default=(1,))
    return math.prod(largest), int(LENGTHS_PER_OCTAVE * math.log2(max(1, largest[-1])))
