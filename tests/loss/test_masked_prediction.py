import pytest
import torch

from src.loss.masked_prediction import MaskedPredictionLoss
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from tests.golden import golden, part


@pytest.mark.parametrize("case", ["one", "two"])
def test_equals_reference_decoder_and_loss(case):
    tensors, about = golden("nest_decoder_loss")
    config = about["cases"][case]
    num_codebooks = config["num_decoders"]
    encoder = ConformerEncoder(num_layers=1, d_model=24, num_heads=2, subsampling_conv_channels=2)
    model = NEST(encoder, BlockMask(), config["num_classes"], num_codebooks)
    state = {k.rpartition(".")[2]: v for k, v in part(tensors, f"state.{case}.").items()}
    model.decoder.load_state_dict({"weight": state["weight"][..., 0], "bias": state["bias"]})
    encoded = tensors[f"in.{case}.encoded"].transpose(1, 2)
    log_probs = model.logits(encoded).log_softmax(2)
    torch.testing.assert_close(log_probs, tensors[f"out.{case}.log_probs"], rtol=0, atol=2e-5)
    frames = tensors[f"in.{case}.frame_mask"].float().unflatten(1, (-1, 8)).mean(2)
    masked = frames > config["mask_threshold"]
    assert masked.sum() == config["n_masked"]
    targets = tensors[f"in.{case}.targets"][masked]
    outputs = MaskedPredictionLoss()(logits=model.logits(encoded[masked]), targets=targets)
    expected = tensors[f"out.{case}.loss"][0]
    torch.testing.assert_close(outputs["loss"], expected, rtol=0, atol=2e-5)


def test_loss_and_accuracy_by_hand():
    probabilities = torch.tensor([[[0.8], [0.2]], [[0.4], [0.6]]])  # [N, codebook_size, 1]
    losses = MaskedPredictionLoss()(logits=probabilities.log(), targets=torch.tensor([[0], [0]]))
    expected = -torch.tensor([0.8, 0.4]).log().mean()
    torch.testing.assert_close(losses["loss"], expected)
    assert losses["masked_prediction"] == losses["loss"] and losses["accuracy"] == 0.5


def test_batch_without_masked_tokens_has_zero_loss():
    logits = torch.zeros(0, 5, 2, requires_grad=True)
    losses = MaskedPredictionLoss()(logits=logits, targets=torch.zeros(0, 2, dtype=torch.long))
    losses["loss"].backward()
    assert losses["loss"] == 0 and losses["accuracy"] == 0
