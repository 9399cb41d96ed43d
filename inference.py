"""Evaluate a finished run: python inference.py -cn=inference_asr run=FOLDER. See --help."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from src import build
from src.logger.text_log import setup_logging
from src.run import load_run
from src.trainer.inferencer import Inferencer
from src.trainer.run_folder import RunFolder
from src.utils.entry import run_command


def infer(config: DictConfig) -> dict[str, float]:
    """Evaluate what the config describes.

    Args:
        config: an inference experiment of src/configs, composed.

    Returns:
        The figures, `<split>/<name>`.
    """
    folder = Path(config.run) if config.run else RunFolder.newest(Path(config.runs)).path
    run = load_run(folder, config.checkpoint, changes=config)
    accelerator = build.build_accelerator(run.config)
    output = Path(config.output or folder / "inference")
    output.mkdir(parents=True, exist_ok=True)
    setup_logging(output, accelerator.is_main_process)

    splits = list(config.splits)
    datasets = build.build_datasets(run.config, splits, run.text_encoder, None)
    inferencer = Inferencer(
        model=accelerator.prepare_model(run.model, evaluation_mode=True),
        loss=build.build(run.config, "loss"),
        task=run.task,
        loaders=build.build_evaluation_loaders(run.config, datasets, accelerator),
        labelled={split: dataset.has_targets for split, dataset in datasets.items()},
        transforms=run.transforms,
        trackers=build.build_trackers(run.config, splits),
        accelerator=accelerator,
        output=output,
    )
    figures = inferencer.run()
    if accelerator.is_main_process:
        for name, value in figures.items():
            print(f"{name:<28} {value:.6g}")
        print(f"\nThe run: {folder}\nOutputs lie in {output}")
    accelerator.end_training()
    return figures


@hydra.main(version_base="1.3", config_path="src/configs", config_name="inference_asr")
def main(config: DictConfig) -> None:
    """Called by hydra with the composed config."""
    run_command(lambda: infer(config))


if __name__ == "__main__":
    main()
