import pytest
import torch
import torch.nn.functional as F

from src.interop.recogniser_export import save_recogniser
from src.models.encoder_ctc import EncoderCTC, LayerProbe
from src.text_encoder.characters import CharacterEncoder
from src.transforms.features.log_mel import LogMel
from tests.loss.test_intermediate_ctc import model_of


def test_weighted_sum_of_layers():
    spectrogram, length = torch.randn(2, 8, 40), torch.tensor([40, 30])
    model = model_of(weighted_sum=True, intermediate_layers=[1]).eval()
    model.layer_scores.data = torch.tensor([0.0, 1.0, 2.0, 3.0])
    outputs = model(spectrogram, length)
    assert set(outputs) == {"log_probs", "log_probs_length"}
    states, _ = model.encoder.all_hidden_states(spectrogram, length)
    weights = model.layer_scores.softmax(0)
    x = sum(w * F.layer_norm(s, (8,)) for w, s in zip(weights, states, strict=True))
    torch.testing.assert_close(outputs["log_probs"], model.head(x).log_softmax(-1))
    probe = LayerProbe(model.encoder, 5)
    probe.load_state_dict(model.state_dict())  # the same names
    torch.testing.assert_close(probe(spectrogram, length)["log_probs"], outputs["log_probs"])


def test_all_layers_are_trained_by_the_weighted_sum():
    model = model_of(weighted_sum=True, intermediate_layers=[1]).train()
    outputs = model(torch.randn(2, 8, 40), torch.tensor([40, 30]))
    assert outputs["intermediate_log_probs"].shape == (2, 1, 10, 5)
    outputs["log_probs"][:, :, 0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_weighted_sum_is_refused_where_only_the_last_layer_is_used(tmp_path):
    model = model_of(weighted_sum=True)
    with pytest.raises(ValueError, match="weighted sum of layers needs the whole utterance"):
        model.streaming_stages()
    with pytest.raises(ValueError, match="NeMo has no weighted sum"):
        save_recogniser(model, LogMel(n_mels=8), CharacterEncoder(), tmp_path / "a.nemo")
    model.encoder.out_proj = torch.nn.Linear(8, 4)
    with pytest.raises(ValueError, match=r"weighted_sum: wanted a Conformer encoder without"):
        EncoderCTC(model.encoder, 5, weighted_sum=True)
