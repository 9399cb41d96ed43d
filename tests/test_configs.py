"""Every experiment composes and trains; models overfit one batch."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import OmegaConf

from src.config import check_overrides, check_top_level, compose_experiment
from src.run import load_run
from tests.demo import CONFIGS, SMALL, composed, experiment
from tests.golden import FIXTURES
from train import train

EXPERIMENTS = sorted(
    path.stem
    for path in CONFIGS.glob("*.yaml")
    if not path.stem.startswith("inference") and path.stem != "base"
)
ENCODER = ["model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2"]
SEPARATOR = ["model.d_model=16", "model.num_layers=1", "model.kernel_size=64"]
RECOGNISER = FIXTURES / "asr_fastconformer_ctc_bpe.nemo"
# The paper's size runs with its own transforms and layers, but narrow ones.
NARROW = {
    "asr_deepspeech2": list(SMALL),
    "asr_deepspeech2_librispeech": [*SMALL[:3], "precision='no'"],
    "asr_baseline": ["model.hidden_size=16"],
    "asr_conformer": ENCODER,
    "asr_conformer_cr_ctc": [*ENCODER, "model.intermediate_layers=[1]"],
    "asr_conformer_librispeech": [
        *ENCODER,
        "text_encoder=english",
        "model.encoder.subsampling_factor=4",  # for characters
        "precision='no'",
    ],
    "asr_few_hours": [*ENCODER, "init.model=null", "model.intermediate_layers=[1]"],
    "asr_digits": [*ENCODER, "init.model=null", "model.intermediate_layers=[1]"],
    "asr_streaming": ENCODER,
    "asr_quartznet": ["model.encoder.block_defaults.out_channels=16"],
    "asr_russian": ["model=quartznet_demo", "precision='no'"],
    "asr_finetune": [f"init.model.source={RECOGNISER}"],
    "asr_finetune_streaming": [f"init.model.source={RECOGNISER}"],
    "asr_adapter": [f"init.model.source={RECOGNISER}"],
    "asr_nest": [],
    "asr_nest_probe": [],
    "probe_phonemes": [],
    "probe_speaker": ["vars.labels=[michael,alicia]"],
    "probe_keyword": ["vars.labels=[walked,there,jumped,should,slept]"],
    "ssl_nest": ENCODER,
    "ssl_nest_librispeech": [*ENCODER, "model.codebook_size=32", "precision='no'"],
    "separation_mossformer2": SEPARATOR,
    "separation_conversation": SEPARATOR,
    "separation_mossformer2_any": [*SEPARATOR, "model.num_speakers=2"],
    "separation_recognition": [
        "init.separator=null",
        "++model.separator={_target_: src.models.mossformer2.MossFormer2, num_speakers: 2}",
        *(option.replace("model.", "++model.separator.") for option in SEPARATOR),
        f"init.recogniser.source={RECOGNISER}",
    ],
    "enhancement_mossformer2": SEPARATOR,
}
METRIC = {
    "asr": "test/WER",
    "ssl": "test/masked_fraction",
    "separation": "test/loss",
    "enhancement": "test/spectral",
    "probe": "test/loss",
}
PRETRAINED = ("asr_nest", "asr_nest_probe", "probe_phonemes", "probe_speaker", "probe_keyword")


@pytest.fixture(scope="module")
def pretrained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ssl") / "run"
    train(experiment("ssl_nest", corpus, folder, "debug=smoke", *ENCODER))
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs(name, corpus, pretrained, tmp_path):
    options = list(NARROW[name])
    if name in PRETRAINED:
        options.append(f"init.encoder.source={pretrained}")
    config = experiment(name, corpus, tmp_path / "r", "debug=smoke", *options)
    metrics = train(config)
    assert abs(metrics[METRIC[name.split("_")[0]]]) > 0
    assert (tmp_path / "r" / "best" / "model.safetensors").exists()
    load_run(tmp_path / "r")  # its config may name all that the experiment does


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_the_debug_modes(name, corpus, tmp_path):
    for mode in ("overfit", "augment"):
        config = experiment(name, corpus, tmp_path / "r", f"debug={mode}", *NARROW[name])
        assert config.dataloader.num_workers == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("mode", ["smoke", "overfit", "augment"])
def test_no_experiment_replaces_values_of_a_debug_mode(name, mode):
    config = composed(name, f"debug={mode}")
    wanted = OmegaConf.load(CONFIGS / "debug" / f"{mode}.yaml")
    for key in ("dataloader", "trainer"):
        assert dict(config[key]) == dict(config[key]) | dict(wanted[key])
    if mode == "overfit":
        for evaluation in ("val", "test"):
            assert config.evaluations[evaluation].dataset == "train"
        for kind, own in OmegaConf.to_container(wanted.transforms).items():
            assert OmegaConf.to_container(config.transforms[kind])["train"] == own["train"]


@pytest.mark.parametrize("datasets", ["manifest", "mixed"])
def test_overfitting_takes_a_command_that_names_its_own_datasets(datasets):
    own = [f"datasets.{split}.manifest={split}.jsonl" for split in ("val", "test")]
    config = composed("asr_baseline", "debug=overfit", f"datasets={datasets}", *own)
    assert config.datasets.train.limit == 4
    assert config.datasets.val.manifest == "val.jsonl"


def test_asr_overfits_one_batch(corpus, tmp_path):
    options = ["debug=overfit", *SMALL[1:], "model.hidden_size=64", "scheduler=constant"]
    options += ["trainer.epochs=1"]
    config = experiment("asr_deepspeech2", corpus, tmp_path / "r", *options)
    assert config.transforms.batch.train == config.transforms.batch.inference
    metrics = train(config)
    assert metrics["test/WER"] == 0


def test_ssl_overfits_one_batch(corpus, tmp_path):
    options = ["debug=overfit", "model.encoder.num_layers=2", "scheduler=constant"]
    options += ["trainer.epochs=1"]
    config = experiment("ssl_nest", corpus, tmp_path / "r", *options)
    metrics = train(config)
    assert metrics["test/accuracy"] > 0.9
    assert metrics["test/accuracy_majority"] < 0.3


def test_separation_overfits_one_mixture(corpus, tmp_path):
    options = [
        "debug=overfit",
        "scheduler=constant",
        "model.num_layers=2",
        "datasets.train.limit=1",
        "datasets.train.segment=0.5",
        "optimizer.lr=2e-3",
        "trainer.epochs=2",
        "trainer.steps_per_epoch=40",
    ]
    config = experiment("separation_mossformer2", corpus, tmp_path / "r", *options)
    metrics = train(config)
    assert metrics["test/SI-SDR"] > 20


def test_augmented_audio_and_spectrograms_are_logged(corpus, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ["debug=augment", *SMALL, "writer=tensorboard", "trainer.epochs=2"]
    options += ["trainer.patience=1", "scheduler=plateau"]  # which are for evaluations
    train(experiment("asr_deepspeech2", corpus, tmp_path / "r", *options))
    events = EventAccumulator(str(tmp_path / "r" / "tensorboard"))
    events.Reload()
    pictures = " ".join(events.Tags()["images"])
    for name in ("features", "frequency_warp", "time_warp", "spec_augment"):
        assert name in pictures
    assert any("input" in name for name in events.Tags()["audio"])


GROUPS = sorted(
    path.relative_to(CONFIGS)
    for path in CONFIGS.rglob("*.yaml")
    if len(path.relative_to(CONFIGS).parts) == 2
)


@pytest.mark.parametrize("path", GROUPS, ids=str)
def test_targets_of_config_groups_exist(path):
    from omegaconf import OmegaConf

    def targets(node):
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for child in node.values():
                yield from targets(child)

    for target in targets(OmegaConf.to_container(OmegaConf.load(CONFIGS / path), resolve=False)):
        assert get_class(target)


def test_a_few_hours_start_from_an_encoder_too():
    config = compose_experiment("asr_few_hours", "init=encoder", "init.encoder.source=x")
    assert set(config.init) == {"encoder"}


def test_inference_config_composes():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("inference_asr", overrides=["run=x", "datasets=custom_dir"])
    assert "test" in config.datasets
    assert not HydraConfig.initialized()


@pytest.mark.parametrize(
    "name", [["-cn=nope"], ["-cn", "nope"], ["-m", "--config-name=nope", "a=1"]]
)
def test_an_experiment_that_is_not_there(name):
    with pytest.raises(ValueError, match="config, -cn: 'nope'; one of asr_adapter, .*ssl_nest"):
        check_overrides(name)
    check_overrides(["-cn=asr_deepspeech2", "--cfg=job"])
    check_overrides(["-cn=asr_deepspeech2", "-c", "job"])
    check_overrides([*name, "--config-dir=mine"])  # hydra looks there, too


@pytest.mark.parametrize(("other", "inference"), [("train", True), ("inference", False)])
def test_experiments_of_the_other_program(other, inference):
    config = OmegaConf.create({} if inference else {"for_task": None})
    with pytest.raises(ValueError, match=rf"config, -cn: this experiment is one for {other}\.py"):
        check_top_level(config, inference=inference)


@pytest.mark.parametrize(
    ("options", "dropped"), [([], True), (["datasets=mixture_folders"], False)]
)
def test_incomplete_batches_are_dropped_where_segments_have_one_duration(options, dropped):
    config = compose_experiment("separation_mossformer2", *options)
    assert config.dataloader.drop_last == dropped
