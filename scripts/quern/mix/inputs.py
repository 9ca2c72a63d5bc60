"""What all steps of a mix need of a model and its imatrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import files, gguf_files, llama, unquantized
from ..ggml_types import CHOSEN
from ..gguf_files import GgufTensor, ModelInfo, require_unquantized
from ..imatrix import formats
from ..quantize import quantization
from ..unquantized import UnquantizedTensor
from .choices import FreeTensor, free_tensors

ANY_MIX = "Q4_K_M"  # what llama.cpp keeps in it, it keeps in all; unused tensors have its types


@dataclass(frozen=True)
class Inputs:
    """A model and its imatrix.

    Attributes:
        tensors: all of the model, by name.
        sources: where their values lie.
        importances: float32 [matrices · columns] by name; none without an imatrix.
        metadata: what a quantized file will say of the imatrix.
        imatrix_sha256: of its file; empty without one.
    """

    model: Path
    info: ModelInfo
    tensors: Mapping[str, GgufTensor]
    sources: Mapping[str, UnquantizedTensor]
    importances: Mapping[str, np.ndarray]
    metadata: Mapping[str, str | int]
    imatrix_sha256: str = ""

    @classmethod
    def read(
        cls,
        model: Path,
        info: ModelInfo,
        imatrix: Path | None = None,
        *,
        imatrix_n_ctx: int = formats.CHUNK_SIZE,
        folder: Path = Path(),
    ) -> "Inputs":
        """Read them; weights that the imatrix lacks count evenly.

        Args:
            imatrix_n_ctx: as for `quantization.quantize`.
            folder: beside which quantized models will lie.

        Raises:
            QuernError: the model is quantized, or the imatrix is damaged or another model's.
        """
        require_unquantized(info, model)
        importances, metadata, sha256 = {}, {}, ""
        if imatrix is not None:
            matrix = formats.read(imatrix, imatrix_n_ctx).fitted(info.matrices, imatrix)
            importances = matrix.completed(info.matrices)
            metadata = quantization.imatrix_metadata(imatrix, matrix, folder)
            sha256 = files.sha256(imatrix)
        tensors = gguf_files.tensors_of(model)
        sources = unquantized.tensors_of(model)
        return cls(model, info, tensors, sources, importances, metadata, sha256)

    def planned(self, kind: str) -> dict[str, str]:
        """The types of all tensors in a stock mix; those that are published quantized stay."""
        published = quantization.published_types(self.tensors)
        wanted = llama.QuantizationParameters(
            kind,
            dict(self.importances) or None,
            tensor_types=published,
            requantize=bool(published),
        )
        return llama.planned_types(self.model, wanted)[0]

    def free(self, types: Sequence[str] = CHOSEN, **options) -> list[FreeTensor]:
        """The tensors whose types are chosen; options as for `choices.free_tensors`."""
        planned = {n: k for n, k in self.planned(ANY_MIX).items() if n in self.sources}
        return free_tensors(
            self.tensors, planned, types, importances=self.importances.keys(), **options
        )
