"""Weights of an ONNX file in eight bits, with inputs of products quantised at run time."""

import tempfile
from pathlib import Path

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
    required("onnx", "onnxruntime")
    quantization = required("onnxruntime.quantization")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quantization.quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=OPERATORS,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )
