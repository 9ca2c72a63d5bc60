"""How much of a model fits on the GPUs.

llama.cpp puts the output matrix there first, then whole layers from the last one on; the token
embeddings stay on the CPU (src/llama-model.cpp). Of a mixture of experts, the experts' weights are
most of the bytes and few of the operations, so they leave first, as with `--n-cpu-moe`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..gguf_files import tensors_of

MARGIN = 1 << 30  # bytes of each GPU that are left to others, as llama.cpp's own fitting leaves
_LAYER = re.compile(r"blk\.(\d+)\.")
_EXPERTS = re.compile(r"blk\.\d+\.ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")


class Needs(NamedTuple):
    """Bytes that parts of a model take where they are.

    Attributes:
        layers: of the weights of each layer, experts left out.
        experts: of the experts of each layer; 0 where there are none.
        output: of what comes after the layers.
        cache: of what all layers keep of a context.
        compute: of a context's buffers, on each GPU.
    """

    layers: Sequence[int]
    experts: Sequence[int]
    output: int
    cache: int
    compute: int


class Fit(NamedTuple):
    """Where a model is to be.

    Attributes:
        layers: how many are on GPUs, counted as llama.cpp does: the output matrix is one, and
            repeating layers follow from the last one on.
        experts: how many layers, from the first one on, leave their experts on the CPU.
    """

    layers: int
    experts: int = 0


def needs_of(path: Path, cache: int, compute: int) -> Needs:
    """What a model's file says of its weights, with the bytes of a context."""
    sizes = {name: t.n_bytes for name, t in tensors_of(path).items()}
    numbered = {name: int(found[1]) for name in sizes if (found := _LAYER.match(name))}
    count = max(numbered.values(), default=-1) + 1
    layers, experts = [0] * count, [0] * count
    for name, i in numbered.items():
        (experts if _EXPERTS.match(name) else layers)[i] += sizes[name]
    output = sum(n for name, n in sizes.items() if name not in numbered and "embd" not in name)
    if "output.weight" not in sizes:  # the embeddings are copied there
        output += sizes.get("token_embd.weight", 0)
    return Needs(layers, experts, output, cache, compute)


def bytes_of(needs: Needs, fit: Fit, gpus: int) -> int:
    """Bytes that all GPUs hold together."""
    if fit.layers == 0:
        return 0
    count = len(needs.layers)
    first = count + 1 - fit.layers
    weights = sum(needs.layers[first:]) + sum(needs.experts[max(first, fit.experts) :])
    cache = needs.cache * (count - first) // max(count, 1)
    return needs.output + weights + cache + gpus * needs.compute


def fitting(needs: Needs, free: Sequence[int]) -> Fit:
    """The most of a model that fits into the free bytes of each GPU, a margin left.

    All of it where it fits. Else experts leave for the CPU, layer by layer, until the rest fits;
    where that is not enough, or there are none, whole layers do.
    """
    room = sum(max(0, n - MARGIN) for n in free)
    count = len(needs.layers)
    aside = [Fit(count + 1, k) for k in range(count + 1 if any(needs.experts) else 1)]
    fewer = [Fit(n, aside[-1].experts) for n in range(count, -1, -1)]
    return next(fit for fit in (*aside, *fewer) if bytes_of(needs, fit, len(free)) <= room)


def overrides(fit: Fit) -> list[str]:
    """Patterns of the tensors that stay on the CPU though their layers do not."""
    return [rf"blk\.{i}\.ffn_(up|down|gate|gate_up)_(ch|)exps" for i in range(fit.experts)]
