"""The optimisation step: accumulation, clipping, schedules, evaluation that changes nothing."""

import pytest
import torch

from src.trainer.checkpoint import read_tensors
from src.utils.files import read_jsonl
from tests.demo import SMALL, experiment
from train import train

NAME = "asr_deepspeech2"
QUICK = [*SMALL, "trainer.epochs=1", "trainer.log_every=1", "trainer.test_splits=[]"]


def rows(folder):
    return [row for row in read_jsonl(folder / "metrics.jsonl") if "train/loss" in row]


def test_norm_before_clipping_is_logged(corpus, tmp_path):
    train(experiment(NAME, corpus, tmp_path / "a", *QUICK, "trainer.max_grad_norm=1e-3"))
    assert all(row["train/grad_norm"] > 1e-2 for row in rows(tmp_path / "a"))
    assert {"train/lr", "train/ctc", "train/loss"} <= rows(tmp_path / "a")[0].keys()


def test_accumulation_takes_several_batches_a_step(corpus, tmp_path):
    counts = []
    for accumulate in (1, 2):
        folder = tmp_path / str(accumulate)
        train(experiment(NAME, corpus, folder, *QUICK, f"trainer.accumulate={accumulate}"))
        counts.append(len(rows(folder)))
    assert counts[1] == -(-counts[0] // 2)


def test_accumulated_gradient_is_the_mean():
    from accelerate import Accelerator

    from src.trainer.trainer import Trainer

    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(weight.weight)
    trainer = object.__new__(Trainer)
    trainer.accelerator = Accelerator(cpu=True)
    trainer.model, trainer.loss = weight, lambda out, **_: {"loss": out.sum()}
    trainer.transforms = {"train": lambda **batch: batch}
    trainer.optimizer = torch.optim.SGD(weight.parameters(), lr=1.0)
    trainer.scheduler, trainer.max_grad_norm = None, None
    trainer.model.forward = lambda x, **_: {"out": weight.weight * x}
    trainer.bare_model = lambda: weight
    trainer.max_discarded, trainer.freeze = 1, {}
    figures = trainer.optimise([{"id": ["a"], "x": torch.tensor(v)} for v in (1.0, 5.0)])
    assert weight.weight.item() == -3.0
    assert figures["grad_norm"] == 3.0
    assert figures["loss"] == 0.0


@pytest.mark.parametrize(
    "options",
    [
        ["scheduler=cosine"],
        ["scheduler=noam", "scheduler.warmup_steps=5"],
        ["scheduler=plateau"],
        ["~scheduler"],
        ["optimizer=sgd"],
        ["precision=bf16"],
        ["trainer.steps_per_epoch=3", "trainer.epochs=2"],
        ["trainer.patience=1"],
    ],
)
def test_options_run(corpus, tmp_path, options):
    figures = train(experiment(NAME, corpus, tmp_path / "r", *QUICK, *options))
    assert figures["val/loss"] > 0
    assert all(
        v.isfinite().all() for v in read_tensors(tmp_path / "r/last/model.safetensors").values()
    )


def test_early_stopping(corpus, tmp_path):
    options = [*QUICK, "trainer.epochs=9", "trainer.patience=2", "optimizer.lr=0"]
    options += ["trainer.monitor=min val/WER", "scheduler=constant"]
    train(experiment(NAME, corpus, tmp_path / "r", *options))
    evaluations = [r for r in read_jsonl(tmp_path / "r" / "metrics.jsonl") if "val/WER" in r]
    assert len(evaluations) < 9


def test_plateau_needs_a_monitor(corpus, tmp_path):
    options = [*QUICK, "scheduler=plateau", "trainer.monitor=null"]
    with pytest.raises(ValueError, match=r"needs trainer.monitor"):
        train(experiment(NAME, corpus, tmp_path / "r", *options))


def test_metrics_do_not_depend_on_the_batch_size(corpus, tmp_path):
    from inference import infer
    from tests.test_train import CONFIGS, compose, initialize_config_dir

    train(experiment(NAME, corpus, tmp_path / "r", *QUICK))
    found = []
    for size in (1, 3, 100):
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            overrides = [f"run={tmp_path / 'r'}", f"+dataloader.max_items={size}"]
            found.append(infer(compose("inference_asr", overrides=overrides)))
    for other in found[1:]:
        assert other["test/WER"] == found[0]["test/WER"]
        assert other["test/loss"] == pytest.approx(found[0]["test/loss"], rel=1e-4)
