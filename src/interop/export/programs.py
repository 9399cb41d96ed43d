"""Writes a graph as ONNX, TorchScript or a program of torch.export."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import config
from torch import nn
from torch.export._patches import (
    register_gru_while_loop_decomposition,
    register_lstm_while_loop_decomposition,
)

from src.interop.export.graphs import TRACED_SECONDS, Graph, dynamic_shapes
from src.interop.export.packages import required
from src.interop.export.substitutes import OPSET, substituted

SUFFIXES = {"onnx": ".onnx", "torchscript": ".ts", "torch_export": ".pt2"}
LARGEST = 2**31 - 1  # bytes of a protocol buffer


def write_program(graph: Graph, folder: Path, kind: str, metadata: Mapping[str, str]) -> Path:
    """Write a graph to a folder.

    Args:
        graph: in evaluation mode.
        folder: exists.
        kind: `onnx`, `torchscript` or `torch_export`.
        metadata: of an ONNX file.

    Returns:
        The file.

    Raises:
        ValueError: a package is missing, or the format can't hold the graph.
    """
    path = folder / f"{graph.name}{SUFFIXES[kind]}"
    with torch.no_grad(), tracing():
        if kind == "onnx":
            write_onnx(graph, path, metadata)
        elif kind == "torchscript":
            torch.jit.trace(graph, graph.example(TRACED_SECONDS), check_trace=False).save(path)
        else:
            torch.export.save(exported(graph), path)
    return path


def exported(graph: Graph) -> torch.export.ExportedProgram:
    """The program of a graph, for any batch size and duration.

    Raises:
        ValueError: it has plain RNNs, which torch.export unrolls to a fixed number of frames.
    """
    if any(isinstance(part, nn.RNN) for part in graph.modules()):
        raise ValueError("torch_export: rnn_type rnn has no export; lstm or gru.")
    with register_lstm_while_loop_decomposition(), register_gru_while_loop_decomposition():
        program = torch.export.export(
            graph, graph.example(TRACED_SECONDS), dynamic_shapes=dynamic_shapes(graph)
        )
    # Sizes that the traced example had by chance, e.g. more than one group of frames; the outputs
    # at other sizes are compared.
    program._guards_code.clear()
    return program


def write_onnx(graph: Graph, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a graph as one file of ONNX.

    Raises:
        ValueError: a package is missing, or the file would be larger than 2 GB.
    """
    required("onnx", "onnxscript")
    size = sum(p.numel() * p.element_size() for p in graph.state_dict().values())
    if size > LARGEST:
        raise ValueError(f"{path.name}: {size:,} bytes of weights; at most {LARGEST:,} in a file.")
    program: Any = torch.onnx.export(
        substituted(graph),
        graph.example(TRACED_SECONDS),
        input_names=graph.inputs,
        output_names=graph.outputs,
        dynamic_shapes=dynamic_shapes(graph),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props.update(metadata)
    program.model.graph.metadata_props.clear()
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, with the folders of this machine
    program.save(path, external_data=False)


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """No warnings of the exporters, and no run-time checks of annotations, to which the symbolic
    sizes of traced tensors are no ints."""
    logger, checked = logging.getLogger("torch.onnx"), not config.jaxtyping_disable
    level = logger.level
    logger.setLevel(logging.ERROR)
    config.update("jaxtyping_disable", True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        config.update("jaxtyping_disable", not checked)
