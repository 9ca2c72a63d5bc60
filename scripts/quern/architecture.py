"""Whether two files of one model make llama.cpp compute the same graph, by their metadata.

Publishers leave out keys, write them otherwise, or add some. What a file does not say has the
default of llama.cpp (`llama_model::load_hparams`), as far as all architectures share it.
"""

import math
from pathlib import Path

from . import QuernError
from .gguf_files import field, open_gguf
from .gguf_header import Header

# No graph depends on these keys; on feed-forward lengths tensors' shapes do, which are compared.
# Blocks are counted without those for drafting.
HARMLESS = {
    "block_count",
    "context_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "feed_forward_length",
    "nextn_predict_layers",
    "rope.scaling.finetuned",
    "tensor_data_layout",
    "vocab_size",
}
_PLAIN_SCALING = ("none", "linear")  # the same where the factor is 1, and without a first length
_SHOWN = 3  # keys that differ


def require_same(model: Path, baseline: Path) -> None:
    """Refuse a model whose metadata make another graph than its baseline's (first shards).

    Raises:
        QuernError: they differ in a key that is not `HARMLESS`, and the sentence names it with both
            values; or a key has another type than it must have.
    """
    name = field(open_gguf(baseline), "general.architecture")
    own, wanted = _said(model), _said(baseline)
    differing = [
        f"its {name}.{key} is {_shown(own.get(key))}, the baseline's {_shown(wanted.get(key))}"
        for key in sorted(own.keys() | wanted.keys())
        if not _equal(own.get(key), wanted.get(key))
    ]
    if differing:
        more = len(differing) - _SHOWN
        said = "; ".join(differing[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise QuernError(
            f"{model} is not a quantization of {baseline}: {said}. llama.cpp would compute "
            "something else; leave the file out, or compare it with a baseline whose metadata say "
            "the same."
        )


def _said(path: Path) -> dict:
    """What a file says of its architecture, with defaults, without what is harmless."""
    try:
        return _filled(open_gguf(path).header)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise QuernError(f"{path} is damaged: its metadata make no sense ({error}).") from None


def _filled(header: Header) -> dict:
    prefix = header.get("general.architecture") + "."
    found = {
        key.removeprefix(prefix): entry.contents()
        for key, entry in header.fields.items()
        if key.startswith(prefix)
    }
    blocks = found.get("block_count", 0)
    main = blocks - found.get("nextn_predict_layers", 0)
    found = {key: _without_drafting(value, blocks, main) for key, value in found.items()}
    found = _defaults(found) | found | {"blocks": main}
    factor = found.pop("rope.scale_linear", 0) or found["rope.scaling.factor"] or 1.0
    found["rope.scaling.factor"] = factor
    if found["rope.scaling.type"] in _PLAIN_SCALING:
        del found["rope.scaling.original_context_length"]
        if factor == 1:
            del found["rope.scaling.type"]
    return {key: value for key, value in found.items() if key not in HARMLESS}


def _without_drafting(value, blocks: int, main: int):
    """A value for each block without those for drafting; one value where all are the same."""
    if not isinstance(value, list):
        return value
    value = value[:main] if len(value) == blocks else value
    return value[0] if len(value) == main and len({*value}) == 1 else value


def _defaults(said: dict) -> dict:
    heads = said.get("attention.head_count", 0)
    first = heads[0] if isinstance(heads, list) else heads
    length = said.get("embedding_length", 0) // first if first else 0
    return {
        "attention.causal": True,
        "attention.head_count_kv": heads,
        "attention.key_length": length,
        "attention.scale": 0.0,
        "attention.value_length": length,
        "expert_count": 0,
        "expert_used_count": 0,
        "rope.dimension_count": said.get("attention.key_length", length),
        "rope.freq_base": 10000.0,
        "rope.scaling.attn_factor": 1.0,
        "rope.scaling.factor": 1.0,
        "rope.scaling.original_context_length": said.get("context_length", 0),
        "rope.scaling.type": "linear",
    }


def _equal(one, other) -> bool:
    """Whether two values are the same, floats but for their last digits."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other


def _shown(value) -> str:
    if value is None:
        return "not given"
    return f"{value:g}" if isinstance(value, float) else str(value)
