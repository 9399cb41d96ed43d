import pytest
import torch
from scipy.fft import dct

from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.layers.nest.clusters import ClusterQuantizer, EncoderLayers, StackedFrames
from src.models.layers.nest.kmeans import kmeans
from src.models.nest import NEST
from tests.models.test_nest import ENCODER


def quantizer_of_layers(layers, **options):
    features = EncoderLayers(ConformerEncoder(**{**ENCODER, **options}), layers)
    quantizer = ClusterQuantizer(features, 8, len(layers))
    torch.nn.init.normal_(quantizer.codebooks)
    return quantizer


def test_kmeans_finds_clusters():
    generator = torch.Generator().manual_seed(1)
    wanted = 10 * torch.randn(12, 3, generator=generator)
    vectors = wanted.repeat(50, 1)
    vectors += 0.01 * torch.randn(vectors.shape, generator=generator)
    centres, explained = kmeans(vectors, 12, seed=3)
    assert torch.equal(centres, kmeans(vectors, 12, seed=3)[0])
    assert torch.cdist(wanted, centres).min(1).values.max() < 0.01 and explained > 0.999
    assert len(set(torch.cdist(wanted, centres).argmin(1).tolist())) == 12
    with pytest.raises(ValueError, match="4 clusters of 3 different vectors"):
        kmeans(torch.eye(3).repeat(5, 1), 4)


def test_kmeans_moves_empty_clusters(monkeypatch):
    vectors = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    monkeypatch.setattr(
        "src.models.layers.nest.kmeans.draw_centres", lambda *_: torch.tensor([[5.0], [-99.0]])
    )
    assert sorted(kmeans(vectors, 2)[0].flatten().tolist()) == [0.5, 10.5]


@pytest.mark.parametrize("num_ceps", [None, 5])
def test_stacked_frames(num_ceps):
    features = StackedFrames(16, 4, num_ceps)
    spectrogram = torch.randn(2, 16, 12)
    vectors = features(spectrogram)
    assert vectors.shape == (1, 2, 3, features.size)
    frames = spectrogram.transpose(1, 2).numpy()
    frames = frames if num_ceps is None else dct(frames, norm="ortho")[..., :num_ceps]
    torch.testing.assert_close(vectors[0, 1, 2], torch.tensor(frames[1, 8:].copy()).flatten())


def test_tokens_of_layers_are_the_nearest_centres():
    torch.manual_seed(0)
    quantizer = quantizer_of_layers([0, 1]).train()
    assert not any(module.training for module in quantizer.features.encoder.modules())
    assert not any(parameter.requires_grad for parameter in quantizer.parameters())
    spectrogram, length = torch.randn(2, 16, 96), torch.tensor([96, 40])
    tokens = quantizer(spectrogram, length)
    assert tokens.shape == (2, 12, 2)
    states, _ = quantizer.features.encoder.all_hidden_states(spectrogram, length)
    for layer in (0, 1):
        nearest = torch.cdist(states[layer], quantizer.codebooks[layer]).argmin(-1)
        assert torch.equal(tokens[:, :, layer], nearest)
    alone = quantizer(spectrogram[1:, :, :40], length[1:])
    assert torch.equal(tokens[1:, :5], alone)


@pytest.mark.parametrize("kind", ["layers", "cepstrum"])
def test_tokens_are_the_same_in_mixed_precision(kind):
    torch.manual_seed(0)
    quantizer = quantizer_of_layers([0, 1])
    if kind == "cepstrum":
        quantizer = ClusterQuantizer(StackedFrames(16, 8, 5), 8)
        torch.nn.init.normal_(quantizer.codebooks)
    seen = []
    quantizer.features.register_forward_hook(lambda *call: seen.append(call[-1]))
    spectrogram, length = torch.randn(4, 16, 800), torch.full((4,), 800)
    tokens = quantizer(spectrogram, length)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = quantizer(spectrogram, length)
    assert torch.equal(*seen) and torch.equal(mixed, tokens)


def test_nest_predicts_clusters_of_clean_speech():
    torch.manual_seed(0)
    causal = {"causal_downsampling": True}
    for quantizer in (quantizer_of_layers([1, 1], **causal), quantizer_of_layers([0, 1])):
        model = NEST(
            ConformerEncoder(**ENCODER), BlockMask(16, 0.05), 8, 2, quantizer=quantizer
        ).train()
        spectrogram, length = torch.randn(2, 16, 90), torch.tensor([90, 50])
        batch = {"spectrogram": spectrogram, "spectrogram_length": length}
        outputs = model(**batch, seed=torch.tensor([1, 2]), noisy_spectrogram=0 * spectrogram)
        padded = torch.nn.functional.pad(spectrogram, (0, 6))
        assert torch.equal(outputs["tokens"].transpose(1, 2), quantizer(padded, length))
        assert outputs["logits"].shape[1:] == (8, 2) and len(outputs["targets"])
        outputs["logits"].sum().backward()
        assert all(p.grad is None for p in quantizer.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook_size": 32}, "codebook_size: 32; that of the quantizer's clusters is 8"),
        ({"num_codebooks": 2}, "num_codebooks: 2; that of the quantizer's clusters is 1"),
        ({"mask_position": "after_subsampling"}, "with clusters: 'after_subsampling'"),
    ],
)
def test_other_sizes_are_named(options, message):
    quantizer = ClusterQuantizer(StackedFrames(16, 8), 8)
    options = {"codebook_size": 8, **options, "quantizer": quantizer}
    with pytest.raises(ValueError, match=message):
        NEST(ConformerEncoder(**ENCODER), BlockMask(), **options)


def test_bad_features_are_named():
    with pytest.raises(ValueError, match="layers: 2"):
        EncoderLayers(ConformerEncoder(**ENCODER), [2])
    with pytest.raises(ValueError, match="num_codebooks: 2; 1, one for each layer"):
        ClusterQuantizer(StackedFrames(16, 8), 8, 2)
    with pytest.raises(ValueError, match="num_ceps: 17"):
        StackedFrames(16, 8, 17)
