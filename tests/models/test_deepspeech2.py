import pytest
import torch
from torch import nn

from src.models.deepspeech2 import THREE_CONVOLUTIONS, DeepSpeech2
from src.models.layers.lookahead import Lookahead
from src.models.layers.masked_batch_norm import MaskedBatchNorm
from src.models.layers.recurrent import Recurrent, flip
from src.utils.lengths import valid


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


def test_three_convolutions_halve_time_once():
    model = DeepSpeech2(161, 29, convolutions=THREE_CONVOLUTIONS, layers=1, width=4)
    assert [model.output_length(n) for n in (100, 101, 1)] == [50, 51, 1]


@pytest.mark.parametrize("bad", [{"layers": 0}, {"layers": 8}, {"convolutions": []}, {"cell": "x"}])
def test_bad_options_are_named(bad):
    with pytest.raises(ValueError):
        DeepSpeech2(16, 5, **{"width": 4, **bad})


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_equals_torch_on_packed_sequences(cell):
    torch.manual_seed(0)
    layer = Recurrent(cell, 5, 7, bidirectional=True)
    options = {"nonlinearity": "relu"} if cell == "rnn" else {}
    kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
    packed = kind(5, 7, batch_first=True, bidirectional=True, **options)
    for name, value in layer.forwards.state_dict().items():
        packed.state_dict()[name].copy_(value)
    for name, value in layer.backwards.state_dict().items():
        packed.state_dict()[f"{name}_reverse"].copy_(value)
    x, length = torch.randn(3, 9, 5, requires_grad=True), torch.tensor([9, 4, 1])
    sequence = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True)
    states, _ = nn.utils.rnn.pad_packed_sequence(packed(sequence)[0], batch_first=True)
    wanted = states[..., :7] + states[..., 7:]
    mask = valid(length, 9).unsqueeze(2)
    found = layer(x, length) * mask
    torch.testing.assert_close(found, wanted)
    (a,) = torch.autograd.grad(found.square().sum(), x)
    (b,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(a * mask, b * mask)


def test_flip_leaves_padding_at_the_end():
    x = torch.arange(5.0).reshape(1, 5, 1)
    assert flip(x, torch.tensor([3]))[0, :, 0].tolist() == [2, 1, 0, 3, 4]


def test_batch_norm_equals_torch_on_valid_frames():
    torch.manual_seed(0)
    ours, torchs = MaskedBatchNorm(4), nn.BatchNorm1d(4)
    x, length = torch.randn(3, 4, 10) * 3 + 5, torch.tensor([10, 6, 2])
    mask = valid(length, 10).unsqueeze(1).float()
    x = x * mask
    frames = torch.cat([x[i, :, :n].T for i, n in enumerate(length)])
    for _ in range(3):
        found = ours(x, mask)
        wanted = torchs(frames)
    got = torch.cat([found[i, :, :n].T for i, n in enumerate(length)])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, torchs.running_mean)
    torch.testing.assert_close(ours.running_var, torchs.running_var, rtol=1e-4, atol=1e-5)
    assert not (found * (1 - mask)).any()


def test_lookahead_by_hand():
    layer = Lookahead(1, 2)
    layer.conv.weight.data = torch.tensor([[[1.0, 10.0, 100.0]]])
    assert layer(torch.tensor([[[1.0], [2.0], [3.0]]]))[0, :, 0].tolist() == [321.0, 32.0, 3.0]


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
