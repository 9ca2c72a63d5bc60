"""The one door to llama.cpp: models, decoding, activations, quantization.

Nobody else imports llama_cpp or ctypes. llama.cpp's log goes to the `quern.llama` logger.
"""

from .library import (
    VERSION,
    block_size,
    build,
    computed_by,
    quantization_types,
    target_types,
    tensor_types,
)
from .model import Model
from .quantizer import (
    QuantizationParameters,
    dequantize_rows,
    metadata_text,
    planned_types,
    quantize,
    quantize_rows,
)
from .taps import OUTPUT_WEIGHTS, Product
from .weights import Weight

__all__ = [
    "OUTPUT_WEIGHTS",
    "VERSION",
    "Model",
    "Product",
    "QuantizationParameters",
    "Weight",
    "block_size",
    "build",
    "computed_by",
    "dequantize_rows",
    "metadata_text",
    "planned_types",
    "quantization_types",
    "quantize",
    "quantize_rows",
    "target_types",
    "tensor_types",
]
