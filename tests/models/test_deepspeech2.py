import numpy as np
import pytest
import torch

from src.models.deepspeech2 import THREE_CONVOLUTIONS, TWO_CONVOLUTIONS, DeepSpeech2

SMALL = [{"out_channels": 2, "kernel_size": (3, 3), "stride": (2, 2)}] * 2


def count(**options):
    with torch.device("meta"):
        model = DeepSpeech2(161, 29, **options)
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_sizes():
    assert count() == 86_618_400
    assert count(rnn_type="gru") == 65_036_576
    assert count(rnn_type="gru", hidden_size=800) == 41_187_968
    assert count(rnn_type="gru", hidden_size=1280, num_layers=7) == 138_285_088
    assert count(bidirectional=False, lookahead_context=19) == 43_475_232


@pytest.mark.parametrize("convolutions", [TWO_CONVOLUTIONS, THREE_CONVOLUTIONS])
def test_convolutions_of_the_paper_halve_time_once(convolutions):
    model = DeepSpeech2(161, 29, convolutions=convolutions, num_layers=1, hidden_size=4)
    assert [model.output_length(n) for n in (100, 101, 1)] == [50, 51, 1]


def test_output_length_of_numbers_arrays_and_tensors():
    model = DeepSpeech2(16, 5, SMALL, num_layers=1, hidden_size=4)
    frames, wanted = [1, 2, 4, 5, 8, 9, 100], [1, 1, 1, 2, 2, 3, 25]
    assert [model.output_length(n) for n in frames] == wanted
    array = model.output_length(np.array(frames))
    assert array.dtype == np.int64 and array.tolist() == wanted
    tensor = model.output_length(torch.tensor(frames))
    assert tensor.dtype == torch.int64 and tensor.tolist() == wanted


@pytest.mark.parametrize(
    "bad", [{"num_layers": 0}, {"num_layers": 8}, {"convolutions": []}, {"rnn_type": "x"}]
)
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError):
        DeepSpeech2(16, 5, **{"hidden_size": 4, **bad})


@pytest.mark.parametrize("num_layers", [1, 7])
def test_positions_of_norms(num_layers):
    model = DeepSpeech2(16, 5, SMALL, num_layers=num_layers, hidden_size=4, head_sizes=[6])
    assert len(model.rnns) == num_layers and len(model.rnn_norms) == num_layers - 1
    assert [norm.weight.numel() for norm in model.head_norms] == [4, 6]
    assert [tuple(linear.weight.shape) for linear in model.head] == [(6, 4), (5, 6)]


def test_training_ignores_padding():
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, num_layers=2, hidden_size=4)
    x, length = torch.randn(2, 16, 30), torch.tensor([30, 20])
    x[1, :, 20:] = 0
    short = model(x, length)["log_probs"]
    longer = model(torch.nn.functional.pad(x, (0, 14)), length)["log_probs"]
    for i, frames in enumerate(model.output_length(length)):
        torch.testing.assert_close(short[i, :frames], longer[i, :frames], rtol=1e-4, atol=1e-5)


def test_dropout_only_in_training():
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, num_layers=2, hidden_size=4, dropout=0.5)
    x, length = torch.randn(1, 16, 30), torch.tensor([30])
    assert not torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])
    model.eval()
    assert torch.equal(model(x, length)["log_probs"], model(x, length)["log_probs"])


def test_lookahead_context_is_limited():
    model = DeepSpeech2(
        16,
        5,
        [{"out_channels": 2, "kernel_size": (3, 1), "stride": (1, 1)}] * 2,
        num_layers=1,
        hidden_size=4,
        bidirectional=False,
        lookahead_context=2,
    ).eval()
    x = torch.randn(1, 16, 20)
    y = x.clone()
    y[..., 10:] = 0
    length = torch.tensor([20])
    a, b = (model(spectrogram=s, spectrogram_length=length)["log_probs"] for s in (x, y))
    torch.testing.assert_close(a[:, :8], b[:, :8])
    assert not torch.allclose(a[:, 8:], b[:, 8:])


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_output_is_float32(precision):
    torch.manual_seed(0)
    model = DeepSpeech2(16, 5, SMALL, num_layers=2, hidden_size=4)
    x, length = torch.randn(2, 16, 30), torch.tensor([30, 30])
    wanted = model(x, length)["log_probs"]
    with torch.autocast("cpu", precision):
        output = model(x, length)["log_probs"]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, wanted, atol=0.1, rtol=0.1)
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
