import pytest
import torch
from torch import nn

from src.models.layers.deepspeech.recurrent import Recurrent, reversed_frames, take_frames
from src.utils.lengths import padding_mask

TORCH = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
LENGTHS = [[9, 4, 1], [9, 9, 9], [1, 1, 1]]


def packed_twin(layer: Recurrent, rnn_type: str) -> nn.Module:
    """torch's own layer of both directions, with the same weights."""
    options = {"nonlinearity": "relu"} if rnn_type == "rnn" else {}
    twin = TORCH[rnn_type](5, 7, batch_first=True, bidirectional=True, **options)
    state = dict(layer.forward_rnn.state_dict())
    back = {f"{name}_reverse": value for name, value in layer.backward_rnn.state_dict().items()}
    twin.load_state_dict(state | back)
    return twin


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("rnn_type", list(TORCH))
def test_equals_torch_on_packed_sequences(rnn_type, lengths):
    torch.manual_seed(0)
    layer = Recurrent(rnn_type, 5, 7, bidirectional=True)
    twin, length = packed_twin(layer, rnn_type), torch.tensor(lengths)
    x = torch.randn(3, max(lengths), 5, requires_grad=True)
    sequence = nn.utils.rnn.pack_padded_sequence(x, length, batch_first=True)
    states, _ = nn.utils.rnn.pad_packed_sequence(twin(sequence)[0], batch_first=True)
    wanted = states[..., :7] + states[..., 7:]
    mask = ~padding_mask(length, max(lengths)).unsqueeze(2)
    output = layer(x, length) * mask
    torch.testing.assert_close(output, wanted)
    (ours,) = torch.autograd.grad(output.square().sum(), x)
    (theirs,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(ours, theirs)
    assert not (ours * ~mask).any()


def test_unidirectional_is_causal():
    torch.manual_seed(0)
    layer, length = Recurrent("gru", 5, 7, bidirectional=False), torch.tensor([8])
    x = torch.randn(1, 8, 5)
    cut = x * ~padding_mask(torch.tensor([4]), 8).unsqueeze(2)
    whole, part = layer(x, length), layer(cut, length)
    torch.testing.assert_close(whole[:, :4], part[:, :4])
    assert not torch.allclose(whole[:, 4:], part[:, 4:])


def test_reversal_leaves_padding_at_the_end():
    assert reversed_frames(torch.tensor([3]), 5).tolist() == [[2, 1, 0, 3, 4]]


def test_reversal_twice_changes_nothing():
    x, index = torch.randn(3, 6, 2), reversed_frames(torch.tensor([6, 3, 1]), 6)
    assert torch.equal(take_frames(take_frames(x, index), index), x)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rnn_type", list(TORCH))
def test_half_precision_on_a_cpu(rnn_type, precision):
    torch.manual_seed(0)
    layer, length = Recurrent(rnn_type, 5, 7, bidirectional=True), torch.tensor([9, 4])
    x = torch.randn(2, 9, 5)
    with torch.autocast("cpu", precision):
        half = layer(x.to(precision), length)
    half.sum().backward()
    torch.testing.assert_close(half, layer(x, length), atol=0.02, rtol=0.02)


def test_unknown_rnn_type_is_named():
    with pytest.raises(ValueError, match="'lstn'; rnn, gru or lstm"):
        Recurrent("lstn", 5, 7, bidirectional=True)
