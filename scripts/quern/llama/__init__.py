"""The one door to llama.cpp: models, decoding, activations, quantization.

Nobody else imports llama_cpp or ctypes. llama.cpp's log goes to the `quern.llama` logger.
"""

from .bench import Bench
from .contexts import CELLS, LOGGED_BYTES, Reserved, reserved, reserved_for_windows
from .library import (
    FOLDER,
    VERSION,
    block_size,
    build,
    computed_by,
    devices,
    quantization_types,
    target_types,
    tensor_types,
)
from .loading import warnings
from .model import KV_TYPE, Model
from .product import DeviceProduct
from .quantizer import (
    QuantizationParameters,
    dequantize_rows,
    metadata_text,
    planned_types,
    quantize,
    quantize_rows,
)
from .sampling import samples
from .scratch import scratch_bytes
from .taps import OUTPUT_WEIGHTS, Product
from .way import ONE_THREAD, Way
from .weights import Weight

__all__ = [
    "CELLS",
    "FOLDER",
    "KV_TYPE",
    "LOGGED_BYTES",
    "ONE_THREAD",
    "OUTPUT_WEIGHTS",
    "VERSION",
    "Bench",
    "DeviceProduct",
    "Model",
    "Product",
    "QuantizationParameters",
    "Reserved",
    "Way",
    "Weight",
    "block_size",
    "build",
    "computed_by",
    "dequantize_rows",
    "devices",
    "metadata_text",
    "planned_types",
    "quantization_types",
    "quantize",
    "quantize_rows",
    "reserved",
    "reserved_for_windows",
    "samples",
    "scratch_bytes",
    "target_types",
    "tensor_types",
    "warnings",
]
