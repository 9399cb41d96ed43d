import importlib
import inspect
import pkgutil

import pytest
import torch

import src.models

TINY = {
    "DeepSpeech2": [
        {"width": 8, "layers": 2, "convolutions": convolutions, **more}
        for convolutions in [
            [{"channels": 3, "kernel": (5, 5), "stride": (2, 2)}] * 2,
            [{"channels": 3, "kernel": (5, 3), "stride": (2, 1)}] * 3,
        ]
        for more in [
            {"cell": "lstm"},
            {"cell": "gru", "hidden": [7]},
            {"cell": "rnn", "bidirectional": False, "lookahead": 4},
        ]
    ],
    "Baseline": [{"width": 8, "stride": 2}, {"width": 8, "stride": 3, "context": 5}],
}


def models():
    for module in pkgutil.iter_modules(src.models.__path__, "src.models."):
        if module.ispkg:
            continue
        found = importlib.import_module(module.name)
        for name, kind in inspect.getmembers(found, inspect.isclass):
            if issubclass(kind, torch.nn.Module) and kind.__module__ == module.name:
                yield name, kind


CASES = [(kind, options) for name, kind in models() for options in TINY.get(name, [])]


def test_every_model_has_an_entry_here():
    assert {name for name, _ in models()} == set(TINY), "add tiny options to TINY"


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.parametrize("lengths", [[37, 20, 9, 1], [25, 25, 25], [2, 1]])
def test_alone_and_beside_others(kind, options, lengths):
    torch.manual_seed(0)
    model = kind(n_features=16, n_tokens=6, **options)
    spectrogram = torch.zeros(len(lengths), 16, max(lengths))
    for row, length in zip(spectrogram, lengths, strict=True):
        row[:, :length] = torch.randn(16, length)
    length = torch.tensor(lengths)
    model.train()
    model(spectrogram=spectrogram, spectrogram_length=length)  # fills the running statistics
    model.eval()
    together = model(spectrogram=spectrogram, spectrogram_length=length)
    assert together["log_probs_length"].dtype == torch.int64
    assert torch.equal(together["log_probs_length"], model.output_length(length))
    for i, own in enumerate(lengths):
        alone = model(
            spectrogram=spectrogram[i : i + 1, :, :own], spectrogram_length=length[i : i + 1]
        )
        frames = int(alone["log_probs_length"][0])
        assert frames == together["log_probs_length"][i] == model.output_length(own)
        torch.testing.assert_close(
            together["log_probs"][i, :frames], alone["log_probs"][0, :frames], rtol=1e-4, atol=1e-4
        )
