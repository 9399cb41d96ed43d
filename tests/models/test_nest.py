import json

import pytest
import torch

from src.interop.nemo import load_features, load_nemo, to_nemo
from src.loss.masked_prediction import MaskedPredictionLoss
from src.models.conformer import ConformerEncoder
from src.models.layers.nest.block_mask import BlockMask
from src.models.layers.nest.quantizer import RandomProjectionQuantizer
from src.models.nest import NEST
from tests.golden import FIXTURES, golden, part
from tests.programs import run_code

ENCODER = {
    "feat_in": 16,
    "num_layers": 1,
    "d_model": 16,
    "num_heads": 2,
    "subsampling_conv_channels": 4,
}


def tiny(mask=None, encoder=None, **options):
    return NEST(
        ConformerEncoder(**{**ENCODER, **(encoder or {})}), mask or BlockMask(), 32, **options
    )


@pytest.fixture(scope="module")
def reference():
    tensors, about = golden("nest_model")
    path = FIXTURES / "nest_model.nemo"
    model, features = load_nemo(path), load_features(path)
    length = tensors["in.length"]
    batch = features(audio=tensors["in.clean"], audio_length=length)
    noisy = features(audio=tensors["in.noisy"], audio_length=length)
    return model, {**batch, "noisy_spectrogram": noisy["spectrogram"]}, tensors, about


@pytest.mark.parametrize("name", ["eval", "masked"])
def test_equals_reference_model(reference, name):
    model, batch, tensors, _ = reference
    mask = tensors["in.frame_mask"] if name == "masked" else None
    model.eval()
    with torch.no_grad():
        outputs = model(**batch, ssl_mask=mask)
        log_probs = model.logits(outputs["encoded"].transpose(1, 2)).log_softmax(2)
    assert torch.equal(outputs["encoded_length"], tensors["out.eval.encoded_len"])
    valid = tensors["out.token_valid"].bool()
    tokens = outputs["tokens"].transpose(1, 2)
    assert torch.equal(tokens[valid], tensors["out.eval.tokens"][valid])
    for i, length in enumerate(outputs["encoded_length"]):
        torch.testing.assert_close(
            log_probs[i, :length], tensors[f"out.{name}.log_probs"][i, :length], rtol=0, atol=2e-5
        )
    if mask is not None:
        assert torch.equal(outputs["masked_tokens"], tensors["out.masked.token_mask"].bool())
        loss = MaskedPredictionLoss()(**outputs)["loss"]
        torch.testing.assert_close(loss, tensors["out.masked.loss"][0], rtol=0, atol=2e-5)


def test_equals_reference_gradients(reference):
    model, batch, tensors, about = reference
    model.train()
    model.zero_grad()
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    loss = MaskedPredictionLoss()(**model(**batch, ssl_mask=tensors["in.frame_mask"]))["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(about["masked_loss_train"], abs=2e-5)
    grads = to_nemo({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    expected = part(tensors, "grad.")
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(grads[name], value, rtol=0, atol=2e-5)
    norms = about["grad_norms"]
    assert set(norms) == set(grads)
    for name, norm in norms.items():
        assert grads[name].norm().item() == pytest.approx(norm, abs=2e-5, rel=1e-4)
    state = to_nemo(model.state_dict())
    for name, value in part(tensors, "out.train.after.").items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=2e-5)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])


def test_names_and_shapes_of_l():
    table = json.loads((FIXTURES / "table_nest_L.json").read_text())["state"]
    with torch.device("meta"):
        model = NEST(ConformerEncoder(), BlockMask())
    ours = {name: list(value.shape) for name, value in to_nemo(model.state_dict()).items()}
    theirs = {
        row["name"]: row["shape"]
        for row in table
        if row["kind"] != "buffer (not saved)" and not row["name"].startswith("preprocessor.")
    }
    assert ours == theirs
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == 113_106_000
    assert sum(p.numel() for p in parameters if p.requires_grad) == 112_964_608


@pytest.mark.parametrize(
    ("name", "encoder", "total"),
    [
        ("s", 12_600_240, 14_191_616),
        ("m", 26_128_640, 28_375_376),
        ("l", 108_762_112, 113_106_000),
        ("xl", 607_306_752, 615_844_944),
        ("xxl", 1_060_543_488, 1_069_081_680),
    ],
)
def test_published_sizes(name, encoder, total):
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    from tests.demo import CONFIGS

    options = [
        f"encoder@model.encoder=fastconformer_{name}",
        "model.codebook_size=8192",
        "model.num_codebooks=1",
    ]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("ssl_nest", overrides=options)
    with torch.device("meta"):
        model = instantiate(config.model, _convert_="all")
    assert sum(p.numel() for p in model.encoder.parameters()) == encoder
    assert sum(p.numel() for p in model.parameters()) == total


@pytest.mark.parametrize("case", ["l2_1", "l2_2", "cosine_1", "cosine_2"])
def test_equals_reference_quantizer(case):
    tensors, about = golden("nest_quantizer")
    config = about["cases"][case]["config"]
    quantizer = RandomProjectionQuantizer(
        80, 8, config["num_classes"], config["num_books"], 16, config["dist_fn"]
    )
    state = part(tensors, f"state.{case}.")
    quantizer.load_state_dict(
        {"proj.weight": state["proj.weight"], "codebooks": state["codebooks"]}
    )
    tokens = quantizer(tensors[f"in.{case}.features"])
    assert torch.equal(tokens, tensors[f"out.{case}.tokens"])


@pytest.mark.parametrize("num_codebooks", [1, 3])
@pytest.mark.parametrize("position", ["before_subsampling", "after_subsampling"])
def test_masked_logits_equal_logits_of_all_frames(num_codebooks, position):
    """The fast path, which scores masked frames only, against the plain one."""
    torch.manual_seed(0)
    model = tiny(BlockMask(16, 0.05), num_codebooks=num_codebooks, mask_position=position).eval()
    batch = {
        "spectrogram": torch.randn(3, 16, 90),
        "spectrogram_length": torch.tensor([90, 64, 40]),
    }
    outputs = model(**batch, seed=torch.tensor([3, 4, 5]))
    plain = model.logits(outputs["encoded"].transpose(1, 2))[:, : outputs["tokens"].shape[2]]
    masked = outputs["masked_tokens"]
    assert 0 < masked.sum() == len(outputs["logits"])
    torch.testing.assert_close(outputs["logits"], plain[masked])
    assert torch.equal(outputs["targets"], outputs["tokens"].transpose(1, 2)[masked])
    log_probs = plain.log_softmax(2)[masked]  # [N, codebook_size, num_codebooks]
    picked = log_probs.gather(1, outputs["targets"].unsqueeze(1)).squeeze(1)
    loss = MaskedPredictionLoss()(**outputs)["loss"]
    torch.testing.assert_close(loss, -picked.mean(0).mean())


def test_encoder_does_not_see_masked_frames():
    torch.manual_seed(0)
    model = tiny().eval()
    spectrogram, length = torch.randn(1, 16, 80), torch.tensor([80])
    mask = torch.zeros(1, 80, dtype=torch.bool)
    mask[:, 16:56] = True
    first = model(spectrogram=spectrogram, spectrogram_length=length, ssl_mask=mask)
    changed = spectrogram.clone()
    changed[..., 16:56] = 99
    second = model(spectrogram=changed, spectrogram_length=length, ssl_mask=mask)
    assert torch.equal(first["encoded"], second["encoded"])
    assert not torch.equal(first["tokens"], second["tokens"])
    assert first["masked_tokens"].int().tolist() == [[0, 0, 1, 1, 1, 1, 1, 0, 0, 0]]
    noisy = torch.randn_like(spectrogram)
    third = model(
        spectrogram=spectrogram, noisy_spectrogram=noisy, spectrogram_length=length, ssl_mask=mask
    )
    assert torch.equal(first["tokens"], third["tokens"])  # of the clean speech
    assert not torch.equal(first["encoded"], third["encoded"])


def test_without_seeds_no_mask_and_zero_loss():
    model = tiny()
    batch = {"spectrogram": torch.randn(2, 16, 40), "spectrogram_length": torch.tensor([40, 24])}
    outputs = model(**batch)
    assert not outputs["ssl_mask"].any() and len(outputs["logits"]) == 0
    loss = MaskedPredictionLoss()(**outputs)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_mask_after_subsampling_quantizes_subsampled_frames():
    model = tiny(BlockMask(16, 0.05), mask_position="after_subsampling")
    batch = {"spectrogram": torch.randn(2, 16, 90), "spectrogram_length": torch.tensor([90, 50])}
    outputs = model(**batch, seed=torch.tensor([1, 2]))
    vectors, length = model.encoder.subsampling(batch["spectrogram"], batch["spectrogram_length"])
    assert torch.equal(outputs["tokens"].transpose(1, 2), model.quantizer(vectors.transpose(1, 2)))
    assert torch.equal(outputs["tokens_length"], length)
    assert torch.equal(outputs["ssl_mask"], outputs["masked_tokens"])
    MaskedPredictionLoss()(**outputs)["loss"].backward()
    assert all(p.grad is None for p in model.encoder.subsampling.parameters())
    assert all(p.grad is not None for p in model.encoder.layers.parameters())


def test_causal_subsampling_has_one_more_frame():
    model = tiny(BlockMask(16, 0.05), {"causal_downsampling": True})
    batch = {"spectrogram": torch.randn(2, 16, 64), "spectrogram_length": torch.tensor([64, 40])}
    outputs = model(**batch, seed=torch.tensor([1, 2]))
    assert outputs["encoded"].shape[2] == outputs["tokens"].shape[2] + 1
    assert outputs["tokens_length"].tolist() == [8, 5]


def test_constant_mask_value():
    model = tiny(mask_value=0.25)
    assert model.mask_embedding.tolist() == [0.25] * 16
    assert not model.mask_embedding.requires_grad
    with pytest.raises(ValueError, match="mask_position: 'middle'"):
        tiny(mask_position="middle")


COMPILED = """
import copy
import torch
from tests.models.test_nest import BlockMask, tiny

model = tiny(BlockMask(8, 0.1), {"dropout": 0.0, "dropout_pre_encoder": 0.0, "dropout_att": 0.0})
twin = copy.deepcopy(model)
batch = {
    "spectrogram": torch.randn(2, 16, 64),
    "spectrogram_length": torch.tensor([64, 50]),
    "seed": torch.arange(2),
}
plain = twin(**batch)
plain["logits"].square().sum().backward()
model.compile(backend="aot_eager")  # traced as for a GPU, without its kernels
compiled = model(**batch)
compiled["logits"].square().sum().backward()
assert torch.equal(compiled["tokens"], plain["tokens"])
torch.testing.assert_close(compiled["logits"], plain["logits"])
for a, b in zip(model.parameters(), twin.parameters()):
    assert not b.requires_grad or b.grad is None or torch.allclose(a.grad, b.grad, atol=1e-5)
"""


def test_compiled_equals_plain():
    """In a process without the shape checks, which the compiler can't trace."""
    run_code(COMPILED)


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "group_norm2"])
def test_half_precision(norm):
    torch.manual_seed(0)
    model = tiny(BlockMask(8, 0.1), {"conv_norm_type": norm}).train()
    batch = {
        "spectrogram": torch.randn(2, 16, 160),
        "spectrogram_length": torch.tensor([160, 90]),
        "seed": torch.arange(2),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = MaskedPredictionLoss()(**model(**batch))["loss"]
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
