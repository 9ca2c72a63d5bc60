"""Foreign models: quantized by somebody else, they stand where a recipe's would."""

from pathlib import Path

from .. import QuernError, architecture, llama, published, vocabulary
from ..files import shards
from ..gguf_files import ModelInfo, drafting_blocks, model_info, require_same_shapes
from . import likeness


def describe(
    name: str,
    path: Path,
    baseline: Path,
    baseline_info: ModelInfo,
    hashes: list[str] | None = None,
) -> dict:
    """What is to be known of a foreign model: `ModelInfo`, and `made` with its files, its hash, its
    repository on the Hub where the path tells, and `notes` where there is something to say.

    Args:
        name: its key under `candidates` in the configuration.
        path: the GGUF (first shard).
        baseline, baseline_info: the unquantized model, and what is known of it.
        hashes: SHA-256 of its files where they are known.

    Raises:
        QuernError: it is no whole GGUF model, is none of this baseline by its shapes, its
            metadata or its weights, or has another vocabulary; the sentence begins with the key.
    """
    try:
        info = model_info(path, hashes)
        require_same_shapes(info, path, baseline_info, baseline)
        if info.tokenizer_sha256 != baseline_info.tokenizer_sha256:
            vocabulary.common(baseline, path)
        architecture.require_same(path, baseline)
        notes = [*on_drafting(info, baseline_info), *likeness.notes(path, baseline)]
        notes += _warnings(path, baseline)
    except QuernError as error:
        raise QuernError(f"candidates.{name}: {error}") from None
    made = {"foreign": True, "files": [p.name for p in shards(path)], "sha256": info.sha256}
    made |= {"repository": found} if (found := published.hub_repository(path)) else {}
    return info.as_dict() | {"made": made | ({"notes": notes} if notes else {})}


def _warnings(path: Path, baseline: Path) -> list[str]:
    """What llama.cpp warns of, and does not of the baseline."""
    before = llama.warnings(baseline)
    return [f"llama.cpp warns: `{said}`." for said in llama.warnings(path) if said not in before]


def on_drafting(info: ModelInfo, baseline: ModelInfo) -> list[str]:
    """A sentence where only one of both has blocks for drafting, or one has more."""
    own, wanted = len(drafting_blocks(info)), len(drafting_blocks(baseline))
    if own == wanted:
        return []
    return [
        f"Blocks for drafting (MTP): {own}, and {wanted} in the baseline. No comparison computes "
        "them; they count in sizes alone."
    ]
