"""Train an experiment: python train.py -cn=NAME key=value. See --help."""

import hydra
from accelerate.utils import set_seed
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from src import build
from src.logger.text_log import setup_logging
from src.trainer.checkpoint import read_state
from src.trainer.pretrained import adopt_encoder
from src.utils.entry import run_command


def train(config: DictConfig, overrides: list[str] | None = None) -> dict[str, float]:
    """Train what the config describes.

    Args:
        config: an experiment of src/configs, composed.
        overrides: the command line, for a run that goes on.

    Returns:
        The final figures, `<split>/<name>`.
    """
    accelerator = build.build_accelerator(config)
    config, run = build.open_run(config, overrides or [], accelerator)
    setup_logging(run.path, accelerator.is_main_process)
    if not config.trainer.resume_from:
        adopt_encoder(config)
    set_seed(config.seed + accelerator.process_index)

    text_encoder = build.build(config, "text_encoder")
    model = build.build_model(config, text_encoder)
    if config.compile:
        model.compile()
    transforms = build.build_transforms(config, accelerator.device)
    splits = ["train", *config.trainer.validation_splits, *config.trainer.test_splits]
    with accelerator.main_process_first():  # the first one makes or downloads the data
        count_frames = build.frame_counter(transforms["inference"], model)
        datasets = build.build_datasets(config, splits, text_encoder, count_frames)
    stream = build.build_stream(config, datasets["train"], accelerator)
    config.total_steps = build.count_steps(config, stream)

    optimizer = build.build(config, "optimizer", params=build.parameter_groups(config, model))
    scheduler = build.build(config, "scheduler", optimizer=optimizer)
    model, optimizer = accelerator.prepare(model, optimizer)
    resumed = read_state(run.last) if config.trainer.resume_from else None
    if accelerator.is_main_process and not resumed:
        build.save_run(config, run, text_encoder)
    trainer = build.build(
        config,
        "trainer",
        model=model,
        loss=build.build(config, "loss"),
        task=build.build_task(config, text_encoder),
        optimizer=optimizer,
        scheduler=scheduler,
        stream=stream,
        load_from=build.train_loading(config, datasets["train"], stream),
        loaders=build.build_evaluation_loaders(config, datasets, accelerator),
        transforms=transforms,
        trackers=build.build_trackers(config, splits),
        writer=build.build_writer(config, run, resumed, accelerator),
        run=run,
        accelerator=accelerator,
        self_test_audio=build.self_test_audio(datasets, config),
        sample_rate=config.sample_rate,
    )
    figures = trainer.train()
    trainer.writer.close()
    if accelerator.is_main_process:
        build.print_summary(config, run, figures)
    accelerator.end_training()
    return figures


@hydra.main(version_base="1.3", config_path="src/configs", config_name="asr_deepspeech2")
def main(config: DictConfig) -> None:
    """Called by hydra with the composed config."""
    run_command(lambda: train(config, list(HydraConfig.get().overrides.task)))


if __name__ == "__main__":
    main()
