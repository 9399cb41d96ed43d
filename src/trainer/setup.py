"""Builds what training and inference need besides the system: device, loaders, writer, ..."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch

# Imported after the process group exists, its default arguments would keep the group, and with it
# gloo's threads, alive until the interpreter shuts down, where they can abort the process.
import torch.distributed.nn.functional  # noqa: F401
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from omegaconf import DictConfig, OmegaConf
from torch import nn

from src.building import build_chain
from src.config import build, check_top_level, require, target_class
from src.datasets.building import build_dataset
from src.datasets.loading.loaders import EvaluationLoader, LoaderOptions
from src.datasets.loading.train import train_loader
from src.logger.base import Writer
from src.logger.safe import SafeWriter
from src.metrics.tracker import MetricTracker
from src.models.ops.checkpointing import checkpoint_activations
from src.report.results import metrics_of
from src.trainer.compiling import check_checkpointing, compile_training
from src.trainer.evaluation import Evaluation
from src.trainer.optimization import Optimization
from src.trainer.settings import Settings
from src.trainer.sharding import STRATEGIES, shard, synchronise_batch_norm
from src.trainer.signals import FailedAfterSignal
from src.trainer.slurm import adopt_processes
from src.trainer.trainer import Trainer
from src.utils.byte_ranges import Remote
from src.utils.entry import is_lost_connection, sentence
from src.utils.nodes import plain
from src.utils.options import check_choice, check_number, check_whole, refuse

logger = logging.getLogger(__name__)

MOST_THREADS = 1024
PREPARATION = timedelta(days=1)  # in which the main process makes or downloads data


def build_accelerator(config: DictConfig) -> Accelerator:
    """The accelerator for device, mixed precision and processes; sets the number of CPU threads.

    Args:
        config: of an experiment: `device`, `precision` and `threads`.

    Raises:
        ValueError: a value is not allowed, or there is no GPU for device=cuda; names the key.
    """
    check_choice("device", config.device, ("auto", "cpu", "cuda"))
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda; there is no GPU here (auto takes one if there is).")
    check_choice("precision", str(config.precision), ("no", "bf16", "fp16"))
    check_whole("threads", config.threads, high=MOST_THREADS, optional=True)
    adopt_processes()
    if config.threads:
        torch.set_num_threads(config.threads)
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    AcceleratorState._reset_state()  # left by an earlier run in this process
    # With several optimizers, a trainer of one's own may leave parameters without gradients.
    several = len([one for one in config.optimizers.values() if one is not None]) > 1
    optimise = several and getattr(target_class(config, "trainer"), "optimise", None)
    unused = several and optimise is not Trainer.optimise
    # Otherwise DDP rearranges its buckets after the first step. On CPUs the order in which more
    # than two processes are summed depends on the place in a bucket, so that a resumed run, whose
    # first step is another one, would get other weights.
    unused = unused or (cpu and int(os.environ.get("WORLD_SIZE", "1")) > 2)
    seconds = OmegaConf.select(config, "trainer.process_timeout", default=1800)
    check_number("trainer.process_timeout", seconds)
    handlers = [
        DistributedDataParallelKwargs(find_unused_parameters=unused),
        InitProcessGroupKwargs(timeout=timedelta(seconds=seconds)),
    ]
    return Accelerator(cpu=cpu, mixed_precision=str(config.precision), kwargs_handlers=handlers)


@contextmanager
def main_process_first(accelerator: Accelerator) -> Iterator[None]:
    """Run a block in the main process first; the others wait for it, a day if need be.

    Data may take longer to download than `trainer.process_timeout`, the limit of accelerate's
    method of this name.
    """
    if accelerator.num_processes == 1:
        yield
        return
    accelerator.wait_for_everyone()  # so that only the block may take so long
    group = torch.distributed.new_group(backend="gloo", timeout=PREPARATION)
    if not accelerator.is_main_process:
        torch.distributed.barrier(group)
    yield
    if accelerator.is_main_process:
        torch.distributed.barrier(group)
    torch.distributed.destroy_process_group(group)


Result = TypeVar("Result")


def call_and_release(function: Callable[[], Result], accelerator: Accelerator) -> Result:
    """Call a function, then free the process group that the accelerator made.

    The group's threads end only with its last reference, so whatever uses it (model, trainer) must
    be local to the function. After an error the other processes may be waiting in a collective
    for ever, so the group is left alone.

    Raises:
        ConnectionError: another process has ended, or doesn't answer.
        SystemExit: the function was left because of a signal, in all processes alike.
    """
    try:
        result, stopped = function(), None
    except FailedAfterSignal:  # others may be waiting
        raise
    except SystemExit as error:
        result, stopped = None, error.code
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        rank, reason = accelerator.process_index, sentence(error)
        raise ConnectionError(f"process {rank}: lost the others ({reason[:120]}).") from error
    accelerator.free_memory()
    gc.collect()
    accelerator.end_training()
    gc.collect()
    if stopped is not None:
        raise SystemExit(stopped)
    return result  # type: ignore[return-value]


def check_values(config: DictConfig) -> None:
    """Check the values of an experiment that no constructor checks.

    Raises:
        ValueError: a value is not allowed; names the key.
    """
    check_top_level(config)
    require(config, "trainer", "datasets", "dataloader", "metrics", "loss")
    Settings.check(OmegaConf.to_container(config.trainer, resolve=True))  # type: ignore[arg-type]
    check_whole("seed", config.seed, low=0)
    check_whole("sample_rate", config.sample_rate)
    check_choice("compile", config.compile, (True, False))
    check_choice("strategy", config.get("strategy", "ddp"), STRATEGIES)
    for key in ("activation_checkpointing", "sync_batch_norm"):
        check_choice(key, config.get(key, False), (True, False))


def build_train_loader(config: DictConfig, system: Any, accelerator: Accelerator) -> Any:
    """Loader of the dataset `train`, for the batches of this process.

    Args:
        config: of an experiment.
        system: gives the dataset what it needs.
        accelerator: of this process.
    """
    dataset = open_dataset(config, "train", system, train=True)
    if not getattr(dataset, "has_targets", True):
        raise ValueError("config, datasets.train: has no targets to learn from.")
    return train_loader(
        dataset,
        LoaderOptions.from_config(config.dataloader),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        accumulate=config.trainer.accumulate,
        seed=config.seed,
    )


def open_dataset(config: DictConfig, name: str, system: Any, train: bool) -> Any:
    """A dataset of the config.

    Args:
        config: of an experiment.
        name: in `config.datasets`.
        system: gives the dataset what it needs.
        train: with augmentation, and without utterances that the loss can't be computed for.
    """
    return build_dataset(
        config,
        name,
        seed=config.seed,
        instance_transforms=build_chain(config, "instance", "train" if train else "inference"),
        remote=Remote.from_config(plain(config.get("remote")) or {}),
        **system.dataset_arguments(train),
    )


def build_evaluations(
    config: DictConfig, system: Any, accelerator: Accelerator, names: list[str] | None = None
) -> dict[str, Evaluation]:
    """Evaluations by name.

    Args:
        config: of an experiment.
        system: gives the dataset what it needs, and its loss to evaluations without their own.
        accelerator: of this process.
        names: of evaluations or datasets; None: those in `trainer.validate_on` and `test_on`, all
            of which must have targets.

    Raises:
        ValueError: there is no such evaluation, or one of training has no targets.
    """
    if names is not None:
        return {name: build_evaluation(config, name, system, accelerator) for name in names}
    wanted: dict[str, None] = {}
    for key in ("validate_on", "test_on"):
        for name in config.trainer.get(key) or ():
            if name not in config.evaluations:
                refuse(f"config, trainer.{key}", name, f"names of {', '.join(config.evaluations)}")
            wanted[name] = None
    evaluations = build_evaluations(config, system, accelerator, list(wanted))
    for name, evaluation in evaluations.items():
        if not evaluation.labelled:
            raise ValueError(f"evaluations.{name}: its dataset has no targets to score against.")
    return evaluations


def build_evaluation(
    config: DictConfig, name: str, system: Any, accelerator: Accelerator
) -> Evaluation:
    """The evaluation of a name; without targets it has no loss, and no metrics that need them.

    Args:
        config: of an experiment.
        name: in `config.evaluations`, or else of a dataset.
        system: gives the dataset what it needs, and its loss to evaluations without their own.
        accelerator: of this process.
    """
    own = config.evaluations.get(name) or OmegaConf.create({})
    dataset = open_dataset(config, own.get("dataset", name), system, train=False)
    loader = EvaluationLoader(
        dataset,
        LoaderOptions.from_config(config.dataloader),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        seed=config.seed,
    )
    labelled = getattr(dataset, "has_targets", True)
    metrics = metrics_of(config, name)
    if not labelled:
        metrics = {key: metric for key, metric in metrics.items() if not metric.needs_targets}
    loss: nn.Module | None = None
    if labelled:
        loss = build(own, "loss") if "loss" in own else system.loss
    if loss is not None:
        loss = loss.to(accelerator.device).eval()  # the system's follows the system's mode
    return Evaluation(name, loader, MetricTracker(metrics), loss, labelled)


def prepare(
    config: DictConfig,
    system: nn.Module,
    optimizations: dict[str, Optimization],
    accelerator: Accelerator,
) -> nn.Module:
    """Move the system to the device, and wrap it for precision and processes.

    Args:
        config: of an experiment; one that was started by an earlier version lacks some keys.
        system: of this process.
        optimizations: by name; their parameters are replaced if the weights are sharded.
        accelerator: of this process.

    Returns:
        The wrapped system.
    """
    model: Any = system.model
    several = accelerator.num_processes > 1
    sharded = several and config.get("strategy", "ddp") == "fsdp"
    if config.get("activation_checkpointing", False):
        if config.compile:
            check_checkpointing(model)
        checkpoint_activations(model)
    if several and config.get("sync_batch_norm", True):
        synchronise_batch_norm(model)
    if config.compile:
        compile_training(model, sharded)
    system.autocast = accelerator.autocast
    if accelerator.mixed_precision == "fp16" and accelerator.scaler is None:
        logger.warning("precision=fp16 needs a GPU; without one, training is in float32.")
    if sharded:
        system.to(accelerator.device)
        shard(model, list(optimizations.values()), accelerator)
    return accelerator.prepare_model(system, evaluation_mode=sharded)  # true: not wrapped by DDP


def build_writer(
    config: DictConfig,
    run: Any,
    accelerator: Accelerator,
    state: dict[str, Any] | None,
    quiet: bool = False,
) -> SafeWriter:
    """The writer of the main process; after a resume, it continues the run of the tracker.

    Args:
        config: of an experiment.
        run: `src.run.Run`.
        accelerator: other processes than the main one get a writer that does nothing.
        state: of the checkpoint of a resumed run.
        quiet: whether to give the main process one that does nothing, too.
    """
    if quiet or not accelerator.is_main_process:
        return SafeWriter(lambda: Writer(run.path, {}))
    before = state["writer"] if state else None
    return SafeWriter(
        lambda: build(
            config,
            "writer",
            run_dir=run.path,
            config=OmegaConf.to_container(config, resolve=True),
            state=before,
        ),
        before,
    )
