import torch

from src.models.layers.deepspeech.lookahead import Lookahead


def test_by_hand():
    layer = Lookahead(1, 2)
    layer.conv.weight.data = torch.tensor([[[1.0, 10.0, 100.0]]])
    assert layer(torch.tensor([[[1.0], [2.0], [3.0]]]))[0, :, 0].tolist() == [321.0, 32.0, 3.0]


def test_features_do_not_mix():
    layer = Lookahead(3, 4)
    x = torch.zeros(1, 6, 3)
    x[..., 1] = 1
    y = layer(x)
    assert y[..., 1].any() and not y[..., [0, 2]].any()


def test_number_of_parameters():
    assert [p.numel() for p in Lookahead(7, 19).parameters()] == [7 * 20]
