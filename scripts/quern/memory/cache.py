"""What a context keeps of each token, from a model's metadata: the K/V cache, recurrent states.

The sizes are those of llama.cpp's src/llama-kv-cache.cpp, llama-kv-cache-iswa.cpp and
llama-memory-recurrent.cpp for one sequence, and the layers those of src/llama-hparams.cpp and
src/models/. What an architecture does beyond that is for llama.cpp to say, see `footprint`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import QuernError, gguf_header
from ..llama import Way, block_size

CELLS = 256  # llama.cpp rounds contexts and sliding windows up to a multiple
STATE = "F32"  # of recurrent layers

# Of every so many layers one sees the whole context, the last of them or the first; and the window
# where the metadata do not say it. Some architectures name all layers in an array instead.
_WINDOWED = {
    "afmoe": (4, False, 0),
    "cohere2": (4, False, 0),
    "cohere2moe": (4, True, 0),
    "exaone-moe": (4, False, 128),
    "gemma2": (2, False, 4096),
    "gemma3": (6, False, 0),
    "gemma3n": (5, False, 0),
    "gpt-oss": (2, False, 0),
    "laguna": (4, True, 0),
    "llama4": (4, False, 8192),
    "mellum": (4, False, 0),
    "olmo2": (4, False, 0),
    "plamo3": (8, False, 0),
    "smallthinker": (4, True, 4096),
}
_RECURRENT = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
_EVERY_FOURTH = {"qwen3next", "qwen35", "qwen35moe"}  # has attention, the others a state
_GEMMA3N_OWN = 20  # the layers after these use their caches


@dataclass(frozen=True)
class Layer:
    """What one layer keeps.

    Attributes:
        key, value: numbers for each token; 0 where it keeps none.
        window: tokens that it sees back; 0 for all of them.
        state: numbers (float32) whatever the length of the context.
        heads: numbers of one head's key and of its value.
    """

    key: int = 0
    value: int = 0
    window: int = 0
    state: int = 0
    heads: tuple[int, ...] = ()


def layers_of(path: Path) -> list[Layer]:
    """The layers of a model.

    Raises:
        QuernError: the file is no GGUF, or lacks what says how many heads there are.
    """
    metadata = gguf_header.settings(path)
    architecture = str(metadata.get("general.architecture", ""))

    def get(key, default=0):
        return metadata.get(f"{architecture}.{key}", default)

    try:
        return _layers(architecture, get)
    except (TypeError, ValueError, ZeroDivisionError, IndexError) as error:
        raise QuernError(
            f"{path}: its metadata do not say what a context keeps ({error})."
        ) from None


def _layers(architecture: str, get: Callable) -> list[Layer]:
    count = get("block_count") - get("nextn_predict_layers")
    heads = _each(get("attention.head_count"), count)
    groups = _each(get("attention.head_count_kv", heads), count)
    windows = _windows(architecture, get, count)
    recurrent = _recurrent(architecture, get, groups)
    state = _state(get, heads[0]) if any(recurrent) else 0
    own = get("block_count") - get("attention.shared_kv_layers")
    own = _GEMMA3N_OWN if architecture == "gemma3n" else own
    found = []
    for i in range(count):
        key, value = sizes = _head_sizes(get, heads[0], bool(windows[i]))
        attends = i < own and (not recurrent[i] or architecture == "falcon-h1")
        if architecture.startswith("nemotron_h") and _each(get("feed_forward_length"), count)[i]:
            attends, recurrent[i] = False, False
        found.append(
            Layer(
                groups[i] * key if attends else 0,
                groups[i] * value if attends else 0,
                windows[i] if attends else 0,
                state if recurrent[i] else 0,
                sizes if attends else (),
            )
        )
    return found


def _each(value, count: int) -> list:
    """A value for each layer, where the metadata give one for all."""
    return list(value[:count]) if isinstance(value, list | tuple) else [value] * count


def _head_sizes(get: Callable, heads: int, windowed: bool) -> tuple[int, int]:
    """Numbers of a key and a value of one head; compressed ones (MLA) are kept as a key alone."""
    usual = get("embedding_length") // heads if heads else 0
    key, value = (get(f"attention.{name}_length", usual) for name in ("key", "value"))
    if windowed:
        key = get("attention.key_length_swa", key)
        value = get("attention.value_length_swa", value)
    is_compressed = get("attention.key_length_mla") and get("attention.value_length_mla")
    return key, 0 if is_compressed else value


def _windows(architecture: str, get: Callable, count: int) -> list[int]:
    """Tokens that each layer sees back, 0 for all."""
    pattern = get("attention.sliding_window_pattern", None)
    if architecture not in _WINDOWED and not isinstance(pattern, list):
        return [0] * count
    every, first, usual = _WINDOWED.get(architecture, (0, False, 0))
    window = get("attention.sliding_window", usual)
    if isinstance(pattern, list):
        return [window if windowed else 0 for windowed in pattern[:count]]
    every = every if pattern is None else pattern
    whole = 0 if first else every - 1
    return [0 if every and i % every == whole else window for i in range(count)]


def _recurrent(architecture: str, get: Callable, groups: list[int]) -> list[bool]:
    """Whether each layer keeps a state."""
    listed = get("attention.recurrent_layers", None)
    if architecture in _EVERY_FOURTH:
        interval = get("full_attention_interval", 4)
        each = [(i + 1) % interval != 0 for i in range(len(groups))]
        return each if listed is None else _each(listed, len(groups))
    if architecture in _RECURRENT or architecture == "falcon-h1":
        return [True] * len(groups)
    has_states = any(get(key) for key in ("ssm.state_size", "shortconv.l_cache", "kda.head_dim"))
    return [has_states and n == 0 for n in groups]


def _state(get: Callable, heads: int) -> int:
    """Numbers of a recurrent layer's state: its convolution's and its own."""
    embedding = get("embedding_length")
    if size := get("wkv.head_size"):
        return get("token_shift_count", 2) * embedding + embedding * size
    if size := get("shortconv.l_cache"):
        return embedding * (size - 1)
    kernel = get("ssm.conv_kernel")
    if size := get("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * heads * size + heads * size * size
    inner, size = get("ssm.inner_size"), get("ssm.state_size")
    return max(kernel - 1, 0) * (inner + 2 * get("ssm.group_count") * size) + inner * size


def require_whole_blocks(layers: list[Layer], kv_type: str, model: Path) -> None:
    """Refuse a type of the K/V cache whose blocks do not divide a head.

    Raises:
        QuernError: it names the type, and how long a head is.
    """
    size, _ = block_size(kv_type.upper())
    for n in {n for layer in layers for n in layer.heads}:
        if n % size:
            raise QuernError(
                f"{model} has heads of {n} numbers, which are no multiple of the {size} in a block "
                f"of {kv_type}; choose another type of the K/V cache, such as f16."
            )


def cache_bytes(layers: list[Layer], n_ctx: int, kv_type: str) -> int:
    """Bytes that a context of `n_ctx` tokens keeps.

    Args:
        kv_type: ggml's type of keys and values, such as `q8_0`.
    """
    whole = _rounded(n_ctx)
    graph = min(Way.n_ubatch, n_ctx)  # a sliding window keeps as many besides its own
    total = 0
    for layer in layers:
        cells = whole
        if layer.window:
            cells = _rounded(min(whole, layer.window + graph))
        total += cells * (_row(layer.key, kv_type) + _row(layer.value, kv_type))
        total += _row(layer.state, STATE)
    return total


def _rounded(tokens: int) -> int:
    return -(-tokens // CELLS) * CELLS


def _row(numbers: int, kind: str) -> int:
    weights, size = block_size(kind.upper())
    return numbers // weights * size
