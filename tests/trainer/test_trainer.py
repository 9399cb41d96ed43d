"""The optimisation step: accumulation, clipping, schedules, evaluation that changes nothing."""

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from omegaconf import OmegaConf
from torch import nn

from src.datasets.loading.train import TrainLoader
from src.logger.nothing import NothingWriter
from src.models.conformer import ConformerEncoder
from src.models.encoder_ctc import EncoderCTC
from src.run import Run
from src.system import System
from src.tasks.base import Task
from src.trainer import base_trainer
from src.trainer.evaluation import evaluate
from src.trainer.optimization import Optimization, build_optimizations
from src.trainer.setup import prepare
from src.trainer.trainer import Trainer
from src.utils.checkpoint import read_tensors
from src.utils.files import read_jsonl
from src.utils.muon import StackedMuon
from tests.demo import SMALL, experiment, inference
from train import train

NAME = "asr_deepspeech2"
QUICK = [*SMALL, "trainer.epochs=1", "trainer.log_every_steps=1", "trainer.test_on=[]"]


def rows(folder):
    return [row for row in read_jsonl(folder / "metrics.jsonl") if "train/loss" in row]


def test_norm_before_clipping_is_logged(corpus, tmp_path):
    train(experiment(NAME, corpus, tmp_path / "a", *QUICK, "trainer.max_grad_norm=1e-3"))
    assert all(row["train/grad_norm"] > 1e-2 for row in rows(tmp_path / "a"))
    assert {"train/lr", "train/ctc", "train/loss"} <= rows(tmp_path / "a")[0].keys()


def test_accumulation_uses_several_batches_per_step(corpus, tmp_path):
    counts = []
    for accumulate in (1, 2):
        folder = tmp_path / str(accumulate)
        train(experiment(NAME, corpus, folder, *QUICK, f"trainer.accumulate={accumulate}"))
        counts.append(len(rows(folder)))
    assert counts[1] == -(-counts[0] // 2)


class Weight(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x, **_):
        return {"out": self.weight * x}


class Total(nn.Module):
    def forward(self, out, **_):
        return {"loss": out.sum()}


def test_accumulated_gradient_is_the_mean(tmp_path):
    system = System(Weight(), Task(), sample_rate=8000, loss=Total())
    parameters = list(system.model.parameters())
    sgd = Optimization(torch.optim.SGD(parameters, lr=1.0), None, parameters)
    parts = {"train_loader": None, "evaluations": {}, "run": None, "writer": None}
    parts["reporter"] = None
    trainer = Trainer(
        system=system, optimizations={"main": sgd}, accelerator=Accelerator(cpu=True), **parts
    )
    batches = [{"id": ["a"], "errors": [], "x": torch.tensor(v)} for v in (1.0, 5.0)]
    values = trainer.optimise(batches)
    assert system.model.weight.item() == -3.0
    assert values["grad_norm"] == 3.0
    assert values["loss"] == 0.0


class TwoWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Weight(), Weight()

    def forward(self, x, **_):
        return {"out": self.first(x)["out"] + 2 * self.second(x)["out"]}


def trainer_of_two_optimizers(scaler, **settings):
    system = System(TwoWeights(), Task(), sample_rate=8000, loss=Total())
    optimizations = {
        name: Optimization(torch.optim.SGD(part.parameters(), lr=1.0), None, [part.weight])
        for name, part in system.model.named_children()
    }
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = scaler
    parts = dict.fromkeys(["train_loader", "run", "writer", "reporter"]) | {"evaluations": {}}
    parts |= {"system": system, "optimizations": optimizations, "accelerator": accelerator}
    return Trainer(**parts, **settings)


def weights_of(trainer):
    return [parameter.item() for parameter in trainer.system.model.parameters()]


def test_several_optimizers_share_the_loss_scale_of_fp16():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    trainer = trainer_of_two_optimizers(scaler)
    batch = {"id": ["a"], "errors": [], "x": torch.tensor(1.5)}
    values = trainer.optimise([batch])  # the second gradient overflows, the first does not
    assert values["discarded_steps"] == 1
    assert scaler.get_scale() == 2.0**126
    assert weights_of(trainer) == [0.0, 0.0]
    scaler.update(2.0**10)
    for step in (1, 2):
        values = trainer.optimise([batch])
        assert values["discarded_steps"] == 1 and abs(values["grad_norm"] - 11.25**0.5) < 1e-6
        assert weights_of(trainer) == [-1.5 * step, -3.0 * step]


def test_loss_scale_without_gradients_and_with_two_updates_in_a_step():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer = trainer_of_two_optimizers(scaler, freeze={"second": 5})
    batch = {"id": ["a"], "errors": [], "x": torch.tensor(1.5)}
    trainer.update([batch], ["second"])  # frozen
    trainer.update([batch], ["first"])
    assert weights_of(trainer) == [-1.5, 0.0] and scaler.get_scale() == 2.0**10


def test_empty_batch_has_zero_gradient():
    system = System(Weight(), Task(), sample_rate=8000, loss=Total())
    parts = system.training_step({"id": [], "errors": ["a.wav: broken"]})
    parts["loss"].backward()
    assert parts["loss"].item() == 0 and system.model.weight.grad.item() == 0
    empty = {"id": [], "errors": [], "skipped": 0}
    assert system.evaluation_step(empty) == empty


ADAMW = "optimizer=adamw"  # one optimizer for all parameters


def test_learning_rates_of_submodules(corpus, tmp_path):
    scales = "optimizers.main.lr_scales={encoder: 0.5, encoder.layers.0: 0.25}"
    small = ["model.encoder.d_model=16", "model.encoder.num_layers=2", "model.encoder.num_heads=2"]
    config = experiment("asr_conformer", corpus, tmp_path / "r", ADAMW, *small, scales)
    model = EncoderCTC(ConformerEncoder(num_layers=2, d_model=16, num_heads=2), 5)
    config.total_steps = 100
    groups = build_optimizations(config, model)["main"].optimizer.param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    base = config.optimizer.lr
    for name, parameter in model.named_parameters():
        scale = 0.25 if name.startswith("encoder.layers.0.") else 0.5
        assert rates[id(parameter)] == base * (1.0 if name.startswith("head") else scale)
    config.optimizers.main.lr_scales = {"nothing": 0.1}
    with pytest.raises(ValueError, match="no parameter that is trained is in 'nothing'"):
        build_optimizations(config, model)
    config = experiment(
        "asr_conformer", corpus, tmp_path / "r", ADAMW, scales, "scheduler=one_cycle"
    )
    config.total_steps = 100
    with pytest.raises(ValueError, match="gives all parts one learning rate"):
        build_optimizations(config, model)


def test_learning_rates_decay_from_layer_to_layer(corpus, tmp_path):
    scales = "optimizers.main.lr_scales={encoder: 0.5, encoder.layers.0.conv: 3}"
    decay = "optimizers.main.layer_decay={encoder.layers: 0.8}"
    config = experiment("asr_conformer", corpus, tmp_path / "r", ADAMW, scales, decay)
    config.total_steps = 100
    model = EncoderCTC(ConformerEncoder(num_layers=2, d_model=16, num_heads=2, feat_out=8), 5)
    groups = build_optimizations(config, model)["main"].optimizer.param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    wanted = {
        "head": 1.0,
        "encoder.out_proj": 0.5,  # behind the layers
        "encoder.layers.1": 0.5 * 0.8,
        "encoder.layers.0": 0.5 * 0.8**2,
        "encoder.layers.0.conv": 3.0,  # its own one
        "encoder.subsampling": 0.5 * 0.8**3,
    }
    for name, parameter in model.named_parameters():
        place = max((own for own in wanted if f"{name}.".startswith(f"{own}.")), key=len)
        assert rates[id(parameter)] == pytest.approx(config.optimizer.lr * wanted[place], rel=1e-9)
    model.encoder.out_proj = None  # so that each parameter of the encoder is in a layer
    assert len(build_optimizations(config, model)["main"].optimizer.param_groups) == 5
    for value, message in (
        ({"encoder": 0.8}, "'encoder' is no list of layers"),
        ({"layers": 0.8}, "the model has no 'layers'"),
        ({"encoder.layers": 1.5}, "layer_decay.encoder.layers: 1.5; a number above 0, up to 1"),
    ):
        config.optimizers.main.layer_decay = value
        with pytest.raises(ValueError, match=message):
            build_optimizations(config, model)


def test_several_optimizers(corpus, tmp_path):
    model = EncoderCTC(ConformerEncoder(num_layers=2, d_model=16, num_heads=2), 5)
    config = experiment("asr_conformer", corpus, tmp_path / "r", "~scheduler")
    config.optimizers = {"a": {"parts": "encoder"}, "b": {"parts": ["head"]}}
    optimizations = build_optimizations(config, model)
    assert [len(o.parameters) for o in optimizations.values()] == [
        len(list(model.encoder.parameters())),
        2,
    ]
    config.optimizers = {"a": {"parts": "encoder"}, "b": {}}
    with pytest.raises(ValueError, match="optimizers.b: trains parameters of 'a' too"):
        build_optimizations(config, model)
    config.optimizers = {"a": {"parts": "decoder"}}
    with pytest.raises(ValueError, match=r"optimizers.a.parts: the model has no 'decoder'"):
        build_optimizations(config, model)


def test_an_optimizer_for_the_weights_of_linear_layers(corpus, tmp_path, caplog):
    model = EncoderCTC(ConformerEncoder(num_layers=1, d_model=16, num_heads=2), 5)
    muon = {"_target_": "torch.optim.Muon", "lr": 0.01}
    config = experiment("asr_conformer", corpus, tmp_path / "r", "~scheduler")
    config.optimizers = {
        "linear": {"linear_weights": True, "optimizer": muon},
        "others": {"linear_weights": False},
    }
    optimizations = build_optimizations(config, model)
    chosen = {id(p) for p in optimizations["linear"].parameters}
    assert chosen == {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Linear)}
    numbers = [len(one.parameters) for one in optimizations.values()]
    assert min(numbers) and sum(numbers) == len(list(model.parameters()))
    assert not caplog.records
    decay = {"encoder.layers": 0.5}
    config.optimizers = {"linear": {**config.optimizers.linear, "layer_decay": decay}}
    groups = build_optimizations(config, model)["linear"].optimizer.param_groups
    assert sorted(group["lr"] for group in groups) == pytest.approx([0.0025, 0.005, 0.01])
    assert "are trained by no optimizer, e.g. encoder." in caplog.text
    norm = {"parts": "encoder.layers.0.norm_out"}  # has no linear layer
    config.optimizers = {
        "a": norm | {"linear_weights": True},
        "b": norm | {"linear_weights": False},
    }
    assert list(build_optimizations(config, model)) == ["b"]
    config.optimizers.b = None
    with pytest.raises(ValueError, match="optimizers: none of a has a weight to train"):
        build_optimizations(config, model)


@pytest.mark.parametrize("name", ["adamw", "novograd", "sgd"])
def test_another_optimizer_instead_of_muon_trains_all(name, corpus, tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv1d(2, 2, 1), torch.nn.Linear(2, 2))
    own = [f"optimizer={name}", "optimizer.lr=0.5", "~scheduler"]
    optimizations = build_optimizations(
        experiment("separation_mossformer2", corpus, tmp_path / "r", *own), model
    )
    assert list(optimizations) == ["main"]
    assert len(optimizations["main"].parameters) == 4


def muon(corpus, folder, *options):
    model = EncoderCTC(ConformerEncoder(num_layers=2, d_model=16, num_heads=2), 5)
    own = ["optimizer=muon", "optimizer.lr=0.5", "~scheduler", *options]
    return model, build_optimizations(experiment("asr_nest", corpus, folder, *own), model)


def test_muon_for_any_experiment(corpus, tmp_path):
    model, built = muon(corpus, tmp_path, "optimizers.main.layer_decay={encoder.layers: 0.5}")
    assert list(built) == ["main", "linear"]
    assert isinstance(built["linear"].optimizer, StackedMuon)
    assert sum(len(one.parameters) for one in built.values()) == len(list(model.parameters()))
    for one in built.values():  # the encoder has half of the learning rate
        rates = [group["lr"] for group in one.optimizer.param_groups]
        assert {0.5, 0.5 * 0.5 * 0.5, 0.5 * 0.5 * 0.25} <= set(rates)


def test_muon_trains_the_parts_that_are_trained(corpus, tmp_path):
    scales = ["optimizers.main.parts=[encoder]", "~optimizers.main.lr_scales"]
    scales += ["+optimizers.main.lr_scales={encoder.layers.0.norm_out: 0.5}"]  # not linear
    model, built = muon(corpus, tmp_path, *scales)
    trained = {id(p) for one in built.values() for p in one.parameters}
    assert trained == {id(p) for p in model.encoder.parameters()}
    assert [len(one.optimizer.param_groups) for one in built.values()] == [2, 1]
    bad = "+optimizers.main.lr_scales={encoder.layers.0.norm_out: 0.5, head: 2}"
    with pytest.raises(ValueError, match=r"main.lr_scales: no parameter .* is in 'head'"):
        muon(corpus, tmp_path, *scales[:2], bad)
    for other in ("nope", "linear"):
        with pytest.raises(ValueError, match=f"optimizers.linear.like: {other}; there is no such"):
            muon(corpus, tmp_path, f"optimizers.linear.like={other}")


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
    metrics = train(experiment(NAME, corpus, tmp_path / "r", *QUICK, *options))
    assert metrics["val/loss"] > 0
    assert all(
        v.isfinite().all() for v in read_tensors(tmp_path / "r/last/model.safetensors").values()
    )


def test_fp16_without_a_gpu_is_said(caplog):
    system = nn.Module()
    system.model = nn.Linear(1, 1)
    parameters = list(system.parameters())
    sgd = Optimization(torch.optim.SGD(parameters, lr=1.0), None, parameters)
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision="fp16")
    prepare(OmegaConf.create({"compile": False}), system, {"main": sgd}, accelerator)
    AcceleratorState._reset_state()
    assert "precision=fp16 needs a GPU" in caplog.text


def test_early_stopping(corpus, tmp_path):
    folder = tmp_path / "r"
    options = [*QUICK, "trainer.epochs=3", "trainer.patience=1", "optimizer.lr=0"]
    options += ["trainer.monitor=val/WER", "scheduler=constant"]
    train(experiment(NAME, corpus, folder, *options))
    told = "after epoch 2; evaluations since the best val/WER: 1 (trainer.patience=1)."
    assert (folder / "log.txt").read_text().count(told) == 1
    more = ["trainer.epochs=4", f"trainer.resume_from={folder}"]
    train(experiment(NAME, corpus, folder, *more), more)
    assert (folder / "log.txt").read_text().count(told) == 2
    evaluations = [r for r in read_jsonl(folder / "metrics.jsonl") if "val/WER" in r]
    assert len(evaluations) == 2


def test_plateau_needs_a_monitor(corpus, tmp_path):
    options = [*QUICK, "scheduler=plateau", "trainer.monitor=null"]
    with pytest.raises(ValueError, match=r"needs trainer.monitor"):
        train(experiment(NAME, corpus, tmp_path / "r", *options))


@pytest.fixture
def evaluating(monkeypatch):
    """A function by which the values of evaluations are set: `<evaluation>/<metric>` -> values."""

    def set_values(given):
        left = {key: list(values) for key, values in given.items()}

        def changed(system, evaluation, *arguments):
            values, rows = evaluate(system, evaluation, *arguments)
            own = {key: left.get(f"{evaluation.name}/{key}") for key in values}
            return values | {key: one.pop(0) for key, one in own.items() if one}, rows

        monkeypatch.setattr(base_trainer, "evaluate", changed)

    return set_values


def test_loss_that_is_not_finite(corpus, tmp_path, evaluating, caplog):
    options = [*QUICK, "trainer.test_on=[test]", "trainer.monitor=val/WER"]
    evaluating({"test/loss": [math.nan]})
    values = train(experiment(NAME, corpus, tmp_path / "test", *options))
    assert math.isnan(values["test/loss"]) and math.isfinite(values["test/WER"])
    assert "test/loss is nan at step" in caplog.text
    assert (tmp_path / "test" / "report" / "report.html").exists()
    evaluating({"val/loss": [math.inf]})
    with pytest.raises(ValueError, match="val/loss is inf at step .*: diverged"):
        train(experiment(NAME, corpus, tmp_path / "val", *options))


def test_training_that_fails_closes_writer_and_data(corpus, tmp_path, monkeypatch):
    closed: list[object] = []
    monkeypatch.setattr(NothingWriter, "close", lambda writer: closed.append(writer.failed))
    monkeypatch.setattr(TrainLoader, "close", lambda loader: closed.append(loader.position))
    train(experiment(NAME, corpus, tmp_path / "a", *QUICK))
    (well, _), closed[:] = closed, []

    def fail(trainer, batches):
        raise RuntimeError("no such shape")

    monkeypatch.setattr(Trainer, "optimise", fail)
    with pytest.raises(RuntimeError, match="no such shape"):
        train(experiment(NAME, corpus, tmp_path / "b", *QUICK))
    assert not well and closed == [True, (0, 1)]


def test_state_of_a_tracker_that_cannot_start_again_is_kept(corpus, tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise ConnectionError("no network")

    folder = tmp_path / "r"
    monkeypatch.setattr(NothingWriter, "state", lambda writer: {"id": "7"})
    train(experiment(NAME, corpus, folder, *QUICK))
    more = ["trainer.epochs=2", f"trainer.resume_from={folder}"]
    monkeypatch.setattr(NothingWriter, "__init__", unreachable)
    train(experiment(NAME, corpus, folder, *QUICK, *more), more)
    assert Run(folder).read_state()["writer"] == {"id": "7"}


def test_values_are_those_of_the_weights_that_are_kept(corpus, tmp_path, evaluating):
    options = [*QUICK, "trainer.epochs=3", "trainer.monitor=val/WER"]
    evaluating({"val/WER": [0.6, 0.4, 0.5], "val/CER": [0.3, 0.2, 0.1]})
    values = train(experiment(NAME, corpus, tmp_path / "r", *options))
    assert (values["val/WER"], values["val/CER"]) == (0.4, 0.2)


def test_another_monitor_of_a_resumed_run(corpus, tmp_path, caplog):
    folder = tmp_path / "r"
    options = [*QUICK, "scheduler=plateau", "trainer.monitor=val/WER"]
    train(experiment(NAME, corpus, folder, *options))
    more = ["trainer.monitor=val/loss", f"trainer.resume_from={folder}"]
    with pytest.raises(ValueError, match="trainer.monitor: another one needs more trainer.epochs"):
        train(experiment(NAME, corpus, folder, *options, *more), more)
    more.append("trainer.epochs=2")
    values = train(experiment(NAME, corpus, folder, *options, *more), more)
    assert "trainer.monitor: val/loss instead of val/WER" in caplog.text
    state = Run(folder).read_state()
    schedule = state["optimizations"]["main"]["scheduler"]
    assert state["monitor"]["best"] == values["val/loss"] == schedule["best"]
    higher = [*options, "+metrics.Right={_target_: src.metrics.mean.BatchMean, key: loss}"]
    higher += ["+metrics.Right.higher_is_better=true", "trainer.monitor=val/Right"]
    train(experiment(NAME, corpus, tmp_path / "higher", *higher))
    schedule = Run(tmp_path / "higher").read_state()["optimizations"]["main"]["scheduler"]
    assert schedule["mode"] == "max"


def test_metrics_do_not_depend_on_the_batch_size(corpus, tmp_path):
    train(experiment(NAME, corpus, tmp_path / "r", *QUICK))
    results = []
    for size in (1, 3, 100):
        results.append(inference("asr", tmp_path / "r", f"+dataloader.max_items={size}"))
    for other in results[1:]:
        assert other["test/WER"] == results[0]["test/WER"]
        assert other["test/loss"] == pytest.approx(results[0]["test/loss"], rel=1e-4)
