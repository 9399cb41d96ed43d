import math

import pytest
import torch

from src.interop.nemo import from_nemo
from src.interop.nemo_config import read_encoder
from src.models.conformer import ConformerEncoder, drop_rates
from src.models.layers.conformer.conformer_layer import FrameNorm
from src.models.layers.conformer.relative_attention import (
    RelativeAttention,
    forbidden_pairs,
    position_table,
    skew,
)
from src.models.layers.conformer.subsampling import Subsampling
from tests.golden import golden, part

TINY = {"n_features": 16, "layers": 2, "width": 16, "heads": 2, "subsampling_channels": 4}


@pytest.mark.parametrize("name", ["nest_encoder_base", "nest_encoder_stream"])
def test_the_reference_encoder(name):
    tensors, about = golden(name)
    config = {"encoder": {"_target_": "ConformerEncoder", **about["config"]}}
    encoder = ConformerEncoder(**read_encoder(config)).eval()
    weights = from_nemo({f"encoder.{k}": v for k, v in part(tensors, "state.").items()})
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items()})
    with torch.no_grad():
        found = encoder(spectrogram=tensors["in.features"], spectrogram_length=tensors["in.length"])
    assert torch.equal(found["encoded_length"], tensors["out.length"])
    for i, length in enumerate(tensors["out.length"]):
        ours, theirs = found["encoded"][i, :, :length], tensors["out.encoded"][i, :, :length]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("factor", [4, 8])
def test_lengths_of_the_subsampling(causal, factor):
    layer = Subsampling(16, 8, 4, factor, causal)
    for frames in (1, 7, 8, 9, 100):
        x, length = layer(torch.randn(1, 16, frames), torch.tensor([frames]))
        assert x.shape[1] == length[0] == layer.output_length(frames)
    assert Subsampling(80, 8, 4, 8).output_length(100) == 13
    with pytest.raises(ValueError, match="factor 6"):
        Subsampling(16, 8, 4, 6)


def test_skew_by_hand():
    size = 5
    scores = torch.randn(2, 3, size, 2 * size - 1)
    moved = skew(scores)
    for i in range(size):
        for j in range(size):
            assert torch.equal(moved[..., i, j], scores[..., i, size - 1 - (i - j)])


def test_attention_is_the_plain_formula():
    torch.manual_seed(0)
    size, width, heads = 6, 8, 2
    layer = RelativeAttention(width, heads).double()
    for bias in (layer.content_bias, layer.position_bias):
        torch.nn.init.normal_(bias)
    x = torch.randn(2, size, width, dtype=torch.float64)
    length = torch.tensor([6, 4])
    found = layer(
        x, position_table(size, width, x), forbidden_pairs(length, size, (-1, -1), "regular")
    )
    for b, own in enumerate(length.tolist()):
        heard = torch.zeros(own, width, dtype=torch.float64)
        for h in range(heads):
            cut = slice(h * 4, h * 4 + 4)
            q, k, v = (f(x[b, :own])[:, cut] for f in (layer.query, layer.key, layer.value))
            scores = torch.zeros(own, own, dtype=torch.float64)
            for i in range(own):
                for j in range(own):
                    place = position_of(i - j, width) @ layer.position.weight.T
                    content = (q[i] + layer.content_bias[h]) @ k[j]
                    distance = (q[i] + layer.position_bias[h]) @ place[cut]
                    scores[i, j] = (content + distance) / math.sqrt(4)
            heard[:, cut] = scores.softmax(1) @ v
        torch.testing.assert_close(found[b, :own], layer.output(heard), rtol=1e-6, atol=1e-6)


def position_of(offset, width):
    angles = [offset * math.exp(-2 * i * math.log(10000) / width) for i in range(width // 2)]
    pairs = [[math.sin(a), math.cos(a)] for a in angles]
    return torch.tensor(pairs, dtype=torch.float64).flatten()


@pytest.mark.parametrize(
    ("style", "context"),
    [
        ("regular", (-1, -1)),
        ("regular", (3, 0)),
        ("regular", (-1, 2)),
        ("regular", (2, -1)),
        ("chunked_limited", (4, 1)),
        ("chunked_limited", (-1, 2)),
        ("chunked_limited", (0, 3)),
    ],
)
def test_who_sees_whom(style, context):
    size, (left, right) = 9, context
    found = forbidden_pairs(torch.tensor([9, 5]), size, context, style).expand(2, 1, size, size)
    for b, length in enumerate((9, 5)):
        for i in range(length):
            for j in range(size):
                if style == "regular":
                    near = (left < 0 or j >= i - left) and (right < 0 or j <= i + right)
                else:
                    chunk = right + 1
                    past = i // chunk - j // chunk
                    near = past >= 0 and (left < 0 or past <= left // chunk)
                assert bool(found[b, 0, i, j]) == (not (near and j < length))


def test_norms():
    torch.manual_seed(0)
    x, length = torch.randn(2, 10, 8), torch.tensor([10, 6])
    padding = (torch.arange(10) >= length[:, None]).unsqueeze(2)
    group = FrameNorm("group_norm4", 8)
    torch.nn.init.normal_(group.norm.weight)
    found = group(x, padding)
    plain = group.norm(x[1:, :6].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(found[1:, :6], plain, rtol=1e-4, atol=1e-5)
    batch = FrameNorm("batch_norm", 8)
    plain = torch.nn.BatchNorm1d(8)(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(batch(x, padding), plain)
    assert isinstance(FrameNorm("layer_norm", 8).norm, torch.nn.LayerNorm)
    with pytest.raises(ValueError, match="instance_norm"):
        FrameNorm("instance_norm", 8)


def test_stochastic_depth():
    assert drop_rates(4, 0.3, "linear", 1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_rates(4, 0.3, "uniform", 2) == [0, 0, 0.3, 0.3]
    torch.manual_seed(0)
    encoder = ConformerEncoder(**TINY, layer_drop=0.5, layer_drop_mode="uniform")
    kept = [encoder.keep_or_drop(torch.zeros(1), torch.ones(1), 0.25).item() for _ in range(2000)]
    assert sorted(set(kept)) == pytest.approx([0, 4 / 3])
    assert sum(kept) / 2000 == pytest.approx(1, abs=0.05)
    batch = {"spectrogram": torch.randn(2, 16, 40), "spectrogram_length": torch.tensor([40, 30])}
    encoder(**batch)["encoded"].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    with pytest.raises(ValueError, match="layer_drop 1.5"):
        ConformerEncoder(**TINY, layer_drop=1.5)


def test_several_contexts():
    encoder = ConformerEncoder(
        **TINY, contexts=[[-1, -1], [4, 0]], context_probabilities=[0.0, 1.0]
    )
    assert encoder.train().draw_context() == (4, 0)
    assert encoder.eval().draw_context() == (-1, -1)
    encoder = ConformerEncoder(**TINY, contexts=[[-1, -1], [4, 0]])
    assert {encoder.draw_context() for _ in range(50)} == {(-1, -1), (4, 0)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 3}, "3 heads"),
        ({"contexts": [-2, 0]}, "context"),
        ({"contexts": [5, 1], "context_style": "chunked_limited"}, "chunk of 2 frames"),
        ({"contexts": [5, -1], "context_style": "chunked_limited"}, "chunk"),
        ({"context_style": "local"}, "'local'"),
        ({"conv_context": [1, 1]}, "add up to 8"),
        ({"conv_context": "none"}, "conv_context none"),
        ({"contexts": [[1, 1], [2, 2]], "context_probabilities": [1.0]}, "one for each of 2"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        ConformerEncoder(**{**TINY, **options})


def test_all_layers_share_tied_biases():
    encoder = ConformerEncoder(**TINY, untie_biases=False, output=12)
    first, second = (layer.attention.content_bias for layer in encoder.layers)
    assert first is second
    assert "layers.1.attention.content_bias" in encoder.state_dict()
    batch = {"spectrogram": torch.randn(1, 16, 40), "spectrogram_length": torch.tensor([40])}
    assert encoder(**batch)["encoded"].shape == (1, 12, 5)
