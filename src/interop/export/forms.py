"""The forms in which models are exported: graphs, and the files beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.interop.export import recogniser
from src.interop.export.clients import STREAMING_DELAY
from src.interop.export.graphs import (
    EncoderGraph,
    FrontendGraph,
    Graph,
    RecogniserGraph,
    SamplesGraph,
    SeparatorGraph,
)
from src.interop.export.programs import write_program
from src.interop.export.quantize import write_int8
from src.interop.export.streaming_graph import (
    StreamingConformerGraph,
    StreamingDeepSpeech2Graph,
    StreamingGraph,
)
from src.models.deepspeech2 import DeepSpeech2
from src.models.encoder_ctc import EncoderCTC
from src.models.mossformer2 import MossFormer2
from src.models.nest import NEST
from src.text_encoder.base import TextEncoder
from src.transforms.base import RandomTransform
from src.transforms.chain import Chain
from src.utils.files import write_beside

CONFIG = "config.json"
INT8_SUFFIX = ".int8.onnx"


@dataclass(frozen=True)
class Form:
    """All that is written to the folder of an export.

    Attributes:
        graphs: the network first.
        config: content of config.json.
        texts: further files by name.
    """

    graphs: list[Graph]
    config: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)

    @property
    def streaming(self) -> StreamingGraph | None:
        """The graph for streams, if the network can be applied to them."""
        return next((one for one in self.graphs if isinstance(one, StreamingGraph)), None)


def recogniser_form(
    network: nn.Module,
    transforms: Chain,
    text_encoder: TextEncoder,
    sample_rate: int,
    features: Mapping[str, Any],
    for_clients: bool = True,
    context: tuple[int, int] | None = None,
) -> Form:
    """A CTC recogniser and its front end, as sherpa-onnx and onnx-asr load them.

    Args:
        network: returns `log_probs` of spectrograms.
        transforms: of inference, to spectrograms.
        text_encoder: its tokens.
        sample_rate: in Hz.
        features: arguments of the front end, for information.
        for_clients: also write the file of samples for sherpa-onnx.
        context: of attention in frames, for streams; None: the network's first, if there is one.

    Raises:
        ValueError: the front end is random or makes no spectrograms, the model has no constant
            subsampling factor or no such context, or a token can't be written.
    """
    scale = recogniser.fixed_scale(transforms)
    front, bins, rate = front_end(transforms, sample_rate, scale)
    names, factor = recogniser.symbols(text_encoder), recogniser.subsampling_factor(network)
    tokens = recogniser.tokens_text(names)
    suits = recogniser.suits_clients(transforms, sample_rate)
    graph = RecogniserGraph(network, bins, rate, scale).eval()
    graph.metadata = recogniser.metadata(names, factor, per_feature=suits)
    graphs: list[Graph] = [graph, front]
    # sherpa-onnx removes the mean of samples, which features of fixed scale would show.
    suits_samples = sample_rate == recogniser.CLIENT_RATE and recogniser.normalises(transforms)
    if for_clients and suits_samples:
        graphs.append(SamplesGraph(front, graph, recogniser.BLANK_ID).eval())
    config = recogniser.describe(names, factor, bins, sample_rate, features, suits)
    streaming = streaming_graph(network, transforms, bins, rate, scale, context)
    if streaming is not None:
        graphs.append(streaming)
        config[STREAMING_DELAY] = streaming.delay * streaming.stride / rate
    return Form(
        graphs=graphs,
        config=config,
        texts={"tokens.txt": tokens, "vocab.txt": tokens},
    )


def streaming_graph(
    network: Any,
    transforms: Chain,
    bins: int,
    rate: float,
    scale: tuple[float, float] | None,
    context: tuple[int, int] | None,
) -> StreamingGraph | None:
    """The graph for streams; None for a network or front end that needs whole utterances.

    Raises:
        ValueError: a context is given that the network doesn't have.
    """
    try:
        if recogniser.normalises(transforms):
            raise ValueError("stream: the front end needs the whole utterance.")
        if isinstance(network, DeepSpeech2):
            return StreamingDeepSpeech2Graph(network, bins, rate, scale, context).eval()
        if not isinstance(network, EncoderCTC):
            raise ValueError("stream: the model needs the whole utterance.")
        first = getattr(network.encoder, "att_context_sizes", [(-1, -1)])[0]
        return StreamingConformerGraph(network, context or first, bins, rate, scale).eval()
    except ValueError:
        if context is None:
            return None
        raise


def encoder_form(
    network: NEST, transforms: Chain, sample_rate: int, features: Mapping[str, Any]
) -> Form:
    """The encoder of NEST and its front end, from audio to vectors.

    Args:
        network: the pretrained model, of which only the encoder is exported.
        transforms: of inference, to spectrograms.
        sample_rate: in Hz.
        features: arguments of the front end, for information.

    Raises:
        ValueError: the front end is random or makes no spectrograms.
    """
    front, bins, rate = front_end(transforms, sample_rate)
    config = {
        "task": "pretraining",
        "sample_rate": sample_rate,
        "features": dict(features),
        "features_size": bins,
        "subsampling_factor": network.encoder.subsampling.factor,
        "encoded_size": network.encoder.feat_out,
    }
    return Form(graphs=[EncoderGraph(network.encoder, rate).eval(), front], config=config)


def separator_form(network: MossFormer2, sample_rate: int) -> Form:
    """A separator, from samples to the signals of the speakers.

    Args:
        network: the model.
        sample_rate: in Hz.
    """
    config = {
        "task": "separation",
        "sample_rate": sample_rate,
        "num_speakers": network.num_speakers,
        "kernel_size": network.kernel_size,
    }
    return Form(graphs=[SeparatorGraph(network, sample_rate).eval()], config=config)


def front_end(
    transforms: Chain, sample_rate: int, scale: tuple[float, float] | None = None
) -> tuple[FrontendGraph, int, float]:
    """The graph of the transforms of inference, the bins of its spectrograms and their rate in Hz.

    Args:
        transforms: of inference.
        sample_rate: in Hz.
        scale: see `FrontendGraph`.

    Raises:
        ValueError: a transform is random, or there are no spectrograms.
    """
    for name, transform in transforms.items():
        if isinstance(transform, RandomTransform):
            raise ValueError(f"transforms.batch.inference.{name}: random; an export needs null.")
    graph = FrontendGraph(transforms, sample_rate, scale)
    try:
        with torch.no_grad():
            (one, less), (_, more) = (graph(*graph.example([seconds])) for seconds in (1, 2))
    except KeyError as error:
        raise ValueError(
            f"transforms.batch.inference: give no {error}, which is exported."
        ) from None
    return graph.eval(), one.shape[1], float(more - less)


def write_form(form: Form, folder: Path, kind: str, int8: bool = False) -> None:
    """Write all files of an export.

    Args:
        form: what to write.
        folder: exists.
        kind: of the graphs: `onnx`, `torchscript` or `torch_export`.
        int8: also write the network of ONNX with weights of eight bits.

    Raises:
        ValueError: a package is missing, or the format can't hold a graph.
    """
    for graph in form.graphs:
        path = write_program(graph, folder, kind, graph.metadata)
        if int8 and not isinstance(graph, FrontendGraph):
            write_int8(path, path.with_suffix(INT8_SUFFIX))
    config = form.config | {
        "files": {
            graph.name: {"inputs": list(graph.inputs), "outputs": list(graph.outputs)}
            for graph in form.graphs
        }
    }
    texts = {CONFIG: json.dumps(config, ensure_ascii=False, indent=2) + "\n", **form.texts}
    for name, text in texts.items():
        with write_beside(folder / name) as path:
            path.write_text(text, encoding="utf-8")
