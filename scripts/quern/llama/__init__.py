"""The one door to llama.cpp: models, decoding, activations, quantization.

Nobody else imports llama_cpp or ctypes. llama.cpp's log goes to the `quern.llama` logger.
"""

from .library import (
    VERSION,
    block_size,
    build,
    computed_by,
    quantization_types,
    tensor_types,
)
from .model import Model
from .quantizer import dequantize_rows, quantize, quantize_rows
from .taps import Product

__all__ = [
    "VERSION",
    "Model",
    "Product",
    "block_size",
    "build",
    "computed_by",
    "dequantize_rows",
    "quantization_types",
    "quantize",
    "quantize_rows",
    "tensor_types",
]
