"""A .nemo file of a recogniser, opened like the folder of a run."""

from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig
from torch import Tensor

from src.config import compose_experiment
from src.interop.initialization import adopt_model
from src.interop.recogniser import Recogniser, read_recogniser
from src.interop.sources import Saved
from src.loaded_config import check_config
from src.text_encoder.base import TextEncoder

EXPERIMENT = "asr_finetune"  # whose config has what the file doesn't: metrics, decoders, ...


class NemoRun:
    """What `src.run.Run` has for loading and evaluating, from a .nemo file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.inference_path = path.with_name(f"{path.stem}_inference")

    @cached_property
    def recogniser(self) -> Recogniser:
        """What the file holds.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it isn't a recogniser, is damaged or refused.
        """
        return read_recogniser(self.path)

    def read_config(self) -> DictConfig:
        """The config of an experiment with the network and the front end of the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it isn't a recogniser, is damaged or refused.
        """
        own = self.recogniser
        config = compose_experiment(EXPERIMENT, "init=random")
        adopt_model(
            config,
            Saved(own.model, own.features, own.sample_rate),
        )
        check_config(config, self.path)
        return config

    def checkpoint(self, name: str) -> Path:
        """The file, whatever the name of the checkpoint."""
        return self.path

    def read_weights(self, checkpoint: str) -> dict[str, Tensor]:
        """The weights of the model."""
        return self.recogniser.weights

    def read_self_test(self, checkpoint: str) -> None:
        """None: the file has no outputs to compare with."""

    def read_text_encoder(self) -> TextEncoder:
        """The tokens of the file."""
        return self.recogniser.text_encoder
