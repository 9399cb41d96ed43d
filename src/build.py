"""From the config to objects: what training, inference and `load_run` share."""

import atexit
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.datasets.base_dataset import BaseDataset
from src.datasets.collate import collate
from src.datasets.samplers import BatchStream, DurationBatchSampler, EvaluationBatches
from src.logger.base import Writer
from src.logger.safe import SafeWriter
from src.metrics.tracker import MetricTracker
from src.tasks.base import Task
from src.trainer.run_folder import RunFolder
from src.transforms.chain import Chain

CountFrames = Callable[[Any], Any]


def build(config: DictConfig, key: str, /, **objects) -> Any:
    """The object that `config.key` describes; None where it is null.

    Args:
        config: the node that holds the key.
        key: which of its children.
        objects: further arguments, made by other parts of the config.

    Raises:
        ValueError: the object can't be made; names the key and says why.
    """
    try:
        if config.get(key) is None:
            return None
        for missing in sorted(OmegaConf.missing_keys(config[key])):
            raise ValueError(f"config: {missing}=... must be given.")
        if not objects:
            return instantiate(config[key], _convert_="all")
        return instantiate(config[key], _partial_=True, _convert_="all")(**objects)
    except (InstantiationException, OmegaConfBaseException, TypeError) as error:
        cause = root_cause(error)
        if isinstance(cause, FileNotFoundError):
            raise cause from None
        place = config._get_full_key(key)
        raise ValueError(f"config, {place}: {str(cause).splitlines()[0]}") from error


def root_cause(error: BaseException) -> BaseException:
    """The error that was raised first, inside those that hydra wraps around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def build_accelerator(config: DictConfig) -> Accelerator:
    """Device, precision and processes; also sets the number of CPU threads."""
    if config.device not in ("auto", "cpu"):
        raise ValueError(f"config, device: '{config.device}' is neither auto nor cpu.")
    if str(config.precision) not in ("no", "bf16", "fp16"):
        raise ValueError(f"config, precision: '{config.precision}' is none of no, bf16, fp16.")
    if config.threads:
        torch.set_num_threads(config.threads)
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    AcceleratorState._reset_state()  # an earlier run in this process may have had another precision
    return Accelerator(cpu=cpu, mixed_precision=str(config.precision))


def build_model(config: DictConfig, text_encoder: Any) -> nn.Module:
    """The model; one that speaks in tokens is told how many there are."""
    sizes = {"n_tokens": text_encoder.n_tokens} if text_encoder is not None else {}
    return build(config, "model", **sizes)


def parameter_groups(config: DictConfig, model: nn.Module) -> list[Any]:
    """The model's parameters; those under the prefixes of `lr_scales` with rates of their own.

    Raises:
        ValueError: no parameter has such a prefix, or the scheduler knows one rate only.
    """
    scales = config.lr_scales
    if not scales:
        return list(model.parameters())
    if config.get("scheduler") and str(config.scheduler._target_).endswith("OneCycleLR"):
        raise ValueError("config, lr_scales: one_cycle has one rate; take warmup_cosine.")
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in ("", *scales)}
    for name, parameter in model.named_parameters():
        fitting = [prefix for prefix in groups if not prefix or f"{name}.".startswith(f"{prefix}.")]
        groups[max(fitting, key=len)].append(parameter)
    for prefix, found in groups.items():
        if prefix and not found:
            raise ValueError(f"config, lr_scales: no parameter of the model is in '{prefix}'.")
    rate = config.optimizer.lr
    return [{"params": own, "lr": rate * scales.get(p, 1.0)} for p, own in groups.items() if own]


def build_transforms(config: DictConfig, device: torch.device) -> dict[str, Chain]:
    """`train` and `inference` -> batch transforms, on the device."""
    return {use: build_chain(config, "batch", use).to(device) for use in ("train", "inference")}


def build_chain(config: DictConfig, kind: str, use: str) -> Chain:
    """Named transforms in the order of the config: `kind` is batch or instance."""
    steps = build(config.transforms[kind], use) or {}
    return Chain(steps)


def frame_counter(transforms: Chain, model: nn.Module) -> CountFrames | None:
    """Samples -> frames that the model puts out, or None if it doesn't say."""
    stages = [t for t in [*transforms.values(), model] if hasattr(t, "output_length")]
    if model not in stages:
        return None

    def count(samples: Any) -> Any:
        for stage in stages:
            samples = stage.output_length(samples)  # type: ignore[operator, union-attr]
        return samples

    return count


def build_datasets(
    config: DictConfig, splits: list[str], text_encoder: Any, count_frames: CountFrames | None
) -> dict[str, BaseDataset]:
    """Split -> dataset. Only the training split is augmented, and filtered for CTC."""
    datasets = {}
    for split in splits:
        if config.datasets.get(split) is None:
            names = ", ".join(str(name) for name in config.datasets)
            raise ValueError(f"config, datasets: no '{split}' among {names}.")
        train = split == "train"
        datasets[split] = build(
            config.datasets,
            split,
            sample_rate=config.sample_rate,
            seed=config.seed,
            text_encoder=text_encoder,
            instance_transforms=build_chain(config, "instance", "train" if train else "inference"),
            count_frames=count_frames if train else None,
        )
    return datasets


def build_trackers(config: DictConfig, splits: list[str]) -> dict[str, MetricTracker]:
    """Split -> metrics of its own."""
    return {split: MetricTracker(build(config.metrics, "inference") or {}) for split in splits}


def build_sampler(config: DictConfig, dataset: BaseDataset, train: bool) -> DurationBatchSampler:
    """Batches of like duration."""
    options = config.dataloader
    return DurationBatchSampler(
        dataset.durations,
        max_seconds=options.max_seconds,
        max_items=options.max_items,
        shuffle=train,
        seed=config.seed,
        sorted_first_epoch=train and options.sorted_first_epoch,
    )


def build_stream(config: DictConfig, dataset: BaseDataset, accelerator: Accelerator) -> BatchStream:
    """The endless order of the training batches, for this process."""
    return BatchStream(
        build_sampler(config, dataset, train=True),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        accumulate=config.trainer.accumulate,
    )


def build_loader(config: DictConfig, dataset: BaseDataset, batches: Any) -> DataLoader:
    """A loader whose workers take nothing from the global random state."""
    return DataLoader(
        dataset,
        worker_init_fn=ignore_signals,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=config.dataloader.num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(config.seed),
    )


def ignore_signals(worker: int) -> None:
    """Let the main process decide what a signal to all means; it still needs the workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def end_workers() -> None:
    """End the data workers that are left, which don't listen to Python's own farewell."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or torch takes their end for a fault
    for child in multiprocessing.active_children():
        child.kill()


def build_evaluation_loaders(
    config: DictConfig, datasets: dict[str, BaseDataset], accelerator: Accelerator
) -> dict[str, DataLoader]:
    """Split -> this process's share of its batches."""
    return {
        split: build_loader(
            config,
            dataset,
            EvaluationBatches(
                build_sampler(config, dataset, train=False),
                rank=accelerator.process_index,
                world_size=accelerator.num_processes,
            ),
        )
        for split, dataset in datasets.items()
        if split != "train"
    }


def open_run(
    config: DictConfig, overrides: list[str], accelerator: Accelerator
) -> tuple[DictConfig, RunFolder]:
    """A new run's folder, or that of the run to go on with.

    Args:
        config: as composed.
        overrides: the command line; when a run goes on its own config counts, and on top of it
            the values that this command line sets.
        accelerator: the main process makes the folder and tells the others.

    Returns:
        The config that counts, and the folder.
    """
    if config.trainer.resume_from:
        run = RunFolder.open(Path(config.trainer.resume_from))
        saved = run.read_config()
        overlay(saved, overrides)
        saved.trainer.resume_from = config.trainer.resume_from
        return saved, run
    place: list[Any] = [None]
    if accelerator.is_main_process:
        place = [new_folder(config)]
    broadcast_object_list(place)
    return config, RunFolder(Path(place[0]))


def new_folder(config: DictConfig) -> str:
    """Make the folder of a new run.

    Raises:
        FileExistsError: `run_dir` holds a run with a checkpoint already.
    """
    if not config.run_dir:
        return str(RunFolder.create(Path(config.runs), config.name).path)
    path = Path(config.run_dir)
    if (path / "last").exists() or (path / "last.old").exists():
        raise FileExistsError(
            f"{path}: holds a run already; go on with it by trainer.resume_from={path}, "
            "or name another run_dir."
        )
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


def overlay(config: DictConfig, overrides: list[str]) -> None:
    """Set single values of a saved config.

    Raises:
        ValueError: an override chooses a group, a key that the run's config doesn't have, or one
            that its weights or state already settled.
    """
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == "trainer.resume_from":
            continue
        if key.partition(".")[0] in FIXED:
            raise ValueError(f"config, {key}: a run goes on with its own {key.partition('.')[0]}.")
        if OmegaConf.select(config, key, default=config) is config or override.is_delete():
            raise ValueError(f"config, {key}: not in the config of the run that is to go on.")
        if isinstance(OmegaConf.select(config, key), DictConfig):
            raise ValueError(f"config, {key}: a run goes on with its own {key}; set single values.")
        OmegaConf.update(config, key, override.value())


def count_steps(config: DictConfig, stream: BatchStream) -> int:
    """All optimisation steps of the run, for schedulers."""
    steps = config.trainer.steps_per_epoch
    return sum(steps or stream.steps(epoch) for epoch in range(config.trainer.epochs))


def train_loading(
    config: DictConfig, dataset: BaseDataset, stream: BatchStream
) -> Callable[[int, int], Iterator[dict[str, Any]]]:
    """A function from a position of the stream to the batches from there on."""

    def load_from(epoch: int, batch: int) -> Iterator[dict[str, Any]]:
        return iter(build_loader(config, dataset, stream.starting_at(epoch, batch)))

    return load_from


def build_task(config: DictConfig, text_encoder: Any) -> Task:
    """The task; one that speaks in tokens gets the text encoder."""
    objects = {"text_encoder": text_encoder} if text_encoder is not None else {}
    return build(config, "task", **objects)


def build_writer(
    config: DictConfig, run: RunFolder, resumed: dict | None, accelerator: Accelerator
) -> SafeWriter:
    """The writer of the main process, which goes on with its tracker's run after a resume."""
    if not accelerator.is_main_process:
        return SafeWriter(lambda: Writer(run.path, {}))
    resolved = OmegaConf.to_container(config, resolve=True)
    return SafeWriter(
        lambda: build(
            config,
            "writer",
            run_dir=run.path,
            config=resolved,
            state=resumed["writer"] if resumed else None,
        )
    )


def save_run(config: DictConfig, run: RunFolder, text_encoder: Any) -> None:
    """Write into a new run's folder what rebuilds it."""
    run.write_config(config)
    if text_encoder is not None:
        text_encoder.save(run.text_encoder)


def self_test_audio(datasets: dict[str, BaseDataset], config: DictConfig) -> Tensor:
    """A second of the first recording that is not for training, if there is one."""
    held_out = [dataset for split, dataset in datasets.items() if split != "train"]
    dataset = held_out[0] if held_out else datasets["train"]
    return dataset[0]["audio"][: config.sample_rate].clone()


def print_summary(config: DictConfig, run: RunFolder, figures: dict[str, float]) -> None:
    """The figures, where the run lies, and what to do next."""
    for name, value in figures.items():
        print(f"{name:<28} {value:.6g}")
    print(f"\nThe run lies in {run.path}")
    if config.get("next_command"):
        print("Next: " + config.next_command.format(run=run.path))


INFERENCE_KEYS = ("run", "runs", "checkpoint", "splits", "output", "of_task")
FIXED = ("model", "optimizer", "scheduler", "seed")  # what a run that goes on can't change


def overlaid(config: DictConfig, changes: DictConfig | None) -> DictConfig:
    """A run's config with an inference config laid over it.

    Datasets are replaced whole, unless only single values of them are given.

    Raises:
        ValueError: the inference config is for another task.
    """
    if changes is None:
        return config
    task = str(config.task._target_).split(".")[-2]
    if changes.get("of_task", task) != task:
        raise ValueError(f"the run is one of {task}, not of {changes.of_task}: take another -cn.")
    changes = OmegaConf.masked_copy(changes, [str(k) for k in changes if k not in INFERENCE_KEYS])
    datasets = changes.pop("datasets", None)
    merged = OmegaConf.merge(config, changes)
    if not isinstance(merged, DictConfig):
        raise ValueError("config: not a mapping.")
    if datasets is not None:
        whole = any(dataset and "_target_" in dataset for dataset in datasets.values())
        merged.datasets = datasets if whole else OmegaConf.merge(merged.datasets, datasets)
    return merged
