"""Exported models: every family at other lengths than the traced ones, in every format."""

import json
from functools import partial
from itertools import groupby

import pytest
import torch
from torch.nn.functional import pad

from src.interop.export.compare import difference, largest_difference, streaming_difference
from src.interop.export.forms import front_end, recogniser_form, write_form
from src.interop.export.graphs import (
    EncoderGraph,
    FrontendGraph,
    RecogniserGraph,
    SamplesGraph,
    SeparatorGraph,
    original_level,
)
from src.interop.export.packages import required
from src.interop.export.programs import write_program
from src.interop.export.recogniser import symbols
from src.interop.export.sessions import OnnxFile, load_program
from src.interop.export.streaming_graph import (
    StreamingConformerGraph,
    StreamingDeepSpeech2Graph,
    StreamingGraph,
)
from src.interop.export.substitutes import MatrixSpectrogram
from src.models.baseline import Baseline
from src.models.conformer import ConformerEncoder
from src.models.deepspeech2 import DeepSpeech2
from src.models.encoder_ctc import EncoderCTC
from src.models.jasper import ConvEncoder
from src.models.mossformer2 import MossFormer2
from src.text_encoder.characters import CharacterEncoder
from src.transforms.chain import Chain
from src.transforms.features.log_mel import LogMel
from src.transforms.features.spectrogram import LogSpectrogram
from src.transforms.features.stft import PowerSpectrogram
from src.transforms.wave.gain import Gain

CONVOLUTIONS = (
    {"out_channels": 4, "kernel_size": (5, 5), "stride": (2, 2)},
    {"out_channels": 4, "kernel_size": (5, 5), "stride": (2, 2)},
)
SMALL = {"d_model": 16, "num_layers": 1, "num_heads": 2, "subsampling_conv_channels": 8}
DENSE = {"residual": True, "residual_dense": True, "groups": 2}
BLOCKS = [
    {"out_channels": 8, "kernel_size": 5, "stride": 2},
    {"out_channels": 8, "kernel_size": 5, "separable": True, "residual": True, "se": True},
    {"out_channels": 8, "kernel_size": 3, **DENSE},
]
SECONDS = [(0.3,), (0.97,), (1.9,), (2.6,), (4.2,), (1.43, 0.7)]


def deepspeech2(rnn_type="lstm", bidirectional=True, **options):
    sizes = {"hidden_size": 8, "num_layers": 2, "lookahead_context": 3}
    options = {"convolutions": CONVOLUTIONS, **sizes, **options}
    return DeepSpeech2(20, 7, rnn_type=rnn_type, bidirectional=bidirectional, **options)


def chunked_deepspeech2(rnn_type="lstm", **options):
    network = deepspeech2(rnn_type, bidirectional=False, **options)
    for _ in range(30):  # statistics of batch normalisation
        network(torch.randn(2, 20, 100), torch.tensor([100, 100]))
    return StreamingDeepSpeech2Graph(network, 20, 100, (-10.0, 4.0)).eval()


def conformer(**options):
    return ConformerEncoder(20, **SMALL, **options)


def recogniser(network):
    return RecogniserGraph(network, 20, 100)


def samples(network, **features):
    front = FrontendGraph(Chain({"features": LogMel(n_mels=20, **features)}), 16000)
    return SamplesGraph(front, recogniser(network), 0)


CAUSAL = {"causal_downsampling": True, "conv_context_size": "causal"}
CHUNKED = {"att_context_size": (4, 1), "att_context_style": "chunked_limited"}


def streaming_network(**options):
    return EncoderCTC(conformer(**CAUSAL | CHUNKED | {"conv_norm_type": "layer_norm"} | options), 7)


GRAPHS = {
    "deepspeech2": lambda: recogniser(deepspeech2()),
    "deepspeech2_gru": lambda: recogniser(deepspeech2("gru", bidirectional=False)),
    "deepspeech2_rnn": lambda: recogniser(deepspeech2("rnn")),
    "conformer": lambda: recogniser(EncoderCTC(conformer(), 7)),
    "conformer_streaming": lambda: recogniser(
        EncoderCTC(conformer(**CAUSAL, **CHUNKED, conv_norm_type="group_norm2"), 7)
    ),
    "jasper": lambda: recogniser(EncoderCTC(ConvEncoder(20, BLOCKS), 7)),
    "baseline": lambda: recogniser(Baseline(20, 7, 8)),
    "chunks": lambda: StreamingConformerGraph(streaming_network(), (4, 1), 20, 100, (-10.0, 4.0)),
    "chunks, symmetric subsampling": lambda: StreamingConformerGraph(
        streaming_network(causal_downsampling=False), (4, 1), 20, 100
    ),
    **{f"chunks, {name}": partial(chunked_deepspeech2, name) for name in ("lstm", "gru")},
    "nest": lambda: EncoderGraph(conformer(subsampling="striding"), 100),
    "mossformer2": lambda: SeparatorGraph(MossFormer2(8, 1, 64), 8000),
}


def graph_of(name):
    torch.manual_seed(0)
    return GRAPHS[name]().eval()


@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_at_other_lengths(name, tmp_path):
    graph = graph_of(name)
    path = write_program(graph, tmp_path, "onnx", {"a": "b"})
    assert largest_difference(graph, load_program(path), SECONDS) < 1e-5
    if isinstance(graph, StreamingGraph):
        assert streaming_difference(graph, load_program(path)) < 1e-5
    assert [one.name for one in tmp_path.iterdir()] == [f"{graph.name}.onnx"]
    file = OnnxFile(path)
    assert file.session.get_modelmeta().custom_metadata_map == {"a": "b"}
    assert str(tmp_path.parents[2]) not in path.read_bytes().decode("latin1")


@pytest.mark.parametrize("name", ["deepspeech2", "conformer", "jasper", "mossformer2"])
@pytest.mark.parametrize("kind", ["torchscript", "torch_export"])
def test_torch_programs_at_other_lengths(name, kind, tmp_path):
    graph = graph_of(name)
    path = write_program(graph, tmp_path, kind, {})
    assert largest_difference(graph, load_program(path), SECONDS) < 1e-5


def test_plain_rnns_have_no_program_of_torch_export(tmp_path):
    with pytest.raises(ValueError, match="rnn_type rnn has no export; lstm or gru"):
        write_program(graph_of("deepspeech2_rnn"), tmp_path, "torch_export", {})


@pytest.mark.parametrize("name", ["deepspeech2", "conformer", "mossformer2"])
def test_padding_is_ignored(name):
    graph = graph_of(name)
    signal, length = graph.example((1.5, 0.8))
    both = graph(signal, length)[0]
    size = int(length[1])
    alone = graph(signal[1:, ..., :size], length[1:])[0]
    axis = 2 if name == "mossformer2" else 1
    kept = both[1:].narrow(axis, 0, alone.shape[axis])
    torch.testing.assert_close(kept, alone, atol=1e-5, rtol=1e-5)


NEMO = {"preemphasis": 0.97, "symmetric_window": True, "drop_last_frame": True, "pad_to": 16}


@pytest.mark.parametrize(
    "features",
    [LogMel(n_mels=20, **NEMO), LogSpectrogram(n_fft=320, win_length=300)],
    ids=["log_mel", "log_spectrogram"],
)
def test_front_end(features, tmp_path):
    graph, bins, rate = front_end(Chain({"features": features}), 16000)
    assert (bins, rate) == (20 if isinstance(features, LogMel) else 161, 100)
    path = write_program(graph, tmp_path, "onnx", {})
    assert path.name == "frontend.onnx"
    assert largest_difference(graph, load_program(path), SECONDS) < 1e-4
    nodes = required("onnx").load(path).graph.node
    assert {node.domain for node in nodes} == {""}
    assert not {"STFT", "DFT", "Loop", "Scan"} & {node.op_type for node in nodes}


@pytest.mark.parametrize(
    "sizes", [(512, 400, 160), (512, 320, 160), (320, 320, 160), (401, 77, 50)]
)
def test_matrix_spectrogram_equals_stft(sizes):
    plain = PowerSpectrogram(*sizes)
    audio, length = torch.randn(2, 3001), torch.tensor([3001, 1234])
    power, frames = MatrixSpectrogram(plain)(audio, length)
    wanted, wanted_frames = plain(audio, length)
    torch.testing.assert_close(power, wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(frames, wanted_frames)


def test_random_transforms_are_named():
    chain = Chain({"gain": Gain(), "features": LogMel()})
    with pytest.raises(ValueError, match="transforms.batch.inference.gain: random"):
        front_end(chain, 16000)
    with pytest.raises(ValueError, match="give no 'spectrogram'"):
        front_end(Chain({}), 16000)


def test_tokens_are_symbols_without_white_space():
    assert symbols(CharacterEncoder(alphabet="ab ")) == ["<blk>", "a", "b", "\u2581"]
    with pytest.raises(ValueError, match=r"the token '\\t' can't stand in tokens.txt"):
        symbols(CharacterEncoder(alphabet="a\t"))
    with pytest.raises(ValueError, match="can't stand in tokens.txt"):
        symbols(CharacterEncoder(alphabet=" \u2581"))


def test_missing_package_is_named():
    with pytest.raises(ValueError, match="package no_such: pip install -r requirements-export.txt"):
        required("onnx", "no_such")


def test_folder_of_a_recogniser_with_int8(tmp_path):
    torch.manual_seed(0)
    chain = Chain({"features": LogMel(n_mels=20)})
    tokens = CharacterEncoder(alphabet=" abcde")
    network = DeepSpeech2(20, 7, CONVOLUTIONS, hidden_size=64, num_layers=1)
    form = recogniser_form(network, chain, tokens, 16000, {"n_mels": 20})
    write_form(form, tmp_path, "onnx", int8=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["features_size"] == 20 and config["subsampling_factor"] == 4
    assert config["vocabulary"] == ["<blk>", "\u2581", "a", "b", "c", "d", "e"]
    assert config["files"]["model"]["outputs"][0] == "logprobs"
    assert (tmp_path / "tokens.txt").read_text().splitlines()[0] == "<blk> 0"
    plain, small = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    assert small.stat().st_size < 0.6 * plain.stat().st_size
    metadata = OnnxFile(small).session.get_modelmeta().custom_metadata_map
    assert metadata["vocab_size"] == "7" and metadata["subsampling_factor"] == "4"
    inputs = form.graphs[0].example([2.0])
    wanted, given = form.graphs[0](*inputs)[0], OnnxFile(small)(*inputs)[0]
    assert difference(given, wanted) < 0.05


def client_normalised(audio):
    """As sherpa-onnx normalises samples [B, T]."""
    audio = audio - audio.mean(1, keepdim=True)
    return audio / (audio.var(1, correction=0, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("level", [1e-4, 0.01, 0.3])
def test_level_of_normalised_samples_is_restored(level):
    audio = level * torch.randn(2, 16000)
    wanted = audio - audio.mean(1, keepdim=True)
    torch.testing.assert_close(original_level(client_normalised(audio)), wanted, rtol=0.01, atol=0)
    assert original_level(torch.zeros(1, 100)).abs().max() == 0


def test_samples_have_the_log_probabilities_of_their_spectrogram():
    graph = samples(EncoderCTC(ConvEncoder(20, BLOCKS), 7), **NEMO).eval()  # frames of padding
    audio = torch.randn(1, 16100)
    audio = 0.05 * (audio - audio.mean())
    spectrogram, frames = graph.front(audio, torch.tensor([16100]))
    wanted, length = graph.recogniser(spectrogram, frames)
    (given,) = graph(client_normalised(audio))
    size = int(length)
    assert given.shape[1] > size and (given[:, size:].argmax(2) == 0).all()
    torch.testing.assert_close(given[:, :size], wanted[:, :size], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("context", [(4, 3), (4, 1), (4, 0), (0, 1), (0, 0)])
def test_chunks_equal_the_whole_utterance(context, factor, symmetric):
    torch.manual_seed(0)
    options = {"subsampling_factor": factor, "causal_downsampling": not symmetric}
    network = streaming_network(**options, att_context_size=[context]).eval()
    graph = StreamingConformerGraph(network, context, 20, 100, (-10.0, 4.0)).eval()
    assert streaming_difference(graph, lambda *inputs: graph(*inputs)) < 1e-5


def widths(*sizes, stride=2):
    """Convolutions with kernels of these sizes over time, of which the first two have a stride."""
    return [
        {"out_channels": 2, "kernel_size": (3, size), "stride": (2, stride if i < 2 else 1)}
        for i, size in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rnn_type": "gru", "lookahead_context": 1, "head_sizes": [6]},
        {"rnn_type": "rnn", "lookahead_context": 20},
        {"convolutions": widths(11, 11, 11, stride=1)},
        {"convolutions": widths(11, 7)},
        {"convolutions": widths(1, 1)},
        {"convolutions": widths(1, 3, 5)},
    ],
    ids=str,
)
def test_chunks_of_deepspeech2_equal_the_whole_utterance(options):
    torch.manual_seed(0)
    graph = chunked_deepspeech2(**options)
    assert streaming_difference(graph, lambda *inputs: graph(*inputs)) < 1e-5


@pytest.mark.parametrize("frames", [3, 8, 100, 203])
def test_all_output_frames_of_chunks_have_the_text_of_the_whole_utterance(frames):
    torch.manual_seed(0)
    graph = chunked_deepspeech2(convolutions=widths(11, 7))
    assert graph.delay % graph.chunk > 0
    x, caches, ids = torch.randn(1, 20, frames), graph.caches(1), []
    for start in range(0, frames + graph.flushes * graph.size, graph.size):
        chunk = (x * 4.0 - 10.0)[..., start : start + graph.size]
        padded = pad(chunk, (0, graph.size - chunk.shape[2]))
        log_probs, _, *caches = graph(padded, torch.tensor([chunk.shape[2]]), *caches)
        ids += log_probs[0].argmax(1).tolist()
    wanted = graph.whole(x)[0].argmax(1).tolist()
    assert len(set(wanted)) > 1 or frames < 10
    assert collapsed(ids) == collapsed(wanted)


def collapsed(ids):
    """Tokens of CTC's output without repetitions and blanks."""
    return [token for token, _ in groupby(ids) if token > 0]


def test_streams_of_offline_models_are_refused():
    with pytest.raises(ValueError, match=r"att_context_size: \[-1, -1\]"):
        StreamingConformerGraph(EncoderCTC(conformer(), 7), (-1, -1), 20, 100)
    with pytest.raises(ValueError, match="DeepSpeech2.bidirectional: True"):
        StreamingDeepSpeech2Graph(deepspeech2(), 20, 100)
