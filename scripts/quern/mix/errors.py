"""How large the rounding error of each type is, tensor by tensor, from a sample of rows."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import QuernError, blas, forms, llama, rounding
from ..ggml_types import PROBES, TENSOR_TYPES, UNQUANTIZED
from ..moments.stored import Moments
from ..quantize.recipes import GGML
from ..rounding.compensated import compensate
from ..rounding.moment import MomentHalves, loss
from ..unquantized import UnquantizedTensor
from .choices import FreeTensor
from .inputs import Inputs

ROWS = 48  # of each tensor; an error is then known to some 2 or 3 %
STRENGTH = 0.2  # ρ with which moments are believed
_FORM = forms.record(
    errors=forms.named({"type": "object", "additionalProperties": forms.NOT_NEGATIVE})
)


def probe_type(columns: int) -> str:
    """The type in which a tensor's damage is measured; empty where its rows allow none."""
    return next((kind for kind in PROBES if TENSOR_TYPES[kind].fits(columns)), "")


def rounded(
    kind: str,
    values: np.ndarray,
    importances: np.ndarray | None,
    how: str = GGML,
    halves: MomentHalves | None = None,
) -> np.ndarray:
    """Values as they come back from a file of this type, float32 [rows, columns].

    Args:
        values: float32 [rows, columns].
        importances: float32 [columns], or None.
        how: the rounding; ggml's own where it does not cover the type.
        halves: for `compensated`; fitted to even windows, so that odd ones can judge. Without them
            it is `importance`.
    """
    if TENSOR_TYPES[kind].numbers in ("float32", "float16"):
        return values.astype(TENSOR_TYPES[kind].numbers).astype(np.float32)

    def by_llama():
        return llama.quantize_rows(kind, values, importances)

    if how == GGML or not rounding.covers(how, kind):
        return llama.dequantize_rows(kind, by_llama())
    rows = rounding.TYPES[kind].rows(values, importances, by_llama)
    if how == rounding.COMPENSATED and halves is not None:
        moment = halves.believed("even", STRENGTH, rounding.TYPES[kind].prepared)
        raw = compensate(kind, rows, moment)
    else:
        raw = rounding.round_rows(kind, how, rows)
    return llama.dequantize_rows(kind, raw)


def by_matrix(importances: np.ndarray | None, source: UnquantizedTensor) -> list[np.ndarray | None]:
    """The importances of each matrix of a tensor, float32 [columns] each."""
    if importances is None:
        return [None] * source.matrices
    return list(importances.reshape(source.matrices, source.columns))


def _sample(source: UnquantizedTensor, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """Some rows of each of some matrices: its number, and float32 [n, columns]."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    matrices, height = source.matrices, source.rows // source.matrices
    chosen = np.sort(rng.permutation(matrices)[:ROWS])
    each = min(height, max(2, ROWS // len(chosen)))
    for matrix in chosen.tolist():
        rows = matrix * height + np.sort(rng.permutation(height)[:each])
        yield matrix, np.concatenate([source.float32(r, r + 1) for r in rows.tolist()])


def relative_errors(
    tensor: FreeTensor,
    source: UnquantizedTensor,
    importances: np.ndarray | None,
    types: Sequence[tuple[str, str]],
    halves: MomentHalves | None = None,
) -> dict[tuple[str, str], float]:
    """Σ h (w − ŵ)² / Σ h w² of a sample of a tensor's rows, by type and rounding.

    Where halves of a moment are given it is Σ eᵀ H e / Σ wᵀ H w, with the moment H of odd windows.

    Raises:
        QuernError: a weight is not finite.
    """
    weights = by_matrix(importances, source)
    errors, total = dict.fromkeys(types, 0.0), 0.0
    for matrix, values in _sample(source, tensor.name):
        if not np.isfinite(values).all():
            raise QuernError(f"{tensor.name} of {source.path} has weights that are not finite.")
        own = weights[matrix]
        h = np.ones(source.columns) if own is None else own.astype(np.float64)

        def size(some, h=h):
            if halves is not None:
                return loss(some, halves.odd)
            return float((h * some.astype(np.float64) ** 2).sum())

        total += size(values)
        for kind, how in types:
            errors[kind, how] += size(values - rounded(kind, values, own, how, halves))
    return {key: error / total if total else 0.0 for key, error in errors.items()}


def table(
    tensors: Sequence[FreeTensor],
    sources: Mapping[str, UnquantizedTensor],
    importances: Mapping[str, np.ndarray],
    how: str = GGML,
    *,
    moments: Moments | None = None,
    threads: int = 1,
) -> dict[str, dict[str, float]]:
    """The error of each type that a tensor may have over that of its probe, by tensor.

    The probe is rounded by ggml, the others by `how`. Types that a tensor cannot be probed in are
    given their errors as they are.

    Args:
        moments: for `compensated`; experts, and what lacks them, are judged by importances.

    Raises:
        QuernError: a weight is not finite.
    """

    def one(tensor):
        probe = probe_type(tensor.columns), GGML
        wanted = [(kind, how) for kind in tensor.types if kind not in UNQUANTIZED]
        probes = [probe] if probe[0] else []
        own = importances.get(tensor.name)
        both = list(dict.fromkeys([*wanted, *probes]))
        source = sources[tensor.name]
        moment = moments.of(tensor.name) if moments and source.matrices == 1 else None
        halves = None
        if moment is not None and 0 not in moment.tokens:
            halves = MomentHalves(moment.mean("even"), moment.mean("odd"))
        found = relative_errors(tensor, source, own, both, halves)
        scale = found[probe] if probes and found[probe] else 1.0
        exact = dict.fromkeys((k for k in tensor.types if k in UNQUANTIZED), 0.0)
        return {kind: found[kind, how] / scale for kind, _ in wanted} | exact

    with blas.one_thread(), ThreadPoolExecutor(threads) as pool:
        bar = tqdm(pool.map(one, tensors), total=len(tensors), desc="errors", disable=None)
        return dict(zip((t.name for t in tensors), bar, strict=True))


def origin(inputs: Inputs) -> dict[str, str]:
    """What errors must be of to be used."""
    return {"model_sha256": inputs.info.sha256, "imatrix_sha256": inputs.imatrix_sha256}


def read(path: Path, inputs: Inputs) -> dict[str, dict[str, float]]:
    """A table that was written with its `origin`.

    Raises:
        QuernError: it is damaged, impossible, or of another model or imatrix.
    """
    found = forms.read(path, _FORM)
    if any(found.get(key) != value for key, value in origin(inputs).items()):
        raise QuernError(f"{path} is of another model or imatrix; delete it and run again.")
    return found["errors"]
