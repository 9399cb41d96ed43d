"""Train an experiment: python train.py -cn=NAME key=value. See --help."""

if __name__ == "__main__":
    from src.utils.entry import end_on_signals

    end_on_signals()  # the other imports take seconds

from contextlib import closing

import hydra
from accelerate import Accelerator
from accelerate.utils import set_seed
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from src.building import build_system
from src.config import build, check_noise_is_used, check_overrides, check_top_level
from src.datasets.building import name_datasets
from src.interop.initialization import adopt_configs, adopted_text_encoder, initialize
from src.interop.sources import pin_sources
from src.logger.text_log import setup_logging
from src.report.facts import facts_of_run
from src.run import Run, open_run, own_config
from src.trainer.fit import Fit, check_fit
from src.trainer.optimization import build_optimizations
from src.trainer.output_folder import OutputFolder
from src.trainer.reporter import Reporter
from src.trainer.resuming import check_data, count_steps
from src.trainer.setup import (
    build_accelerator,
    build_evaluations,
    build_train_loader,
    build_writer,
    call_and_release,
    check_values,
    main_process_first,
    prepare,
)
from src.trainer.slurm import continue_interrupted, requeued_after
from src.trainer.summary import summary
from src.trainer.sweep import in_sweep, run_job
from src.utils.entry import run_command, run_hydra


def train(config: DictConfig, overrides: list[str] | None = None) -> dict[str, float]:
    """Train what the config describes.

    Args:
        config: an experiment of src/configs, composed.
        overrides: of the command line, for a run that is resumed.

    Returns:
        The final values, `<evaluation>/<metric>`; with `fit`, what was predicted.
    """
    check_top_level(config)
    if continue_interrupted(config):
        overrides = []  # the run has them already
    config = own_config(config, overrides or [])
    check_values(config)
    if not config.trainer.resume_from:  # whose config has no references
        check_noise_is_used(config, overrides or [])
    accelerator = build_accelerator(config)
    if config.get("fit"):
        check_fit(config, accelerator)
    return call_and_release(lambda: build_and_train(config, accelerator), accelerator)


def build_and_train(config: DictConfig, accelerator: Accelerator) -> dict[str, float]:
    """Build everything that the config describes, and train."""
    run = open_run(config, accelerator)
    resumed = bool(config.trainer.resume_from)
    setup_logging(run.path, accelerator.is_main_process)
    if not resumed:
        pin_sources(config)
        adopt_configs(config)
        name_datasets(config)
    set_seed(config.seed + accelerator.process_index)

    tokens = run.read_text_encoder() if resumed else adopted_text_encoder(config)
    system = build_system(config, tokens)
    with main_process_first(accelerator):  # it makes or downloads the data
        loader = build_train_loader(config, system, accelerator)
        evaluations = build_evaluations(config, system, accelerator)
    state = run.read_state() if resumed else None
    if state:
        loader.load_state_dict(state["train_loader"])
    config.total_steps = count_steps(config.trainer, loader, state)
    optimizations = build_optimizations(config, system.model)
    if not resumed:
        initialize(system.model, config)
    wrapped = prepare(config, system, optimizations, accelerator)
    fit = bool(config.get("fit"))  # a run that is resumed may have none
    writer = build_writer(config, run, accelerator, state, quiet=fit)
    with closing(loader), writer:
        if accelerator.is_main_process and not fit:
            if resumed:
                check_data(run.path, loader.amount())
            else:
                run.save_config(config, system.text_encoder)
            run.save_data(loader.amount())
        reporter = Reporter(
            system=system,
            accelerator=accelerator,
            output=OutputFolder(run.report_path),
            facts=lambda: facts_of_run(run.path, config, system.model),
            audio=OmegaConf.select(config, "report.audio", default="worst"),
            tables=True,
        )
        trainer = build(
            config,
            "trainer",
            system=wrapped,
            train_loader=loader,
            evaluations=evaluations,
            optimizations=optimizations,
            run=run,
            writer=writer,
            reporter=reporter,
            accelerator=accelerator,
            total_steps=config.total_steps,
        )
        values = Fit(trainer, config.fit_limits)() if fit else trainer.train()
    if accelerator.is_main_process and not fit:
        print_summary(config, run, values)
    return values


def print_summary(config: DictConfig, run: Run, values: dict[str, float]) -> None:
    """Print the values, the run's folder, and what to do next."""
    print(f"{summary(values)}\n\nThe run: {run.path}")
    if config.next_command:
        print("Next: " + config.next_command.replace("{run}", str(run.path)))


@hydra.main(version_base="1.3", config_path="src/configs", config_name="asr_deepspeech2")
def main(config: DictConfig) -> float | None:
    """Called by hydra with the composed config; of a sweep for each job."""
    with requeued_after(config.get("requeue")):
        if in_sweep():
            return run_job(config, lambda: train(config))
        run_command(lambda: train(config, list(HydraConfig.get().overrides.task)))
    return None


if __name__ == "__main__":
    run_hydra(main, check_overrides)
