"""Evaluate a finished run: python inference.py -cn=inference_asr run=FOLDER. See --help."""

if __name__ == "__main__":
    from src.utils.entry import end_on_signals

    end_on_signals()  # the other imports take seconds

from pathlib import Path
from typing import Any

import hydra
from accelerate import Accelerator
from omegaconf import DictConfig

from src.config import (
    check_overrides,
    check_top_level,
    experiment_for,
    inference_config,
    target_class,
)
from src.conversation import ConversationRuns
from src.datasets.building import name_datasets
from src.loaded_config import format_config
from src.logger.text_log import setup_logging
from src.report.facts import facts_of_run
from src.report.page import PAGE
from src.run import OpenedRun, Run, open_source, restore
from src.trainer.inferencer import Inferencer
from src.trainer.output_folder import OutputFolder
from src.trainer.reporter import Reporter
from src.trainer.setup import build_accelerator, build_evaluations, call_and_release
from src.trainer.summary import summary
from src.utils.entry import run_command, run_hydra


def infer(config: DictConfig) -> dict[str, float]:
    """Evaluate what the config describes.

    Args:
        config: an inference experiment of src/configs, composed.

    Returns:
        The values, `<evaluation>/<metric>`.

    Raises:
        ValueError: the config is for runs of another task.
    """
    check_top_level(config, inference=True)
    run: OpenedRun | ConversationRuns
    if "separator" in config:
        run, merged = ConversationRuns(config), config.copy()
    else:
        run = open_run(config)
        merged = inference_config(run.read_config(), config)
        check_task(run, merged, config.for_task)
    name_datasets(merged)
    accelerator = build_accelerator(merged)
    return call_and_release(lambda: evaluate_run(config, merged, run, accelerator), accelerator)


def open_run(config: DictConfig) -> OpenedRun:
    """The run that is named, or the newest one."""
    trusted = list(config.trust)
    if config.run:
        return open_source(Path(config.run), trusted)
    return Run.newest(Path(config.runs), trusted)


def evaluate_run(
    config: DictConfig,
    merged: DictConfig,
    run: OpenedRun | ConversationRuns,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Restore the run and make the evaluations.

    Args:
        config: of the inference.
        merged: the run's config with the inference config merged into it; of a conversation the
            latter.
        run: the run, or both runs of a conversation.
        accelerator: devices, precision and processes.
    """
    output = OutputFolder(Path(config.output or run.inference_path))
    names = [str(name) for name in config.evaluate_on or config.evaluations or ["test"]]
    if accelerator.is_main_process:
        output.start(names)
    setup_logging(output.path, accelerator.is_main_process)

    system: Any
    if isinstance(run, ConversationRuns):
        system = run.restore(merged, config.checkpoint, accelerator.device)
    else:
        system = restore(run, merged, config.checkpoint, accelerator.device)
    system.autocast = accelerator.autocast
    evaluations = build_evaluations(merged, system, accelerator, names)
    reporter = Reporter(
        system=system,
        accelerator=accelerator,
        output=output,
        facts=lambda: facts_of_run(run.path, merged, system.model),
        audio=config.report.audio,
    )
    inferencer = Inferencer(
        system=system,
        evaluations=evaluations,
        accelerator=accelerator,
        output=output,
        reporter=reporter,
        config=format_config(merged, run=str(run.path), checkpoint=config.checkpoint),
    )
    values = inferencer.run()
    if accelerator.is_main_process:
        notes = dict.fromkeys(one.metrics.normalizations() for one in evaluations.values())
        print("\n".join([summary(values), *filter(None, notes)]))
        print(f"\nThe run: {run.path}\nOutputs: {output.path}")
        print(f"Report: {output.path / PAGE}")
    return values


def check_task(run: OpenedRun, config: DictConfig, wanted: str | None) -> None:
    """Check that an inference config is for runs of this task.

    Raises:
        ValueError: it isn't.
    """
    name = target_class(config, "task").name
    if wanted not in (None, name):
        other = experiment_for(name) or "another one"
        raise ValueError(f"{run.path}: a run of {name}, not of {wanted}; take -cn={other}.")


@hydra.main(version_base="1.3", config_path="src/configs", config_name="inference_asr")
def main(config: DictConfig) -> None:
    """Called by hydra with the composed config."""
    run_command(lambda: infer(config))


if __name__ == "__main__":
    run_hydra(main, check_overrides)
