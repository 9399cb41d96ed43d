import pytest
import torch

from src.loss.masked_prediction import MaskedPredictionLoss
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.nest import NEST
from tests.golden import golden, part


@pytest.mark.parametrize("case", ["one", "two"])
def test_the_reference_decoder_and_loss(case):
    tensors, about = golden("nest_decoder_loss")
    config = about["cases"][case]
    books = config["num_decoders"]
    encoder = ConformerEncoder(layers=1, width=24, heads=2, subsampling_channels=2)
    model = NEST(encoder, BlockMask(), config["num_classes"], books)
    state = {k.rpartition(".")[2]: v for k, v in part(tensors, f"state.{case}.").items()}
    model.decoder.load_state_dict({"weight": state["weight"][..., 0], "bias": state["bias"]})
    encoded = tensors[f"in.{case}.encoded"].transpose(1, 2)
    log_probs = model.scores(encoded).log_softmax(2)
    torch.testing.assert_close(log_probs, tensors[f"out.{case}.log_probs"], rtol=0, atol=2e-5)
    frames = tensors[f"in.{case}.frame_mask"].float().unflatten(1, (-1, 8)).mean(2)
    masked = frames > config["mask_threshold"]
    assert masked.sum() == config["n_masked"]
    targets = tensors[f"in.{case}.targets"][masked]
    found = MaskedPredictionLoss()(logits=model.scores(encoded[masked]), targets=targets)
    expected = tensors[f"out.{case}.loss"][0]
    torch.testing.assert_close(found["loss"], expected, rtol=0, atol=2e-5)


def test_share_of_right_tokens():
    logits = torch.tensor([[[2.0], [1.0]], [[0.0], [1.0]]])  # [N, classes, books]
    found = MaskedPredictionLoss()(logits=logits, targets=torch.tensor([[0], [0]]))
    assert found["accuracy"] == 0.5
