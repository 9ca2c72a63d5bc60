"""The formulas: what each stage costs, from a model's shape, tokens, and the machine's rates.

A product of a matrix of w weights with the vectors of t tokens is 2 w t FLOP. So a decode is twice
the weights of the blocks for each token, twice those of the output matrix for each position whose
logits are wanted, and 4 c FLOP for each number c of the heads and each earlier token of the window.

Memory: llama.cpp maps a model's file. A page of it that is dropped is read again, so a job runs
within less, but one that goes through the model once a window would read all of it each time. So
weights count where they are used again (`memory`) and not where they pass once (`passing`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ggml_types import PROBES, QUANTIZATION_TYPES, TENSOR_TYPES
from . import rates
from .shape import Shape

# Copies of what the stages have, which load more than the rules should; a test compares them.
LOGITS_BYTES = 96 << 20  # of one decode call
GPU_LOGITS_BYTES = 512 << 20  # the same where models are on GPUs
PRODUCT_BYTES = 128 << 20  # of one product
SMALL_MODEL = 512 << 20  # bytes up to which a model has two contexts side by side
NOISE_WINDOWS = 8  # which a comparison decodes again
GRAPH = 512  # tokens of a graph
ROWS = 48  # of each tensor, whose errors are measured
RIVALS = 3  # stock mixes beside which a mix is proved, and the model itself
POSITION_BYTES = 34  # of a comparison, for each scored position

GENERATED = 4  # generating a token takes as long as so many in a window, several at a time

SLACK = 2.0  # what a job asks for, over what is expected
SPARE_MINUTES, SPARE_MB = 10, 500


@dataclass(frozen=True)
class Cost:
    """What a job is expected to cost.

    Attributes:
        serial: seconds that more cores do not shorten.
        work: seconds of one core, that they do.
        device: seconds on a GPU.
        memory: bytes that must be there.
        passing: bytes of files that are read once and need not stay; they may count as resident.
        disk: bytes that are left behind.
        scratch: bytes that lie on the disk meanwhile.
    """

    serial: float = 0.0
    work: float = 0.0
    device: float = 0.0
    memory: float = rates.BASE
    passing: float = 0.0
    disk: float = 0.0
    scratch: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        """One after the other, in one process."""
        return Cost(
            self.serial + other.serial,
            self.work + other.work,
            self.device + other.device,
            max(self.memory, other.memory),
            max(self.passing, other.passing),
            self.disk + other.disk,
            max(self.scratch, other.scratch),
        )

    @property
    def core_seconds(self) -> float:
        """Seconds of processors."""
        return self.serial + self.work

    def seconds(self, threads: int) -> float:
        """Seconds on the clock."""
        return self.serial + self.work / max(1, threads) + self.device

    def minutes_asked(self, threads: int, attempt: int = 1) -> int:
        """Minutes for a job to ask for, at some attempt."""
        return math.ceil(attempt * (SPARE_MINUTES + SLACK * self.seconds(threads) / 60))

    def megabytes_asked(self, attempt: int = 1) -> int:
        """MB of memory for a job to ask for, at some attempt."""
        return math.ceil(attempt * (SPARE_MB + 1.25 * self.memory / 1e6))


@dataclass(frozen=True)
class Decoded:
    """What is decoded.

    Attributes:
        count: how many windows.
        n_ctx: tokens of each.
        scored: positions of each whose logits are wanted.
    """

    count: float
    n_ctx: int
    scored: int = 0

    @property
    def tokens(self) -> float:
        return self.count * self.n_ctx

    @property
    def positions(self) -> float:
        return self.count * self.scored


def light(size: float = 0.0) -> Cost:
    """A table, a picture, a page: interpreter and libraries, no model; `size` bytes are left."""
    return Cost(serial=rates.LIGHT, memory=2 * rates.BASE, disk=size)


def hashing(size: float, vocab: int = 0) -> Cost:
    """A file read once, by the rate of SHA-256; a vocabulary read entry by entry."""
    return Cost(
        rates.START / 6 + size / rates.READ + size / rates.HASH + vocab * rates.ENTRY,
        memory=rates.PYTHON + rates.ENTRY_BYTES * vocab,
        passing=size,
    )


def conversion(size: float) -> Cost:
    """Weights read, written in about as many bytes, and hashed, by a program that holds some."""
    seconds = size / rates.READ + size / rates.WRITE + size / rates.HASH
    return Cost(5 * rates.START + seconds, memory=rates.CONVERTER, passing=size, disk=size)


def corpus(size: float) -> Cost:
    """Text split once and written again; 50 bytes of memory a document."""
    return Cost(serial=rates.START + size / rates.CORPUS, memory=2 * rates.BASE, disk=1.1 * size)


def tokens(shape: Shape, size: float) -> Cost:
    """Text tokenized, 4 bytes a token left; a large vocabulary takes some 200 bytes an entry."""
    found = size / rates.BYTES_PER_TOKEN
    memory = rates.BASE + 400 * shape.vocab + min(4 * size, 400e6)
    return Cost(rates.START + size / rates.TOKENIZE, memory=memory, disk=4 * found)


def flop(shape: Shape, windows: Decoded) -> float:
    """FLOP of a decode, see above; a token sees half of its window on average."""
    attention = 4 * shape.attention * windows.n_ctx / 2
    return (2 * shape.body + attention) * windows.tokens + 2 * shape.output * windows.positions


def context(shape: Shape, windows: Decoded, gpu: int = 0) -> float:
    """Bytes of a context: K/V cache in F16, a graph's intermediate values, logits of one call.

    Two contexts where the model is small, or on GPUs. The cache is made anew for each window.
    """
    cache = 2 * shape.cache * windows.n_ctx
    graph = 4 * min(GRAPH, windows.n_ctx) * (8 * shape.width)
    room = GPU_LOGITS_BYTES if gpu else LOGITS_BYTES
    logits = min(room, 4 * shape.vocab * windows.scored)
    return (2 if gpu or shape.bytes <= SMALL_MODEL else 1) * (cache + graph + logits)


def decode(shape: Shape, size: float, windows: Decoded, gpu: int = 0) -> Cost:
    """A model opened, and windows decoded.

    Args:
        size: bytes of the model's file, which is another than the shape's where it is quantized.
        gpu: how many GPUs it runs on; its weights pass through the host's memory then. Several
            share the layers and take turns, so they are no faster than one.
    """
    start, memory = rates.START + size / rates.READ, rates.BASE + context(shape, windows, gpu)
    if gpu:
        device = size / rates.PCI + flop(shape, windows) / rates.GPU_FLOPS
        return Cost(start, device=device, memory=memory, passing=size)
    return Cost(start, flop(shape, windows) / rates.FLOPS, memory=memory + size)


def baseline(shape: Shape, windows: Decoded, store: str = "auto", gpu: int = 0) -> Cost:
    """The blocks, and 2 bytes for each number of a hidden state; or all, and 4 for each logit."""
    hidden = store != "logits"
    size = windows.positions * (2 * shape.width if hidden else 4 * shape.vocab)
    last = replace(windows, scored=0) if hidden else windows
    found = decode(shape, shape.bytes, last, gpu)
    memory = found.memory + min(PRODUCT_BYTES, 4 * shape.vocab * windows.scored)
    return replace(found, memory=memory, disk=size) + Cost(serial=size / rates.WRITE)


def compare(shape: Shape, size: float, windows: Decoded, store: str = "auto", gpu: int = 0) -> Cost:
    """A quantized model decoded, some windows twice (noise), and the divergence of its logits.

    From hidden states, the baseline's logits are a product of 2 · vocabulary · width FLOP a
    position, on the CPU or the GPU, from where they come to the host. Intervals take a second more.
    """
    again = min(NOISE_WINDOWS, windows.count)
    found = decode(shape, size, replace(windows, count=windows.count + again), gpu)
    positions = windows.positions + again * windows.scored
    work = positions * shape.vocab * rates.PAIR
    memory = found.memory + 2 * min(PRODUCT_BYTES, 4 * shape.vocab * windows.scored)
    device = 0.0
    if store != "logits" and gpu:
        product = 2 * shape.output * positions / rates.GPU_FLOPS
        device = product + (2 * shape.output + 4 * shape.vocab * positions) / rates.PCI
    elif store != "logits":
        work += 2 * shape.output * positions / rates.PRODUCT
        memory += 2 * shape.output
    disk = POSITION_BYTES * windows.positions
    return replace(found, memory=memory, disk=disk) + Cost(serial=1.0, work=work, device=device)


def perplexity(shape: Shape, size: float, windows: Decoded, gpu: int = 0) -> Cost:
    """A model decoded, and the sum of each row of logits."""
    work = windows.positions * shape.vocab * rates.PAIR / 2
    found = decode(shape, size, windows, gpu)
    return replace(found, disk=POSITION_BYTES / 4 * windows.positions) + Cost(work=work)


def imatrix_shard(shape: Shape, windows: Decoded, gpu: int = 0) -> Cost:
    """The blocks decoded, each input squared and summed; two sums of 8 bytes a column."""
    found = decode(shape, shape.bytes, windows, gpu)
    inputs = 4 * windows.tokens * shape.columns / shape.experts
    size = 2 * 8 * shape.columns
    return replace(found, memory=found.memory + 2 * size, disk=size) + Cost(work=inputs / rates.TAP)


def imatrix(shape: Shape, shards: int) -> Cost:
    """Shards added up; 4 bytes a column are left."""
    size = 16 * shape.columns
    return Cost(
        rates.START + shards * (0.02 + size / rates.READ),
        memory=2 * rates.BASE + 4 * size,
        disk=size / 4,
    )


def moments(
    shape: Shape, windows: Decoded, parts: int = 1, limit: float = math.inf, gpu: int = 0
) -> Cost:
    """The blocks decoded, and tokens · columns² FLOP for each distinct input of a part of them.

    That is half of a product, by symmetry. Two sums in float32 are left.

    Args:
        limit: bytes of moments that a job holds.
    """
    found = decode(shape, shape.bytes, windows, gpu)
    own = min(limit, 2 * 4 * shape.squares / parts)
    work = windows.tokens * shape.squares / shape.experts / parts / rates.PRODUCT
    # Half of them are held besides, while they are judged.
    memory = found.memory + 1.5 * own
    return replace(found, memory=memory, disk=own) + Cost(work=work)


def damage(shape: Shape, windows: Decoded, parts: int = 1, gpu: int = 0) -> Cost:
    """A window decoded for each tensor of a part, and each tensor rounded to a probe and put back.

    The model lies in memory of its own, beside it the logits of the baseline.
    """
    each = shape.matrices / parts
    found = decode(shape, shape.bytes, replace(windows, count=each + 2), gpu)
    rounding = shape.weights / parts * (TENSOR_TYPES[PROBES[0]].seconds + 2 * rates.COPIED)
    logits = 8 * shape.vocab * windows.scored
    pairs = (each + 2) * windows.scored * shape.vocab * rates.PAIR
    memory = found.memory + 2 * logits + 4 * shape.largest
    return replace(
        found, memory=memory, passing=shape.bytes, disk=8 * each * windows.scored
    ) + Cost(work=rounding + pairs)


def mix_errors(shape: Shape, types: Sequence[str], rounding: str, rows: int = ROWS) -> Cost:
    """Some rows of each matrix rounded to each type; starting costs each tensor a moment."""
    weights = rows * shape.columns
    per_weight = sum(TENSOR_TYPES[kind].seconds for kind in types)
    if rounding in rates.ROUND:
        per_weight += len(types) * rates.ROUND[rounding]
    memory = 2 * rates.BASE + 8 * 4 * rows * shape.columns / max(1, shape.matrices)
    return Cost(2 * rates.START, 1.5 * weights * per_weight, memory=memory, passing=shape.bytes)


def mix(shape: Shape, windows: Decoded, rounding: str = "ggml", gpu: int = 0) -> Cost:
    """The knapsack (seconds), and the mix and some stock ones rounded in memory and decoded.

    Args:
        windows: those on which damage was measured, and those held back.
    """
    decoded = decode(shape, shape.bytes, replace(windows, count=(2 + RIVALS) * windows.count), gpu)
    per_weight = TENSOR_TYPES["Q4_K"].seconds + rates.ROUND.get(rounding, 0.0)
    rounded = (1 + RIVALS) * shape.weights * per_weight
    pairs = (2 + RIVALS) * windows.positions * shape.vocab * rates.PAIR
    memory = decoded.memory + 4 * shape.largest + 8 * shape.vocab * windows.scored
    scratch = 4 * shape.vocab * windows.positions
    return replace(decoded, memory=memory, passing=shape.bytes, scratch=scratch) + Cost(
        serial=5.0, work=rounded + pairs
    )


def quantized_bytes(shape: Shape, kind: str) -> float:
    """Bytes of a file of this type."""
    bits = QUANTIZATION_TYPES[kind].bits if kind in QUANTIZATION_TYPES else 16.0
    return shape.weights * bits / 8


def quantize(shape: Shape, kind: str, size: float) -> Cost:
    """Each weight rounded once, by llama.cpp's search for its type.

    The model passes once; the largest tensor is held in float32 and in its type.

    Args:
        size: bytes of the file that is made.
    """
    per_weight = rates.COPIED + QUANTIZATION_TYPES[kind].tensor_type.seconds
    return Cost(
        rates.START + shape.bytes / rates.READ + size / rates.WRITE,
        shape.weights * per_weight,
        memory=rates.BASE + 8 * shape.largest,
        passing=shape.bytes,
        disk=size,
    )


def reround(shape: Shape, kind: str, rounding: str, size: float) -> Cost:
    """Each weight rounded again; the model and llama.cpp's file pass once.

    `compensated` multiplies some 12 times with H (columns² a row, see
    docs/measurements/compensated.md), and holds some matrices of the widest input.
    """
    per_weight = rates.COPIED + rates.ROUND[rounding]
    memory = rates.BASE + 12 * shape.largest
    if rounding == "compensated":
        wide = shape.squares / max(1, shape.columns)  # columns of the inputs, on average
        per_weight += 12 * wide / rates.PRODUCT
        memory += 6 * 4 * (4 * wide) ** 2
    elif QUANTIZATION_TYPES[kind].tensor_type.has_table:
        per_weight = rates.ROUND_GRIDS
    return Cost(
        rates.START + (shape.bytes + size) / rates.READ + size / rates.WRITE,
        shape.weights * per_weight,
        memory=memory,
        passing=shape.bytes + size,
        disk=size,
    )


def speed(
    shape: Shape,
    sizes: Sequence[float],
    prompt: int,
    generation: int,
    depths: Sequence[int],
    repeats: int,
    gpu: int = 0,
) -> Cost:
    """A prompt, with a warm-up, and generated tokens, which read all weights, in each round."""
    total = Cost()
    bandwidth = rates.GPU_BANDWIDTH if gpu else rates.BANDWIDTH
    for size in sizes:
        for depth in depths:
            window = Decoded(2 * repeats, prompt + depth, 1)
            reading = 1.2 * repeats * generation * size / bandwidth
            total += decode(shape, size, window, gpu) + Cost(serial=reading)
    return total


def tune(shape: Shape, n_ctx: int, windows: int, repeats: int, gpu: int = 0) -> Cost:
    """Pairs of powers of two from 128 to the window, times two numbers of threads, of contexts."""
    powers = max(1, math.floor(math.log2(n_ctx / 128)) + 1) if n_ctx >= 128 else 1
    ways = 4 * powers * (powers + 1) / 2
    count = 1.5 * ways * repeats * (windows + 2)  # half of the threads take longer
    return decode(shape, shape.bytes, Decoded(count, n_ctx, n_ctx // 2), gpu)


def generated(shape: Shape, count: float, gpu: int = 0) -> Cost:
    """Text that a model makes, token by token, several at a time."""
    return decode(shape, shape.bytes, Decoded(GENERATED * count / GRAPH, GRAPH, GRAPH), gpu)


def page(shape: Shape) -> Cost:
    """A page, and the logits of some positions by the baseline's output matrix."""
    return replace(light(), memory=2 * rates.BASE + 6 * shape.output)


def header(shape: Shape) -> Cost:
    """A context that allocates nothing, made of a model's header and vocabulary."""
    return Cost(serial=rates.START, memory=rates.BASE + 400 * shape.vocab)


def release(sizes: Sequence[float]) -> Cost:
    """Files hashed twice, before and after; at most all of them are cut, and written again."""
    total = sum(sizes)
    return Cost(
        rates.START + 2 * (total / rates.READ + total / rates.HASH) + total / rates.WRITE,
        memory=2 * rates.BASE,
        disk=total,
    )
