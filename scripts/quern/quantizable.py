"""Which tensors llama.cpp quantizes, by their names.

Source: tensor_allows_quantization of src/llama-quant.cpp, but for what it knows of one architecture
alone. tests/unit/test_quantizable.py holds all names that the gguf package knows against it.
"""

import re

_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_(inp|tid2eid)\.weight|altup|laurel|ssm_conv1d|shortconv\.conv\.weight"
    r"|per_layer_model_proj|indexer\.[kq]_proj\.weight|attn_rel_b\.weight"
    r"|time_mix_(first|[wva][012]|g[12]|decay_w[12]|lerp_fused)\.weight"
)


def is_quantizable(name: str) -> bool:
    """Whether llama.cpp quantizes a matrix of this name, if its rows fit a type."""
    return name.endswith("weight") and not _KEPT.search(name)
