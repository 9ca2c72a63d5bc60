"""Foreign models: quantized by somebody else, they stand where a recipe's would."""

from pathlib import Path

from .. import QuernError, vocabulary
from ..files import shards
from ..gguf_files import ModelInfo, model_info, require_same_shapes


def describe(
    name: str,
    path: Path,
    baseline: Path,
    baseline_info: ModelInfo,
    hashes: list[str] | None = None,
) -> dict:
    """What is to be known of a foreign model: `ModelInfo`, and `made` with its files and hash.

    Args:
        name: its key under `candidates` in the configuration.
        path: the GGUF (first shard).
        baseline, baseline_info: the unquantized model, and what is known of it.
        hashes: SHA-256 of its files where they are known.

    Raises:
        QuernError: it is no whole GGUF model, is none of this baseline, or has another
            vocabulary; the sentence begins with the key.
    """
    try:
        info = model_info(path, hashes)
        require_same_shapes(info, path, baseline_info, baseline)
        if info.tokenizer_sha256 != baseline_info.tokenizer_sha256:
            vocabulary.common(baseline, path)
    except QuernError as error:
        raise QuernError(f"candidates.{name}: {error}") from None
    made = {"foreign": True, "files": [p.name for p in shards(path)], "sha256": info.sha256}
    return info.as_dict() | {"made": made}
