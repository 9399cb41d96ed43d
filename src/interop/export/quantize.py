"""Weights of an ONNX file in eight bits, with inputs of products quantised at run time."""

import tempfile
from pathlib import Path
from typing import Any

from src.interop.export.packages import required

# Products with weights. ConvInteger is slower than Conv in onnxruntime, so convolutions stay.
OPERATORS = ["MatMul", "Gemm", "LSTM"]
FLOAT = 1  # data type of a tensor in single precision


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
            nodes_to_exclude=plain_products(onnx.load(prepared)),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )


def plain_products(model: Any) -> list[str]:
    """Names of the products that stay as they are: those with another constant than one matrix.

    onnxruntime can't run batches of matrices with a scale for each column; positions of attention
    are such. The Fourier transform of a front end is in double precision.
    """
    tensors = model.graph.initializer
    single = {one.name: len(one.dims) == 2 and one.data_type == FLOAT for one in tensors}
    nodes = [node for node in model.graph.node if node.op_type == "MatMul"]
    return [node.name for node in nodes if not all(single.get(name, True) for name in node.input)]
