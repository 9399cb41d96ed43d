import math

import pytest
import torch

from src.interop.nemo import from_nemo
from src.interop.nemo_config import read_encoder
from src.models.conformer import ConformerEncoder, stochastic_depth, stochastic_depth_probs
from src.models.layers.conformer.conformer_layer import ConvNorm
from src.models.layers.conformer.relative_attention import (
    RelPositionMultiHeadAttention,
    make_attention_mask,
    rel_shift,
    relative_positions,
)
from src.models.layers.conformer.subsampling import Subsampling
from tests.golden import golden, part

TINY = {
    "feat_in": 16,
    "num_layers": 2,
    "d_model": 16,
    "num_heads": 2,
    "subsampling_conv_channels": 4,
}


@pytest.mark.parametrize("name", ["nest_encoder_base", "nest_encoder_stream"])
def test_equals_reference_encoder(name):
    tensors, about = golden(name)
    config = {"encoder": {"_target_": "ConformerEncoder", **about["config"]}}
    encoder = ConformerEncoder(**read_encoder(config)).eval()
    weights = from_nemo({f"encoder.{k}": v for k, v in part(tensors, "state.").items()})
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items()})
    with torch.no_grad():
        output = encoder(
            spectrogram=tensors["in.features"], spectrogram_length=tensors["in.length"]
        )
    assert torch.equal(output["encoded_length"], tensors["out.length"])
    for i, length in enumerate(tensors["out.length"]):
        ours, theirs = output["encoded"][i, :, :length], tensors["out.encoded"][i, :, :length]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("factor", [4, 8])
def test_lengths_of_the_subsampling(causal, factor):
    layer = Subsampling(16, 8, 4, factor, causal)
    for frames in (1, 7, 8, 9, 100):
        x, length = layer(torch.randn(1, 16, frames), torch.tensor([frames]))
        assert x.shape[1] == length[0] == layer.output_length(frames)
    assert Subsampling(80, 8, 4, 8).output_length(100) == 13
    with pytest.raises(ValueError, match="subsampling_factor: 6"):
        Subsampling(16, 8, 4, 6)


def test_rel_shift_by_hand():
    size = 5
    scores = torch.randn(2, 3, size, 2 * size)
    scores[..., 0] = torch.nan  # no frame has this relative position
    moved = rel_shift(scores)
    for i in range(size):
        for j in range(size):
            assert torch.equal(moved[..., i, j], scores[..., i, size - (i - j)])


def test_attention_equals_formula():
    torch.manual_seed(0)
    size, d_model, num_heads = 6, 8, 2
    layer = RelPositionMultiHeadAttention(d_model, num_heads).double()
    for bias in (layer.pos_bias_u, layer.pos_bias_v):
        torch.nn.init.normal_(bias)
    x = torch.randn(2, size, d_model, dtype=torch.float64)
    length = torch.tensor([6, 4])
    output = layer(
        x,
        x,
        relative_positions(size, d_model, x),
        make_attention_mask(length, size, (-1, -1), "regular"),
    )
    for b, own in enumerate(length.tolist()):
        values = torch.zeros(own, d_model, dtype=torch.float64)
        for h in range(num_heads):
            cut = slice(h * 4, h * 4 + 4)
            q, k, v = (
                f(x[b, :own])[:, cut] for f in (layer.linear_q, layer.linear_k, layer.linear_v)
            )
            scores = torch.zeros(own, own, dtype=torch.float64)
            for i in range(own):
                for j in range(own):
                    place = position_of(i - j, d_model) @ layer.linear_pos.weight.T
                    content = (q[i] + layer.pos_bias_u[h]) @ k[j]
                    distance = (q[i] + layer.pos_bias_v[h]) @ place[cut]
                    scores[i, j] = (content + distance) / math.sqrt(4)
            values[:, cut] = scores.softmax(1) @ v
        torch.testing.assert_close(output[b, :own], layer.linear_out(values), rtol=1e-6, atol=1e-6)


def position_of(offset, d_model):
    angles = [offset * math.exp(-2 * i * math.log(10000) / d_model) for i in range(d_model // 2)]
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
def test_attention_mask(style, context):
    size, (left, right) = 9, context
    mask = make_attention_mask(torch.tensor([9, 5]), size, context, style)
    mask = mask.expand(2, 1, size, size)
    for b, length in enumerate((9, 5)):
        for i in range(length):
            for j in range(size):
                if style == "regular":
                    near = (left < 0 or j >= i - left) and (right < 0 or j <= i + right)
                else:
                    chunk = right + 1
                    past = i // chunk - j // chunk
                    near = past >= 0 and (left < 0 or past <= left // chunk)
                assert bool(mask[b, 0, i, j]) == (not (near and j < length))


def test_norms():
    torch.manual_seed(0)
    x, length = torch.randn(2, 10, 8), torch.tensor([10, 6])
    padding = (torch.arange(10) >= length[:, None]).unsqueeze(2)
    group = ConvNorm("group_norm4", 8)
    torch.nn.init.normal_(group.norm.weight)
    output = group(x, padding)
    plain = group.norm(x[1:, :6].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(output[1:, :6], plain, rtol=1e-4, atol=1e-5)
    batch = ConvNorm("batch_norm", 8)
    plain = torch.nn.BatchNorm1d(8)(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(batch(x, padding), plain)
    assert isinstance(ConvNorm("layer_norm", 8).norm, torch.nn.LayerNorm)
    with pytest.raises(ValueError, match="instance_norm"):
        ConvNorm("instance_norm", 8)


def test_stochastic_depth():
    assert stochastic_depth_probs(4, 0.3, "linear", 1) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert stochastic_depth_probs(4, 0.3, "uniform", 2) == [0, 0, 0.3, 0.3]
    torch.manual_seed(0)
    encoder = ConformerEncoder(
        **TINY, stochastic_depth_drop_prob=0.5, stochastic_depth_mode="uniform"
    )
    kept = [stochastic_depth(torch.zeros(1), torch.ones(1), 0.25).item() for _ in range(2000)]
    assert sorted(set(kept)) == pytest.approx([0, 4 / 3])
    assert sum(kept) / 2000 == pytest.approx(1, abs=0.05)
    batch = {"spectrogram": torch.randn(2, 16, 40), "spectrogram_length": torch.tensor([40, 30])}
    encoder(**batch)["encoded"].sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    with pytest.raises(ValueError, match="stochastic_depth_drop_prob: 1.5"):
        ConformerEncoder(**TINY, stochastic_depth_drop_prob=1.5)


def test_several_attention_contexts():
    encoder = ConformerEncoder(
        **TINY, att_context_size=[[-1, -1], [4, 0]], att_context_probs=[0.0, 1.0]
    )
    assert encoder.train().draw_att_context() == (4, 0)
    assert encoder.eval().draw_att_context() == (-1, -1)
    encoder = ConformerEncoder(**TINY, att_context_size=[[-1, -1], [4, 0]])
    assert {encoder.draw_att_context() for _ in range(50)} == {(-1, -1), (4, 0)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_heads": 3}, "3 heads"),
        ({"att_context_size": [-2, 0]}, "context"),
        (
            {"att_context_size": [5, 1], "att_context_style": "chunked_limited"},
            "multiple of 2, the chunk size",
        ),
        ({"att_context_size": [5, -1], "att_context_style": "chunked_limited"}, "chunk"),
        ({"att_context_style": "local"}, "'local'"),
        ({"conv_context_size": [1, 1]}, "add up to 8"),
        ({"conv_context_size": "none"}, "conv_context_size: none"),
        ({"att_context_size": [[1, 1], [2, 2]], "att_context_probs": [1.0]}, "one for each of 2"),
    ],
)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        ConformerEncoder(**{**TINY, **options})


def test_all_layers_share_tied_biases():
    encoder = ConformerEncoder(**TINY, untie_biases=False, feat_out=12)
    first, second = (layer.self_attn.pos_bias_u for layer in encoder.layers)
    assert first is second
    assert "layers.1.self_attn.pos_bias_u" in encoder.state_dict()
    batch = {"spectrogram": torch.randn(1, 16, 40), "spectrogram_length": torch.tensor([40])}
    assert encoder(**batch)["encoded"].shape == (1, 12, 5)
