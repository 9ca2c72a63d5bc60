"""How fast a machine is, the constants of all formulas but for those of types (`ggml_types`).

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

# s of a core for a weight, of each rounding after llama.cpp's quantization, whose own time is a
# type's (`ggml_types`).
_NS = 1e-9
ROUND = {
    "exact": 100 * _NS,
    "importance": 100 * _NS,
    "gradient": 150 * _NS,
    "cumulative": 1000 * _NS,
    "compensated": 1000 * _NS,
}
ROUND_GRIDS = 3000 * _NS  # types whose weights are looked up together
COPIED = 3 * _NS  # s of a core for a weight that is read, widened and written
