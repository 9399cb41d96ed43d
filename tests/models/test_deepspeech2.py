import numpy as np
import pytest
import torch

from src.models.deepspeech2 import THREE_CONVOLUTIONS, TWO_CONVOLUTIONS, DeepSpeech2

SMALL = [{"channels": 2, "kernel": (3, 3), "stride": (2, 2)}] * 2


def count(**options):
    with torch.device("meta"):
        model = DeepSpeech2(161, 29, **options)
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_sizes():
    assert count() == 86_618_400
    assert count(cell="gru") == 65_036_576
    assert count(cell="gru", width=800) == 41_187_968
    assert count(cell="gru", width=1280, layers=7) == 138_285_088
    assert count(bidirectional=False, lookahead=19) == 43_475_232


@pytest.mark.parametrize("convolutions", [TWO_CONVOLUTIONS, THREE_CONVOLUTIONS])
def test_convolutions_of_the_paper_halve_time_once(convolutions):
    model = DeepSpeech2(161, 29, convolutions=convolutions, layers=1, width=4)
    assert [model.output_length(n) for n in (100, 101, 1)] == [50, 51, 1]


def test_output_length_of_numbers_arrays_and_tensors():
    model = DeepSpeech2(16, 5, SMALL, layers=1, width=4)
    frames, wanted = [1, 2, 4, 5, 8, 9, 100], [1, 1, 1, 2, 2, 3, 25]
    assert [model.output_length(n) for n in frames] == wanted
    array = model.output_length(np.array(frames))
    assert array.dtype == np.int64 and array.tolist() == wanted
    tensor = model.output_length(torch.tensor(frames))
    assert tensor.dtype == torch.int64 and tensor.tolist() == wanted


@pytest.mark.parametrize("bad", [{"layers": 0}, {"layers": 8}, {"convolutions": []}, {"cell": "x"}])
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError):
        DeepSpeech2(16, 5, **{"width": 4, **bad})


@pytest.mark.parametrize("layers", [1, 7])
def test_norms_stand_between_recurrent_layers_and_before_linear_ones(layers):
    model = DeepSpeech2(16, 5, SMALL, layers=layers, width=4, hidden=[6])
    assert len(model.recurrent) == layers and len(model.norms) == layers - 1
    assert [norm.weight.numel() for norm in model.head_norms] == [4, 6]
    assert [tuple(linear.weight.shape) for linear in model.head] == [(6, 4), (5, 6)]


def test_training_ignores_padding():
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, layers=2, width=4)
    x, length = torch.randn(2, 16, 30), torch.tensor([30, 20])
    x[1, :, 20:] = 0
    short = model(x, length)["log_probs"]
    longer = model(torch.nn.functional.pad(x, (0, 14)), length)["log_probs"]
    for i, frames in enumerate(model.output_length(length)):
        torch.testing.assert_close(short[i, :frames], longer[i, :frames], rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, layers=2, width=4, dropout=0.5)
    x, length = torch.randn(1, 16, 30), torch.tensor([30])
    assert not torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])
    model.eval()
    assert torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])


def test_lookahead_sees_no_further():
    model = DeepSpeech2(
        16,
        5,
        [{"channels": 2, "kernel": (3, 1), "stride": (1, 1)}] * 2,
        layers=1,
        width=4,
        bidirectional=False,
        lookahead=2,
    ).eval()
    x = torch.randn(1, 16, 20)
    y = x.clone()
    y[..., 10:] = 0
    length = torch.tensor([20])
    a, b = (model(spectrogram=s, spectrogram_length=length)["log_probs"] for s in (x, y))
    torch.testing.assert_close(a[:, :8], b[:, :8])
    assert not torch.allclose(a[:, 8:], b[:, 8:])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_and_ends_in_float32(precision):
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, layers=2, width=4)
    x, length = torch.randn(2, 16, 30), torch.tensor([30, 30])
    wanted = model(x, length)["log_probs"]
    with torch.autocast("cpu", precision):
        found = model(x, length)["log_probs"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0.1)
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
