"""How fast a machine is and how large a type, the constants of all formulas in one place.

Cores: 2 virtual ones of an AMD EPYC, of which a rate is one core's, from the runs in
docs/measurements/costs.csv. GPU: on paper, what llama.cpp is known to reach of an A100. Another
machine is faster or slower by its own factor, which is why jobs ask for more than what is expected,
see `Cost`.
"""

START = 1.8  # s of a core for a command: Python, imports, compiled loops that are loaded
LIGHT = 4.0  # s of a core for tables and pictures, which pandas, matplotlib and intervals take
BASE = 250e6  # bytes of Python, its libraries and what they hold
PYTHON = 70e6  # bytes of Python alone
CONVERTER = 9e9  # bytes of llama.cpp's converter: PyTorch, and the largest tensor in float32
ENTRY = 3e-6  # s for an entry of a vocabulary that is read, with its merges
ENTRY_BYTES = 400  # that are held of it
READ = 500e6  # bytes/s from a disk; a network's file system may be slower
HASH = 1.0e9  # bytes/s of SHA-256, a core
CORPUS = 15e6  # bytes/s of text that is split, a core
TOKENIZE = 1e6  # bytes/s of text, a core
BYTES_PER_TOKEN = 4.0  # of text, where nothing is tokenized yet
SAMPLE = 3e3  # bytes of text of a sample, where none is fetched yet

FLOPS = 65e9  # FLOP/s of llama.cpp's products, a core
PRODUCT = 70e9  # FLOP/s of float32 BLAS, a core
PAIR = 1.8e-9  # s of a core for the divergence of one pair of logits
BANDWIDTH = 8e9  # bytes/s of weights that a generated token reads, all cores
WRITE = 300e6  # bytes/s of a model or a store that is written

GPU_FLOPS = 50e12  # FLOP/s of llama.cpp's products on a GPU
GPU_BANDWIDTH = 1e12  # bytes/s of its memory
PCI = 5e9  # bytes/s from the host to it
TAP = 4e9  # bytes/s of inputs that are squared and summed, a core

# s of a core for a weight: llama.cpp's quantization, and each rounding after it, by what types
# begin with.
_NS = 1e-9
QUANTIZE = {
    "Q8_0": 4 * _NS,
    "Q4": 35 * _NS,
    "Q5": 35 * _NS,
    "Q6_K": 50 * _NS,
    "Q4_K": 130 * _NS,
    "Q5_K": 150 * _NS,
    "Q3_K": 100 * _NS,
    "Q2_K": 180 * _NS,
    "IQ4": 300 * _NS,
    "IQ3": 500 * _NS,
    "IQ2": 1000 * _NS,
    "IQ1": 2000 * _NS,
    "F": 1 * _NS,
    "BF": 1 * _NS,
    "": 120 * _NS,
}
ROUND = {
    "exact": 100 * _NS,
    "importance": 100 * _NS,
    "gradient": 150 * _NS,
    "cumulative": 1000 * _NS,
    "compensated": 1000 * _NS,
}
ROUND_GRIDS = 3000 * _NS  # types whose weights are looked up together
COPIED = 3 * _NS  # s of a core for a weight that is read, widened and written

# Bits per weight of a whole file, as llama.cpp's quantize.cpp gives them for Llama 3 8B; a small
# model, which is mostly embeddings, has more.
BITS = {
    "F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.57, "Q5_1": 6.0, "Q5_0": 5.6,
    "Q5_K": 5.7, "Q5_K_M": 5.7, "Q5_K_S": 5.57, "Q4_1": 5.1, "Q4_0": 4.66, "Q4_K": 4.89,
    "Q4_K_M": 4.89, "Q4_K_S": 4.67, "Q3_K": 4.0, "Q3_K_L": 4.3, "Q3_K_M": 4.0, "Q3_K_S": 3.64,
    "Q2_K": 3.16, "Q2_K_S": 2.97, "IQ4_NL": 4.68, "IQ4_XS": 4.46, "IQ3_M": 3.76, "IQ3_S": 3.66,
    "IQ3_XS": 3.5, "IQ3_XXS": 3.25, "IQ2_M": 2.93, "IQ2_S": 2.75, "IQ2_XS": 2.59, "IQ2_XXS": 2.38,
    "IQ1_M": 2.15, "IQ1_S": 2.01, "TQ1_0": 1.9, "TQ2_0": 2.3, "MXFP4_MOE": 4.4, "NVFP4": 4.7,
    "Q1_0": 1.5, "Q2_0": 2.5,
}  # fmt: skip


def of_type(kind: str, table: dict[str, float]) -> float:
    """The entry of a table for the longest beginning of a type's name."""
    return table[max((key for key in table if kind.startswith(key)), key=len)]
