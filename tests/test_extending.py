"""What the recipes of docs/extending.md can build: each a test of at most forty lines."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from src.datasets.custom_dir import CustomDir
from src.run import load_run
from src.tasks.recognition import RecognitionTask
from src.trainer.trainer import Trainer
from src.utils.checkpoint import read_weights
from src.utils.files import read_jsonl
from src.utils.lengths import padding_mask
from tests.demo import SMALL, experiment
from train import train

HERE = "tests.test_extending"
MEAN = "src.metrics.mean.BatchMean"
SETS = ("train", "val", "test")
QUICK = ("debug=smoke", "trust=[tests]", "datasets.train.limit=12")


def changed(config: DictConfig, **nodes: dict) -> DictConfig:
    """What one writes into YAML files of one's own: nodes of the config, replaced."""
    with open_dict(config):
        config.noise = None  # that of the demo's datasets
        for key, value in nodes.items():
            OmegaConf.update(config, key.replace("__", "."), value, merge=False)
    return config


@contextmanager
def killed_at_step(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training ends as if the process were killed, before a step of any trainer."""
    update = Trainer.update

    def update_or_end(trainer, *args, **kwargs):
        if trainer.step == step:
            raise SystemExit(1)
        return update(trainer, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "update", update_or_end)
        yield


def assert_same_weights(whole: Path, resumed: Path) -> None:
    """Two runs have ended with the same weights, to the bit."""
    wanted, weights = read_weights(whole / "last"), read_weights(resumed / "last")
    assert wanted.keys() == weights.keys()
    for key, value in wanted.items():
        assert torch.equal(value, weights[key]), key


# A model: separable convolutions with residuals, as in QuartzNet -----------------------------


class SeparableBlock(nn.Module):
    def __init__(self, channels, kernel_size):
        super().__init__()
        options = {"padding": kernel_size // 2, "groups": channels}
        self.depthwise = nn.Conv1d(channels, channels, kernel_size, **options)
        self.pointwise = nn.Conv1d(channels, channels, 1)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x, mask):
        y = self.norm(self.pointwise(self.depthwise(x.masked_fill(mask, 0.0))))
        return F.relu(x + y)


class SmallQuartzNet(nn.Module):
    def __init__(self, feat_in, vocab_size, channels=16, num_blocks=2):
        super().__init__()
        self.stem = nn.Conv1d(feat_in, channels, 11, stride=2, padding=5)
        self.blocks = nn.ModuleList(SeparableBlock(channels, 11) for _ in range(num_blocks))
        self.head = nn.Conv1d(channels, vocab_size, 1)

    def output_length(self, frames):
        return (frames - 1) // 2 + 1

    def forward(self, spectrogram, spectrogram_length, **_):
        length = self.output_length(spectrogram_length)
        x = self.stem(spectrogram)
        for block in self.blocks:
            x = block(x, padding_mask(length, x.shape[2]).unsqueeze(1))
        log_probs = self.head(x).transpose(1, 2).log_softmax(-1)
        return {"log_probs": log_probs, "log_probs_length": length}


def test_model(corpus, tmp_path):
    config = experiment("asr_deepspeech2", corpus, tmp_path / "r", *QUICK)
    model = {"_target_": f"{HERE}.SmallQuartzNet", "feat_in": "${features.n_mels}"}
    values = train(changed(config, model=model))
    assert values["test/WER"] > 0
    transcribe = load_run(tmp_path / "r", trusted=["tests"])
    assert isinstance(transcribe(next((corpus / "audio").rglob("*.flac"))), str)


# A model whose decoding needs the model itself: a transducer's shape --------------------------


class SmallTransducer(nn.Module):
    def __init__(self, feat_in, vocab_size, d_model=16):
        super().__init__()
        self.encoder = nn.Linear(feat_in, d_model)
        self.predictor = nn.Embedding(vocab_size, d_model)
        self.joint = nn.Linear(d_model, vocab_size)

    def forward(self, spectrogram, spectrogram_length, tokens=None, **_):
        encoded = self.encoder(spectrogram.transpose(1, 2))[:, ::4]
        outputs = {"encoded": encoded, "encoded_length": (spectrogram_length - 1) // 4 + 1}
        if tokens is not None:
            history = self.predictor(F.pad(tokens, (1, 0)))  # starts with the blank
            outputs["joint"] = self.joint(torch.tanh(encoded[:, :, None] + history[:, None]))
        return outputs


class MeanOfJoint(nn.Module):
    """The shape of a transducer's loss [B, T, L + 1, V], without its sum over alignments."""

    def forward(self, joint, tokens, **_):
        scores = joint[:, :, :-1].log_softmax(-1).mean(1)  # [B, L, V]
        return {"loss": F.nll_loss(scores.transpose(1, 2), tokens)}


class TransducerTask(RecognitionTask):
    def search(self, decoder, model, outputs):
        texts = []
        for encoded, length in zip(outputs["encoded"], outputs["encoded_length"], strict=True):
            tokens = [0]
            for frame in encoded[:length]:
                state = model.predictor(torch.tensor(tokens[-1]))
                best = int(model.joint(torch.tanh(frame + state)).argmax())
                tokens += [best] if best else []
            texts.append(tokens[1:])
        return texts


def test_transducer(corpus, tmp_path):
    config = experiment("asr_deepspeech2", corpus, tmp_path / "r", *QUICK)
    model = {"_target_": f"{HERE}.SmallTransducer", "feat_in": "${features.n_mels}"}
    task = {"_target_": f"{HERE}.TransducerTask", "decoders": {"greedy": {}}}
    loss = {"_target_": f"{HERE}.MeanOfJoint"}
    assert train(changed(config, model=model, task=task, loss=loss))["test/WER"] > 0


# Enhancement, with two weighted losses --------------------------------------------------------


class NoisyCopies(CustomDir):
    def make_item(self, row, id, seed):
        item = super().make_item(row, id, seed)
        noise = torch.randn(len(item["audio"]), generator=torch.Generator().manual_seed(seed))
        return item | {"clean_audio": item["audio"], "audio": item["audio"] + 0.01 * noise}


def noisy_copies(corpus):
    options = {"dir": str(next((corpus / "audio").iterdir())), "limit": 4}
    return dict.fromkeys(SETS, {"_target_": f"{HERE}.NoisyCopies", **options})


class SmallEnhancer(nn.Module):
    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(1, 1, 9, padding=4, bias=False)

    def forward(self, audio, **_):
        return {"enhanced": self.filter(audio.unsqueeze(1)).squeeze(1)}


class Distance(nn.Module):
    def __init__(self, spectral=False):
        super().__init__()
        self.spectral = spectral

    def forward(self, enhanced, clean_audio, **_):
        signals = (enhanced, clean_audio)
        if self.spectral:
            window = torch.hann_window(256)
            signals = (torch.stft(s, 256, window=window, return_complex=True) for s in signals)
        return {"loss": F.l1_loss(*(s.abs() if s.is_complex() else s for s in signals))}


def test_enhancement_with_two_losses(corpus, tmp_path):
    l1, spectral = ({"_target_": f"{HERE}.Distance", "spectral": value} for value in (0, 1))
    loss = {"losses": {"l1": l1, "spectral": spectral}, "weights": {"l1": 10.0}}
    options = ("debug=smoke", "trust=[tests]", "trainer.monitor=val/loss")
    config = experiment("separation_mossformer2", corpus, tmp_path / "r", *options)
    config = changed(
        config,
        model={"_target_": f"{HERE}.SmallEnhancer"},
        task={"_target_": "src.tasks.base.Task"},
        datasets=noisy_copies(corpus),
        loss={"_target_": "src.loss.weighted_sum.WeightedSum", **loss},
        metrics={key: {"_target_": MEAN, "key": key} for key in ("l1", "loss")},
    )
    values = train(config)
    assert 0 < 10 * values["test/l1"] < values["test/loss"]


# Separate -> transcribe: one system of two modules, each from a run of its own ----------------


class SeparateThenTranscribe(nn.Module):
    def __init__(self, separator, features, recogniser, vocab_size):
        super().__init__()
        self.separator, self.features, self.recogniser = separator, features, recogniser

    def forward(self, audio, audio_length, **batch):
        estimates = self.separator(audio=audio, audio_length=audio_length)["estimates"]
        features = self.features(audio=estimates[:, 0], audio_length=audio_length)
        return {"estimates": estimates, **self.recogniser(**features)}


def test_separate_then_transcribe(corpus, tmp_path):
    common = ("debug=smoke", "sample_rate=16000")
    separator = ("model.num_layers=1", "model.d_model=16")
    runs = {"separator": tmp_path / "s", "recogniser": tmp_path / "r"}
    train(experiment("separation_mossformer2", corpus, runs["separator"], *common, *separator))
    train(experiment("asr_deepspeech2", corpus, runs["recogniser"], *common, *SMALL))
    config = experiment("asr_deepspeech2", corpus, tmp_path / "both", *common, "trust=[tests]")
    saved = {name: OmegaConf.load(runs[name] / "config.yaml") for name in runs}
    model = {"_target_": f"{HERE}.SeparateThenTranscribe", "features": config.features}
    model |= {name: saved[name].model for name in runs}
    model["recogniser"]["vocab_size"] = 29
    config = changed(
        config,
        model=model,
        init={name: {"source": str(path), "part": None} for name, path in runs.items()},
        transforms__batch={"train": {}, "inference": {}},
        optimizer__lr=0.0,
    )
    assert train(config)["test/WER"] > 0
    weights = read_weights(tmp_path / "both" / "last")
    for name, path in runs.items():
        for key, value in read_weights(path / "best").items():
            assert "running" in key or torch.equal(weights[f"{name}.{key}"].float(), value.float())


# Adversarial training: two optimizers that take turns ------------------------------------------


class Adversaries(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = SmallEnhancer()
        self.discriminator = nn.Conv1d(1, 1, 9, stride=4)

    def forward(self, audio, clean_audio=None, **_):
        fake = self.generator(audio)["enhanced"]
        real = fake if clean_audio is None else clean_audio  # None: in inference
        signals = {"real": real, "fake": fake.detach(), "fooled": fake}
        return {key: self.discriminator(x.unsqueeze(1)) for key, x in signals.items()}


class LeastSquares(nn.Module):
    def forward(self, real, fake, fooled, **_):
        parts = {"generator": (fooled - 1).square().mean()}
        parts["discriminator"] = (real - 1).square().mean() + fake.square().mean()
        return {**parts, "loss": parts["generator"]}


LENGTH = tuple(f"trainer.{key}" for key in ("epochs=2", "steps_per_epoch=3", "save_every_steps=1"))


class AdversarialTrainer(Trainer):
    def optimise(self, batches):
        values = self.update(batches, ["discriminator"], loss="discriminator")
        return values | self.update(batches, ["generator"], loss="generator")


def test_adversarial_training(corpus, tmp_path, monkeypatch):
    def run(name, *options):
        options = ("trust=[tests]", "trainer.monitor=null", *LENGTH, *options)
        other = {"parts": "discriminator", "optimizer": {"_target_": "torch.optim.SGD", "lr": 0.1}}
        return changed(
            experiment("separation_mossformer2", corpus, tmp_path / name, *options),
            model={"_target_": f"{HERE}.Adversaries"},
            task={"_target_": "src.tasks.base.Task"},
            loss={"_target_": f"{HERE}.LeastSquares"},
            datasets=noisy_copies(corpus),
            metrics={"loss": {"_target_": MEAN, "key": "loss"}},
            optimizers={"generator": {"parts": "generator"}, "discriminator": other},
            trainer___target_=f"{HERE}.AdversarialTrainer",
        )

    values = train(run("whole"))
    with killed_at_step(4, monkeypatch):  # the second of the second epoch
        train(run("resumed"))
    more = [f"trainer.resume_from={tmp_path / 'resumed'}"]
    assert train(run("resumed", *more), more) == values
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


# A dataset that is only an iterator ------------------------------------------------------------


class Tones:
    """Endless tones, each with a word for its pitch."""

    def __init__(self, sample_rate, text_encoder=None, **options):
        self.sample_rate, self.text_encoder = sample_rate, text_encoder

    def iterate(self, epoch):
        for i in range(6):
            text = "high" if (i + epoch) % 2 else "low"
            time = torch.arange(self.sample_rate) / self.sample_rate
            audio = 0.1 * torch.sin(2 * math.pi * (880 if text == "high" else 220) * time)
            tokens = torch.tensor(self.text_encoder.encode(text))
            yield {"id": f"{epoch}-{i}", "path": "", "audio": audio, "text": text, "tokens": tokens}


def test_iterable_dataset(corpus, tmp_path):
    def run(name, *options):
        options = (*SMALL, "trust=[tests]", "trainer.save_every_steps=1", "dataloader.max_items=2")
        config = experiment("asr_deepspeech2", corpus, tmp_path / name, *options)
        data = dict.fromkeys(SETS, {"_target_": f"{HERE}.Tones"})
        return changed(config, datasets=data)

    with pytest.raises(ValueError, match=r"trainer.steps_per_epoch"):
        train(run("x"))
    options = {"trainer__steps_per_epoch": 2, "scheduler__total_steps": 4}
    values = train(changed(run("whole"), trainer__epochs=2, **options))
    assert values["test/WER_reference_length"] == 6
    train(changed(run("resumed"), trainer__epochs=1, **options))
    more = ["trainer.epochs=2", f"trainer.resume_from={tmp_path / 'resumed'}"]
    config = changed(run("resumed"), trainer__resume_from=str(tmp_path / "resumed"))
    assert train(config, more) == values
    assert_same_weights(tmp_path / "whole", tmp_path / "resumed")


# Two validation sets with metrics of their own -------------------------------------------------


def test_two_validation_sets(corpus, tmp_path):
    options = (*QUICK, *SMALL, "trainer.validate_on=[val,short]", "trainer.monitor=short/CER")
    config = experiment("asr_deepspeech2", corpus, tmp_path / "r", *options)
    config = changed(
        config,
        datasets__val_short={**config.datasets.val, "max_duration": 2.0},
        evaluations__short={
            "dataset": "val_short",
            "metrics": {"CER": {"_target_": "src.metrics.cer.CER"}},
        },
    )
    values = train(config)
    assert {"val/WER", "val/loss", "short/CER", "test/WER"} <= values.keys()
    assert "short/WER" not in values and "short/loss" not in values
    rows = read_jsonl(tmp_path / "r" / "metrics.jsonl")
    assert rows[-2]["short/CER_reference_length"] < rows[-3]["val/CER_reference_length"]


# The rule ---------------------------------------------------------------------------------------


def test_each_section_has_at_most_forty_lines():
    sections = Path(__file__).read_text().split("\n# ")[1:]
    sizes = [sum(bool(line.strip()) for line in part.splitlines()[1:]) for part in sections]
    assert len(sizes) == 8 and max(sizes) <= 40, sizes
