import pytest
import torch

from src.loss.ctc import CTCLoss
from src.loss.intermediate_ctc import IntermediateCTC
from src.models.conformer import ConformerEncoder
from src.models.encoder_ctc import EncoderCTC
from src.text_encoder.characters import CharacterEncoder

SMALL = {"feat_in": 8, "d_model": 8, "num_heads": 2, "subsampling_factor": 4}


def model_of(num_layers=3, **options):
    torch.manual_seed(0)
    encoder = ConformerEncoder(
        num_layers=num_layers, subsampling_conv_channels=4, dropout=0.0, dropout_att=0.0, **SMALL
    )
    return EncoderCTC(encoder, 5, **options)


def targets():
    return {"tokens": torch.tensor([[1, 2], [3, 0]]), "tokens_length": torch.tensor([2, 1])}


def test_layers_share_the_head_and_the_loss_is_their_mean():
    spectrogram, length = torch.randn(2, 8, 40), torch.tensor([40, 30])
    model = model_of(intermediate_layers=[1, 2])
    model.encoder.dropout_pre_encoder = 0.0
    outputs = model.train()(spectrogram, length)
    layers = outputs["intermediate_log_probs"]
    assert layers.shape == (2, 2, 10, 5)
    states, _ = model.encoder.all_hidden_states(spectrogram, length)
    torch.testing.assert_close(layers[:, 1], model.head(states[2]).log_softmax(-1))
    torch.testing.assert_close(outputs["log_probs"], model.head(states[3]).log_softmax(-1))
    loss = IntermediateCTC()(**outputs, **targets())["loss"]
    each = [
        CTCLoss()(layer, outputs["log_probs_length"], **targets())["loss"]
        for layer in layers.unbind(1)
    ]
    torch.testing.assert_close(loss, sum(each) / 2)


def test_evaluation_has_no_intermediate_outputs():
    outputs = model_of(intermediate_layers=[1]).eval()(
        torch.randn(2, 8, 40), torch.tensor([40, 30])
    )
    assert set(outputs) == {"log_probs", "log_probs_length"}
    assert IntermediateCTC().eval()(**outputs, **targets())["loss"] == 0
    with pytest.raises(ValueError, match="model.intermediate_layers"):  # in training
        IntermediateCTC()(**outputs, **targets())


def test_own_tokens_come_from_the_text():
    encoder = CharacterEncoder(language="en")
    model = model_of(intermediate_layers=[1], intermediate_vocab_size=len(encoder)).train()
    outputs = model(torch.randn(2, 8, 40), torch.tensor([40, 30]))
    loss = IntermediateCTC(encoder)
    value = loss(**outputs, **targets(), text=["ab", "c"])["loss"]
    tokens = {
        "tokens": torch.tensor([encoder.encode("ab"), [*encoder.encode("c"), 0]]),
        "tokens_length": torch.tensor([2, 1]),
    }
    layer = outputs["intermediate_log_probs"][:, 0]
    expected = CTCLoss()(layer, outputs["log_probs_length"], **tokens)["loss"]
    torch.testing.assert_close(value, expected)
    value.backward()
    assert model.intermediate_head.weight.grad.any()
    shared = model_of(intermediate_layers=[1]).train()(
        torch.randn(2, 8, 40), torch.tensor([40, 30])
    )
    with pytest.raises(ValueError, match="intermediate_vocab_size: 5"):
        loss(**shared, **targets(), text=["ab", "c"])


def test_layers_that_do_not_exist_are_named():
    for layers in ([0], [3]):
        with pytest.raises(ValueError, match="intermediate_layers"):
            model_of(intermediate_layers=layers)
