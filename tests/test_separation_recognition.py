"""A separator that is trained through a recogniser: from two runs to one, and its use."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from torch import nn

from inference import infer
from src.building import build_system
from src.config import build
from src.datasets.collate import collate
from src.datasets.dynamic_mixtures import DynamicMixtures
from src.datasets.timeline import Timeline
from src.interop.initialization import adopt_configs, adopted_text_encoder, initialize
from src.loss.pit import PermutationInvariantSiSdr
from src.loss.source_ctc import SourceCTC
from src.metrics.wer import VoicesWER
from src.run import Run, load_run
from src.text_encoder.characters import CharacterEncoder
from src.trainer.setup import open_dataset
from src.utils.si_sdr import si_sdr
from tests.demo import SMALL, composed, experiment
from tests.golden import FIXTURES
from train import train

SEPARATOR = ["model.d_model=8", "model.num_layers=1", "model.kernel_size=64"]
MIXTURES = ["datasets.train.segment=0.5", "dataloader.max_seconds=2"]


@pytest.fixture(scope="module")
def runs(corpus, tmp_path_factory):
    """A separator at 8 kHz and a recogniser at 16 kHz."""
    folder = tmp_path_factory.mktemp("joint")
    options = [*SEPARATOR, *MIXTURES, "debug=smoke"]
    train(experiment("separation_mossformer2", corpus, folder / "s", *options))
    train(experiment("asr_deepspeech2", corpus, folder / "r", *SMALL, "debug=smoke"))
    return folder


def joint(runs, corpus, name, *options, separator="s", recogniser="r"):
    sources = [f"init.separator.source={runs / separator}"]
    sources += [f"init.recogniser.source={runs / recogniser}"]
    return experiment("separation_recognition", corpus, runs / name, *sources, *options)


def test_try(runs, corpus):
    values = train(joint(runs, corpus, "frozen", "debug=smoke"))
    print(values)
    system = load_run(runs / "frozen")
    out = system(next((corpus / "audio").rglob("*.flac")))
    print(out.shape)
    v = infer(composed("inference_separation", f"run={runs / 'frozen'}", "device=cpu"))
    print(v)
    run = runs / "frozen"
    options = [f"separator={run}", f"recogniser={run}", f"datasets.test.folder={corpus}"]
    options += ["datasets.test.limit=1", "datasets.test.utterances=2", "device=cpu"]
    print(infer(composed("inference_conversation", *options)))
