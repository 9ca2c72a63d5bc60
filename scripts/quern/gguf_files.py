"""What a GGUF file says of itself: architecture, tensors, tokenizer, size.

`gguf_header` reads the format; this module adds what the gguf package knows of types.
"""

import hashlib
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape

from . import QuernError, files, gguf_header
from .files import shards
from .ggml_types import AS_PUBLISHED, TENSOR_TYPES, UNQUANTIZED
from .gguf_header import ARRAY, STRING, Header, TensorInfo

NATIVE = {"little": "<", "big": ">"}[sys.byteorder]


@dataclass(frozen=True)
class OutputWeights:
    """Where the output weights lie, and their bias where there is one.

    Attributes:
        type: ggml's name of the weights' type.
        columns, rows: the shape.
        shard, offset: which file of the model, and at which byte of it.
        bias_shard, bias_offset: the same of the bias; None where there is none.
    """

    type: str
    columns: int
    rows: int
    shard: int
    offset: int
    bias_shard: int | None = None
    bias_offset: int | None = None


@dataclass(frozen=True)
class ModelInfo:
    """The facts of a model that the other stages need.

    Attributes:
        sha256: of the file, or of its shards' hashes where there are several.
        tokenizer_sha256: of the tokens, their types and the merges.
        tokenizer_settings: the rest of the tokenizer's metadata, such as the special ids; published
            quantizations differ in them from the model that they were made from.
        parameters: number of weights.
        tensor_bytes: bytes of tensor data; bits per weight = 8 · tensor_bytes / parameters.
        file_bytes: bytes on disk.
        tensor_types: tensors per ggml type.
        matrices: columns and number of matrices (experts) of each weight in the blocks.
        output: the output weights, which are the embedding's where the two are tied; None where
            there are none.
        logit_scale, logit_softcap: what the metadata says of the logits; 0 where nothing.
        context_length: tokens that the model was trained for; 0 where nothing says so.
        learned_positions: whether it has a vector for each of them, and none for more.
    """

    architecture: str
    name: str
    sha256: str
    tokenizer_sha256: str
    tokenizer_settings: dict[str, int | float | bool | str]
    n_vocab: int
    parameters: int
    tensor_bytes: int
    file_bytes: int
    tensor_types: dict[str, int]
    matrices: dict[str, tuple[int, int]]
    output: OutputWeights | None
    logit_scale: float
    logit_softcap: float
    context_length: int
    learned_positions: bool

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.tensor_bytes / self.parameters

    def as_dict(self) -> dict:
        return asdict(self) | {"bits_per_weight": self.bits_per_weight}

    @classmethod
    def read(cls, path: Path) -> "ModelInfo":
        """Read a `model.json` written from `as_dict`."""
        content = files.read_json(path)
        try:
            content.pop("bits_per_weight")
            content.pop("made", None)  # how it was quantized
            content.pop("warnings", None)  # what llama.cpp said of it
            content["matrices"] = {n: tuple(s) for n, s in content["matrices"].items()}
            content["output"] = OutputWeights(**content["output"]) if content["output"] else None
            return cls(**content)
        except (KeyError, TypeError):
            raise QuernError(
                f"{path} does not describe a model; delete it and run again."
            ) from None


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        path: the file.
        shape: columns, rows, matrices.
        data_offset: the byte of the file at which its data begin.
        order: of the bytes, `<` or `>`.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    tensor_type: GGMLQuantizationType
    data_offset: int
    order: str

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.tensor_type]
        return self.n_elements // block * size

    @property
    def data(self) -> np.memmap:
        """The data [matrices, rows, columns]; of types that numpy lacks uint8, the rows' bytes."""
        shape, kind = self.shape[::-1], TENSOR_TYPES[self.tensor_type.name]
        if not kind.numbers or kind.name == "BF16":
            shape = quant_shape_to_byte_shape(shape, self.tensor_type)
            return np.memmap(self.path, np.uint8, "r", self.data_offset, shape)
        dtype = np.dtype(kind.numbers).newbyteorder(self.order)
        return np.memmap(self.path, dtype, "r", self.data_offset, shape)


class GgufFile(NamedTuple):
    """A file whose header makes sense and whose tensors are there."""

    header: Header
    tensors: list[GgufTensor]


def open_gguf(path: Path) -> GgufFile:
    """Read a GGUF file's header, and check that it is whole.

    Raises:
        QuernError: the file is missing, not GGUF, damaged, or cut short.
    """
    path = Path(path)
    header = gguf_header.read(path)
    return GgufFile(header, [_tensor(path, header, info) for info in header.tensors])


def _tensor(path: Path, header: Header, info: TensorInfo) -> GgufTensor:
    try:
        kind = GGMLQuantizationType(info.type)
        block, _ = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise QuernError(
            f"{path} cannot be read: {info.name} has the type {info.type}, a type that this "
            "llama.cpp does not know. A fork or a newer version may have written it; take a file "
            "of usual types."
        ) from None
    if not all(info.shape) or info.shape[0] % block or info.offset % 8:
        why = f"{info.name} has a shape or place that its type does not allow"
        raise gguf_header.damaged(path, why)
    offset = header.data_offset + info.offset
    found = GgufTensor(path, info.name, info.shape, kind, offset, header.order)
    if offset + found.n_bytes > path.stat().st_size:
        raise gguf_header.damaged(path, f"{info.name} reaches beyond the file's end")
    return found


def field(file: GgufFile, key: str, default=None):
    """A metadata value, or `default` where the key is missing."""
    return file.header.get(key, default)


def tensors_of(path: Path) -> dict[str, GgufTensor]:
    """All tensors of a model by name, in the order of its files."""
    return {t.name: t for shard in shards(path) for t in open_gguf(shard).tensors}


def matrices_of(tensors: Iterable[GgufTensor]) -> dict[str, tuple[int, int]]:
    """Columns and number of matrices (experts) of each weight in the blocks."""
    return {
        t.name: (t.shape[0], t.shape[2] if len(t.shape) > 2 else 1)
        for t in tensors
        if t.name.startswith("blk.") and len(t.shape) > 1
    }


def model_info(path: Path, hashes: list[str] | None = None) -> ModelInfo:
    """Read what `ModelInfo` holds; `hashes` are the SHA-256 of its files where they are known.

    Raises:
        QuernError: the file is missing, not GGUF, cut short, damaged, or no language model.
    """
    try:
        return _model_info(Path(path), hashes)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # Metadata of another type than it must have, or text that is not UTF-8.
        raise QuernError(f"{path} is damaged: its metadata make no sense ({error}).") from None


def _model_info(path: Path, hashes: list[str] | None) -> ModelInfo:
    paths = shards(path)
    _require_language_model(path, open_gguf(path), paths)
    readers = [open_gguf(p) for p in paths]
    first = readers[0]
    architecture = field(first, "general.architecture")
    tensors = [t for r in readers for t in r.tensors]
    types: dict[str, int] = {}
    for t in tensors:
        types[t.tensor_type.name] = types.get(t.tensor_type.name, 0) + 1
    tokens = first.header.fields.get("tokenizer.ggml.tokens")
    scale, cap = (
        float(field(first, f"{architecture}.{key}", 0))
        for key in ("logit_scale", "final_logit_softcapping")
    )
    return ModelInfo(
        architecture=architecture,
        name=field(first, "general.name", ""),
        sha256=_model_sha256(hashes or [files.sha256(p) for p in paths]),
        tokenizer_sha256=_tokenizer_sha256(first),
        tokenizer_settings=_tokenizer_settings(first),
        n_vocab=len(tokens.parts) if tokens else 0,
        parameters=sum(t.n_elements for t in tensors),
        tensor_bytes=sum(t.n_bytes for t in tensors),
        file_bytes=sum(p.stat().st_size for p in paths),
        tensor_types=dict(sorted(types.items())),
        matrices=matrices_of(tensors),
        output=_output(readers),
        logit_scale=scale,
        logit_softcap=cap,
        context_length=int(field(first, f"{architecture}.context_length", 0)),
        learned_positions=any(t.name == "position_embd.weight" for t in tensors),
    )


_OTHER_FILES = {
    "adapter": "an adapter (LoRA); merge it into its model first",
    "controlvector": "a control vector; name the model that it steers",
    "mmproj": "a projector for images or sound (mmproj); name the language model beside it",
    "imatrix": "an importance matrix; name it under `imatrix`",
    "vocab": "a vocabulary without weights; name the model itself",
}
_BY_ARCHITECTURE = {"clip": "mmproj", "controlvector": "controlvector", "imatrix": "imatrix"}
# llama_pooling_type of llama.h, and what such a model is.
_POOLED = dict.fromkeys((1, 2, 3), "an embedding model") | {4: "a reranker"}


def _require_language_model(path: Path, reader: GgufFile, paths: list[Path]) -> None:
    """Refuse what is GGUF and no model, and any shard but the first."""
    architecture = field(reader, "general.architecture")
    number, count = (int(field(reader, f"split.{key}", 0)) for key in ("no", "count"))
    if (kind := _kind(reader, count)) in _OTHER_FILES:
        raise QuernError(f"{path} is not a model but {_OTHER_FILES[kind]}.")
    if number or paths[0] != path:
        raise QuernError(
            f"{path} is shard {number + 1} of {count}; name the first one, the others are found "
            "beside it."
        )
    if max(count, 1) != len(paths):
        raise QuernError(
            f"{path} says that it is one of {max(count, 1)} shards, its name that it is one of "
            f"{len(paths)}; give the shards their names again (…-00001-of-{count:05}.gguf)."
        )
    if not architecture or not (reader.tensors or count > 1):
        raise QuernError(f"{path} is a GGUF file, but not a model: it names no architecture.")
    if reader.header.order != NATIVE:
        raise QuernError(
            f"{path} has the bytes of its numbers in the order of another machine; turn it by "
            "gguf-convert-endian first."
        )
    pooled = _POOLED.get(field(reader, f"{architecture}.pooling_type"))
    if not field(reader, f"{architecture}.attention.causal", True):
        pooled = pooled or "an encoder or a diffusion model"
    if pooled:
        raise QuernError(
            f"{path} is {pooled}; Quern measures models that predict the next token from the text "
            "before it (causal language models)."
        )


def _kind(reader: GgufFile, shards: int) -> str:
    """What a GGUF holds, by what it says, or by what is in it where it says nothing."""
    fields = reader.header.fields
    said = field(reader, "general.type", "adapter" if "adapter.type" in fields else "model")
    if not reader.tensors and shards < 2 and "tokenizer.ggml.tokens" in fields:
        said = "vocab"
    return _BY_ARCHITECTURE.get(field(reader, "general.architecture"), said)


def _output(readers: list[GgufFile]) -> OutputWeights | None:
    places = {t.name: (shard, t) for shard, r in enumerate(readers) for t in r.tensors}
    found = places.get("output.weight") or places.get("token_embd.weight")
    if found is None:
        return None
    shard, tensor = found
    bias_shard, bias = places.get("output.bias", (None, None))
    return OutputWeights(
        type=tensor.tensor_type.name,
        columns=int(tensor.shape[0]),
        rows=int(tensor.shape[1]),
        shard=shard,
        offset=int(tensor.data_offset),
        bias_shard=bias_shard,
        bias_offset=None if bias is None else int(bias.data_offset),
    )


def _model_sha256(hashes: list[str]) -> str:
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def require_positions(info: ModelInfo, n_ctx: int, path: Path) -> None:
    """Refuse windows for which the model has no positions.

    Raises:
        QuernError: it learned a vector for each position, and has too few.
    """
    if info.learned_positions and 0 < info.context_length < n_ctx:
        raise QuernError(
            f"{path} has {info.context_length} positions, too few for windows of {n_ctx} tokens; "
            f"set n_ctx to {info.context_length} or less."
        )


def beyond_training(info: ModelInfo, n_ctx: int) -> str:
    """A sentence where windows are longer than those that the model was trained for, or nothing."""
    if not 0 < info.context_length < n_ctx:
        return ""
    return (
        f"Windows of {n_ctx} tokens are longer than the {info.context_length} that the model was "
        "trained for."
    )


def require_unquantized(info: ModelInfo, path: Path) -> None:
    """Refuse a baseline that is already quantized; MXFP4 beside float types is as published.

    Raises:
        QuernError: a tensor has a type other than F64, F32, F16, BF16 and MXFP4.
    """
    quantized = sorted(set(info.tensor_types) - UNQUANTIZED - AS_PUBLISHED)
    if quantized:
        raise QuernError(
            f"{path} is already quantized ({', '.join(quantized)}); the baseline must be the "
            "F16, BF16 or F32 model."
        )


def require_same_shapes(info: ModelInfo, path: Path, baseline: ModelInfo, of: Path) -> None:
    """Refuse a model that is no quantization of another, by what both say of their weights.

    Publishers fuse or drop tensors, so weights that only one of them has do not count. Nor do
    blocks for drafting.

    Args:
        info, path: what may be a quantization.
        baseline, of: the unquantized model, and its file.

    Raises:
        QuernError: the architecture, the number of blocks, or a weight's columns differ.
    """
    differs = ""
    if info.architecture != baseline.architecture:
        differs = f"its architecture is {info.architecture}, not {baseline.architecture}"
    elif _blocks(info) != _blocks(baseline):
        differs = f"it has {_blocks(info)} blocks, not {_blocks(baseline)}"
    else:
        found = {n: (s, baseline.matrices.get(n, s)) for n, s in info.matrices.items()}
        if info.output and baseline.output:
            found["output.weight"] = (info.output.columns, 1), (baseline.output.columns, 1)
        for name, ((columns, matrices), (wanted, others)) in found.items():
            if (columns, matrices) != (wanted, others):
                differs = f"{name} has {matrices} × {columns} columns, not {others} × {wanted}"
                break
    if differs:
        raise QuernError(f"{path} is not a quantization of {of}: {differs}.")


def drafting_blocks(info: ModelInfo) -> set[str]:
    """Numbers of the blocks for drafting (MTP), which no comparison computes."""
    return {name.split(".")[1] for name in info.matrices if ".nextn." in name}


def _blocks(info: ModelInfo) -> int:
    return len({name.split(".")[1] for name in info.matrices} - drafting_blocks(info))


_VOCABULARY = ("tokens", "token_type", "scores", "merges")


def _tokenizer_sha256(reader: GgufFile) -> str:
    digest = hashlib.sha256()
    for name in _VOCABULARY:
        entry = reader.header.fields.get(f"tokenizer.ggml.{name}")
        if entry is None:
            continue
        digest.update(name.encode())
        for part in entry.parts:
            if (
                entry.types[-1] == STRING
            ):  # the length, so that ["ab", "c"] differs from ["a", "bc"]
                digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()


def _tokenizer_settings(reader: GgufFile) -> dict[str, int | float | bool | str]:
    found = {}
    for name, entry in sorted(reader.header.fields.items()):
        # A chat template changes no token, and publishers edit it; other texts are whole files.
        if name.startswith("tokenizer.ggml.") and entry.types[0] != ARRAY:
            found[name.removeprefix("tokenizer.ggml.")] = entry.contents()
    return found
