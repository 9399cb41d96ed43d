"""Weights of an ONNX file in eight bits, with inputs of products quantised at run time."""

import tempfile
from pathlib import Path
from typing import Any

from src.interop.export.packages import required

# Products with weights. ConvInteger is slower than Conv in onnxruntime, so convolutions stay.
OPERATORS = ["MatMul", "Gemm", "LSTM"]


def write_int8(source: Path, path: Path) -> None:
    """Quantise the products of a file of ONNX dynamically.

    Args:
        source: the float32 file.
        path: of the file to write.

    Raises:
        ValueError: a package is missing.
    """
    onnx = required("onnx")
    required("onnxruntime")
    quantization = required("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=OPERATORS,
            nodes_to_exclude=batches_of_matrices(onnx.load(prepared)),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )


def batches_of_matrices(model: Any) -> list[str]:
    """Names of the products with a constant that isn't one matrix.

    onnxruntime can't run them with a scale for each column; positions of attention are such.
    """
    ranks = {constant.name: len(constant.dims) for constant in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type == "MatMul"]
    return [node.name for node in nodes if any(ranks.get(name, 2) != 2 for name in node.input)]
