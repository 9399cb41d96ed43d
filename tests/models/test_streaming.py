"""Models on streams equal the same models on whole spectrograms."""

import pytest
import torch

from src.interop.recogniser import read_recogniser
from src.models.conformer import ConformerEncoder
from src.models.deepspeech2 import DeepSpeech2
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.utils.stages import convolutions
from tests.golden import FIXTURES, golden
from tests.interop.test_recogniser import built

STREAMING = {
    "feat_in": 16,
    "num_layers": 2,
    "d_model": 16,
    "num_heads": 2,
    "conv_kernel_size": 5,
    "conv_norm_type": "layer_norm",
    "subsampling_conv_channels": 8,
    "causal_downsampling": True,
    "att_context_size": [[4, 3], [4, 1], [4, 0]],
    "att_context_style": "chunked_limited",
    "conv_context_size": "causal",
}
SMALL = {
    "convolutions": [
        {"out_channels": 4, "kernel_size": (5, 7), "stride": (2, 2)},
        {"out_channels": 4, "kernel_size": (5, 3), "stride": (2, 1)},
    ],
    "num_layers": 2,
    "hidden_size": 12,
    "bidirectional": False,
    "lookahead_context": 5,
}


def conformer(**options):
    torch.manual_seed(0)
    return EncoderCTC(ConformerEncoder(**STREAMING | options), 7).eval()


def deepspeech(**options):
    torch.manual_seed(0)
    return DeepSpeech2(16, 7, **SMALL | options).eval()


def streamed(stages, spectrograms, sizes):
    """Log-probabilities [V, T] of spectrograms [F, T] that come in pieces of these sizes, each in
    turn, with streams that begin and end at different times."""
    states = [[{} for _ in spectrograms] for _ in stages]
    outputs = [[] for _ in spectrograms]
    places = [0] * len(spectrograms)
    step = 0
    while any(place < one.shape[1] for place, one in zip(places, spectrograms, strict=True)):
        new, ends = [], []
        for i, one in enumerate(spectrograms):
            size = sizes[(step + i) % len(sizes)] if step >= 2 * i else 0  # later streams are newer
            new.append(one[:, places[i] : places[i] + size] if size else None)
            places[i] += size
            ends.append(places[i] >= one.shape[1])
        for stage, own in zip(stages, states, strict=True):
            new = stage.advance(own, new, ends)
        for own, value in zip(outputs, new, strict=True):
            own += [] if value is None else [value]
        step += 1
    return [torch.cat(own, -1) for own in outputs]


CONFORMERS = {
    "chunks of 4": (conformer, {}, (4, 3)),
    "chunks of 2": (conformer, {}, (4, 1)),
    "no look-ahead": (conformer, {}, (4, 0)),
    "symmetric subsampling": (conformer, {"causal_downsampling": False}, (4, 1)),
    "full convolutions, factor 4": (
        conformer,
        {"subsampling": "striding", "subsampling_factor": 4},
        (4, 1),
    ),
    "batch norm, no scaling, projection": (
        conformer,
        {"conv_norm_type": "batch_norm", "xscaling": False, "feat_out": 10, "use_bias": False},
        (4, 1),
    ),
    "regular attention without right context": (
        conformer,
        {"att_context_style": "regular", "att_context_size": [4, 0]},
        (4, 0),
    ),
    "adapters": (conformer, {"adapters": {"a": {"dim": 4}}}, (4, 1)),
    "LSTM": (deepspeech, {}, None),
    "GRU": (deepspeech, {"rnn_type": "gru"}, None),
    "RNN": (deepspeech, {"rnn_type": "rnn", "head_sizes": (9,)}, None),
}


@pytest.mark.parametrize("name", CONFORMERS)
@torch.no_grad()
def test_streams_equal_whole_spectrograms(name):
    make, options, context = CONFORMERS[name]
    model = make(**options)
    if context is not None:
        model.encoder.att_context_sizes = [context]
    for parameter in model.parameters():  # adapters begin at zero
        parameter.add_(0.05 * torch.randn_like(parameter))
    spectrograms = [torch.randn(16, size) for size in (201, 83, 8, 1, 144)]
    for sizes in ([1], [10, 3, 37], [1000]):
        both = streamed(model.streaming_stages(context), spectrograms, sizes)
        for spectrogram, log_probs in zip(spectrograms, both, strict=True):
            length = torch.tensor([spectrogram.shape[1]])
            whole = model(spectrogram=spectrogram[None], spectrogram_length=length)
            assert log_probs.shape[1] == int(whole["log_probs_length"])
            torch.testing.assert_close(log_probs.T, whole["log_probs"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", [(16, 3), (16, 1)])
@torch.no_grad()
def test_steps_equal_nemo(context):
    tensors, _ = golden("asr_fastconformer_streaming_bpe")
    _, model = built(read_recogniser(FIXTURES / "asr_fastconformer_streaming_bpe.nemo"))
    stages = model.encoder.streaming_stages(context)
    states = [[{}, {}] for _ in stages]
    for step in range(3):
        key = f"out.stream.{context[0]}_{context[1]}.{step}"
        chunk = tensors[f"{key}.chunk"][..., 9 if step else 0 :]  # without the frames of its cache
        new = list(chunk)
        for stage, own in zip(stages, states, strict=True):
            new = stage.advance(own, new, [False, False])
        torch.testing.assert_close(torch.stack(new), tensors[f"{key}.encoded"], rtol=0, atol=2e-5)
        caches = {name: torch.stack([own[name] for own in states[1]]) for name in states[1][0]}
        for name, value in (
            ("cache_channel", caches["attention"].transpose(0, 1)),
            ("cache_time", caches["convolution"].permute(1, 0, 3, 2)),
        ):
            torch.testing.assert_close(value, tensors[f"{key}.{name}"], rtol=0, atol=2e-5)
        assert caches["attention_length"].equal(tensors[f"{key}.cache_len"])


@torch.no_grad()
def test_state_is_bounded():
    for model, context in ((conformer(), (4, 1)), (deepspeech(), None)):
        stages = model.streaming_stages(context)
        states = [[{}] for _ in stages]
        sizes = []
        for _ in range(100):
            new = [torch.randn(16, 10)]
            for stage, own in zip(stages, states, strict=True):
                new = stage.advance(own, new, [False])
            sizes.append(
                sum(t.untyped_storage().nbytes() for [own] in states for t in own.values())
            )
        assert max(sizes[50:]) <= max(sizes[20:50])


def test_receptive_field_of_convolutions():
    assert convolutions([(3, 2, 2)] * 3) == {"stride": 8, "left": 2, "right": 0}
    assert convolutions([(3, 2, 1)] * 3) == {"stride": 8, "left": 1, "right": 7}
    assert convolutions([(11, 2, 5), (11, 1, 5)]) == {"stride": 2, "left": 8, "right": 15}


@pytest.mark.parametrize(
    ("make", "context", "named"),
    [
        (lambda: conformer(att_context_size=[-1, -1], att_context_style="regular"), None, "-1"),
        (lambda: conformer(att_context_size=[4, 4], att_context_style="regular"), None, "regular"),
        (conformer, (8, 3), r"\[8, 3\].*\[4, 3\], \[4, 1\]"),
        (lambda: conformer(conv_context_size=None), None, r"conv_context_size.*\[2, 2\]"),
        (lambda: conformer(conv_norm_type="group_norm2"), None, "group_norm2"),
        (lambda: deepspeech(bidirectional=True), None, "bidirectional"),
        (deepspeech, (4, 1), "lookahead_context"),
    ],
)
def test_offline_models_are_refused(make, context, named):
    with pytest.raises(ValueError, match=named):
        make().streaming_stages(context)


def test_convolutional_encoder_is_refused():
    blocks = [{"out_channels": 4, "kernel_size": 3}]
    model = EncoderCTC(ConvEncoder(16, blocks), 7)
    with pytest.raises(ValueError, match="ConvEncoder"):
        model.streaming_stages()
