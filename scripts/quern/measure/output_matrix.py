"""The product with a model's output matrix, for hidden states that were kept earlier.

A hidden state is much smaller than the logits that follow from it, so a baseline store keeps hidden
states. Some architectures then scale, soft-cap or shift the logits (llama.cpp, src/models). That
transform is rebuilt from the metadata, and proved on real windows before it is used.
"""

import hashlib
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import QuernError, blas, half_types
from ..ggml_types import FLOATS, TENSOR_TYPES
from ..gguf_files import ModelInfo, shards
from ..llama import DeviceProduct
from ..stored_rows import StoredRows

BLOCK_BYTES = 8 << 20  # of float32 weights multiplied at a time: they stay in the cache
LEAST_BLOCKS = 8  # so that threads have something to share where the vocabulary is small
# What ggml makes of the hidden state before the product, by the type of the weights.
HIDDEN_TYPES = {
    name: np.dtype(numbers).type for numbers, name in FLOATS.items() if TENSOR_TYPES[name].is_target
}

log = logging.getLogger("quern.logits")


@dataclass(frozen=True)
class Transform:
    """What happens to logits after the product: `cap · tanh(scale · x / cap)`, where cap > 0."""

    scale: float = 1.0
    cap: float = 0.0

    def apply(self, logits: np.ndarray) -> None:
        """Transform float32 logits in place."""
        if self.scale != 1:
            logits *= np.float32(self.scale)
        if self.cap:
            logits *= np.float32(1 / self.cap)
            np.tanh(logits, out=logits)
            logits *= np.float32(self.cap)


@dataclass
class OutputMatrix:
    """Output weights [n_vocab, n_embd], float16, float32, or bfloat16 as its bits in uint16.

    Attributes:
        type: ggml's name of the weights' type.
        bias: float32 [n_vocab], or None.
        suggested: transforms that the metadata suggests; `transform` is the one in use.
        device: the weights on a device that multiplies, or None for BLAS.
    """

    weights: np.ndarray | StoredRows
    type: str
    bias: np.ndarray | None = None
    suggested: tuple[Transform, ...] = (Transform(),)
    transform: Transform = field(default_factory=Transform)
    device: DeviceProduct | None = None

    @classmethod
    def of_model(cls, path: Path, info: ModelInfo) -> "OutputMatrix":
        """The output matrix of a GGUF; its weights are read when they are used.

        Raises:
            QuernError: it has none of a type that can be multiplied here.
        """
        found, files = info.output, shards(Path(path))
        kind = found.type if found else "no output weights"
        if kind not in HIDDEN_TYPES:
            raise QuernError(f"{path} has {kind}; F16, BF16 or F32 output weights are needed.")
        # Not mapped: what is mapped counts as memory once it was touched.
        weights = StoredRows(
            files[found.shard], found.offset, HIDDEN_TYPES[kind], found.rows, found.columns
        )
        bias = None
        if found.bias_offset is not None:
            bias = np.fromfile(
                files[found.bias_shard], np.float32, found.rows, offset=found.bias_offset
            )
        scales = [info.logit_scale, 1 / info.logit_scale] if info.logit_scale else []
        caps = [info.logit_softcap] if info.logit_softcap else []
        suggested = itertools.product([*scales, 1.0], [*caps, 0.0])
        return cls(weights, kind, bias, tuple(Transform(*pair) for pair in suggested))

    @property
    def hidden_type(self) -> type:
        """The dtype in which ggml feeds the hidden state to the product."""
        return HIDDEN_TYPES[self.type]

    def on_gpu(self) -> "OutputMatrix":
        """The same, multiplied on the first GPU, if there is room for the weights."""
        try:
            return replace(self, device=DeviceProduct(self.weights))
        except QuernError as error:
            log.warning("the baseline's logits are computed on the CPU: %s", error)
            return self

    def sha256(self) -> str:
        """Hash of the weights and the bias."""
        digest = hashlib.sha256(self.type.encode())
        for start in range(0, len(self.weights), 8192):
            digest.update(np.ascontiguousarray(self.weights[start : start + 8192]).data)
        if self.bias is not None:
            digest.update(self.bias.data)
        return digest.hexdigest()

    def logits(self, hidden: np.ndarray, out: np.ndarray, pool: ThreadPoolExecutor) -> np.ndarray:
        """Logits of hidden states.

        With BLAS, every entry is computed in the same order of operations however many threads
        `pool` has.

        Args:
            hidden: as stored, [k, n_embd].
            out: float32 [at least k, n_vocab], overwritten.

        Returns:
            The first k rows of `out`.
        """
        states, out = half_types.to_float32(np.ascontiguousarray(hidden)), out[: len(hidden)]
        n_vocab, n_embd = self.weights.shape
        step = max(64, min(BLOCK_BYTES // (4 * n_embd), -(-n_vocab // LEAST_BLOCKS)))
        scratch = threading.local()

        def some(start):
            columns = slice(start, min(start + step, n_vocab))
            block = out[:, columns]
            if not self.device:
                if not hasattr(scratch, "weights"):
                    scratch.weights = np.empty((step, n_embd), np.float32)
                weights = self.weights[columns]
                weights = half_types.to_float32(weights, scratch.weights[: len(weights)])
                np.matmul(states, weights.T, out=block)
            if self.bias is not None:
                block += self.bias[columns]
            self.transform.apply(block)

        if self.device:
            self.device.multiply(states, out)
            if self.bias is None and self.transform == Transform():
                return out
        with blas.one_thread():
            list(pool.map(some, range(0, n_vocab, step)))
        return out


def to_hidden_type(hidden: np.ndarray, dtype: type) -> np.ndarray:
    """float32 hidden states as they are stored; uint16 holds the bits of bfloat16."""
    return half_types.to_bfloat16(hidden) if dtype == np.uint16 else hidden.astype(dtype)
