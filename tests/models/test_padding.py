import importlib
import inspect
import pkgutil

import pytest
import torch

import src.models
from src.models.conformer import ConformerEncoder
from src.models.jasper import ConvEncoder
from src.models.layers.nest.block_mask import BlockMask

TIME_AXIS = {"log_probs": 1, "encoded": 2, "tokens": 2, "ssl_mask": 1}
UTTERANCE = "class_logits"  # an output without time

CONVOLUTIONS = [
    [{"out_channels": 3, "kernel_size": (5, 5), "stride": (2, 2)}] * 2,
    [{"out_channels": 3, "kernel_size": (5, 3), "stride": (2, 1)}] * 3,
]
CELLS = [
    {"rnn_type": "lstm"},
    {"rnn_type": "gru", "head_sizes": [7]},
    {"rnn_type": "rnn", "bidirectional": False, "lookahead_context": 4},
]
ENCODERS = [
    {},
    {"subsampling_factor": 4, "conv_norm_type": "layer_norm", "use_bias": False},
    {"att_context_size": [3, 2], "conv_norm_type": "group_norm2"},
    {"att_context_size": [-1, 0], "conv_context_size": [6, 2], "untie_biases": False},
    {
        "att_context_size": [4, 1],
        "att_context_style": "chunked_limited",
        "causal_downsampling": True,
        "conv_context_size": "causal",
        "feat_out": 5,
    },
]
PLAIN = {"out_channels": 6, "kernel_size": 5, "repeat": 2, "residual": True}
CONVOLUTIONAL = [
    {"blocks": [{"stride": 2, "residual": False, "repeat": 1}, {}, {"dilation": 2}]},
    {
        "blocks": [{"residual_dense": False, "residual": False}, {}, {"out_channels": 4}, {}],
        "block_defaults": {"residual_dense": True},
        "activation": "selu",
    },
    {
        "blocks": [{"stride": 2, "stride_last": True, "residual_mode": "stride_add"}, {}],
        "block_defaults": {"separable": True, "se": True, "se_reduction_ratio": 2},
        "activation": "swish",
    },
    {
        "blocks": [{"kernel_size": 7}, {"kernel_size_factor": 0.5}, {"separable": False}],
        "block_defaults": {"separable": True, "groups": 2},
        "activation": "hardtanh",
    },
]


def conv_encoder(blocks, block_defaults=None, **options):
    defaults = PLAIN | (block_defaults or {})
    return ConvEncoder(feat_in=16, blocks=blocks, block_defaults=defaults, **options)


def encoder(**options):
    tiny = {"feat_in": 16, "num_layers": 2, "d_model": 8, "num_heads": 2}
    tiny["subsampling_conv_channels"] = 3
    return ConformerEncoder(**tiny | options)


SIZES = {"feat_in": 16, "vocab_size": 6}
# Class -> arguments of small ones.
TINY = {
    "DeepSpeech2": [
        lambda c=c, m=m: {**SIZES, "hidden_size": 8, "num_layers": 2, "convolutions": c, **m}
        for c in CONVOLUTIONS
        for m in CELLS
    ],
    "Baseline": [
        lambda: {**SIZES, "hidden_size": 8, "stride": 2},
        lambda: {**SIZES, "hidden_size": 8, "stride": 3, "kernel_size": 5},
    ],
    "ConformerEncoder": [lambda o=o: encoder(**o).options for o in ENCODERS],
    "EncoderCTC": [
        *(lambda o=o: {"encoder": encoder(**o), "vocab_size": 6} for o in ENCODERS),
        *(lambda o=o: {"encoder": conv_encoder(**o), "vocab_size": 6} for o in CONVOLUTIONAL),
    ],
    "ConvEncoder": [lambda o=o: conv_encoder(**o).options for o in CONVOLUTIONAL],
    "LayerProbe": [
        lambda: {"encoder": encoder(), "vocab_size": 6},
        lambda: {"encoder": conv_encoder(**CONVOLUTIONAL[0]), "vocab_size": 6},
    ],
    "LayerClassifier": [
        lambda: {"encoder": encoder(), "labels": ["a", "b", "c"]},
        lambda: {"encoder": conv_encoder(**CONVOLUTIONAL[0]), "labels": ["a", "b"]},
    ],
    "NEST": [
        lambda o=o, m=m: {
            "encoder": encoder(**o),
            "masking": BlockMask(8, 0.1),
            "codebook_size": 12,
            "num_codebooks": 2,
            "mask_position": m,
        }
        for o in ENCODERS
        for m in ("before_subsampling", "after_subsampling")
    ],
}
ON_AUDIO = {"MossFormer2", "SeparationRecognition"}  # which have such tests in files of their own
BASES = {"FrozenEncoder"}  # without a forward pass of their own


def models():
    for module in pkgutil.iter_modules(src.models.__path__, "src.models."):
        if module.ispkg:
            continue
        imported = importlib.import_module(module.name)
        for name, kind in inspect.getmembers(imported, inspect.isclass):
            if issubclass(kind, torch.nn.Module) and kind.__module__ == module.name:
                yield name, kind


CASES = [
    pytest.param(kind, make, id=f"{name}-{number}")
    for name, kind in models()
    for number, make in enumerate(TINY.get(name, []))
]


def test_every_model_is_tested():
    assert {name for name, _ in models()} == set(TINY) | ON_AUDIO | BASES, (
        "add tiny options to TINY"
    )


@pytest.mark.parametrize(("kind", "make"), CASES)
@pytest.mark.parametrize(
    "lengths", [[601, 400, 333, 8, 1], [37, 20, 9, 1], [25, 25, 25], [2, 1]], ids=str
)
def test_independent_of_batch(kind, make, lengths):
    torch.manual_seed(0)
    model = kind(**make())
    spectrogram = torch.zeros(len(lengths), 16, max(lengths))
    for row, length in zip(spectrogram, lengths, strict=True):
        row[:, :length] = torch.randn(16, length)
    length, seed = torch.tensor(lengths), torch.arange(len(lengths))
    batch = {"spectrogram": spectrogram, "spectrogram_length": length, "seed": seed}
    model.train()
    model(**batch)  # fills the running statistics
    model.eval()
    together = model(**batch)
    timed = [key for key in TIME_AXIS if key in together]
    assert timed or UTTERANCE in together
    for key in timed:
        assert together[f"{key}_length"].dtype == torch.int64
    if timed and "ssl_mask" not in timed:
        assert torch.equal(together[f"{timed[0]}_length"], model.output_length(length))
    for i, own in enumerate(lengths):
        alone = model(
            spectrogram=spectrogram[i : i + 1, :, :own],
            spectrogram_length=length[i : i + 1],
            seed=seed[i : i + 1],
        )
        if UTTERANCE in together:
            torch.testing.assert_close(
                together[UTTERANCE][i], alone[UTTERANCE][0], rtol=1e-4, atol=1e-4
            )
        for key in timed:
            frames = int(alone[f"{key}_length"][0])
            assert frames == together[f"{key}_length"][i]
            axis = TIME_AXIS[key] - 1
            torch.testing.assert_close(
                together[key][i].narrow(axis, 0, frames),
                alone[key][0].narrow(axis, 0, frames),
                rtol=1e-4,
                atol=1e-4,
            )
