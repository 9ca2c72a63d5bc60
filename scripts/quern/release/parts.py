"""A quantized model's file as it is released: the same file, or parts of it, without paths."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from gguf import GGUFEndian, GGUFValueType, GGUFWriter

from .. import QuernError, published
from ..gguf_files import GgufFile, field, open_gguf

_FILES = ("quantize.imatrix.file", "quantize.imatrix.dataset")
# Of Quern's results, wherever they lie: an imatrix, and a data set.
_OWN = re.compile(r"\.\./imatrix/[^/\\]+\.gguf|[^/\\~]+/pool")
# A part's header besides what the whole file's holds: names and values of `split.*`, and padding.
_MORE_HEADER = 256


def release(source: Path, target: Path, split: int | None = None) -> list[Path]:
    """Put a GGUF file under another name; in parts of at most `split` bytes, if it is larger.

    The file is linked, or copied where it cannot be, unless it is cut or its metadata name a file
    by its path. Tensors are not cut. Parts are called and marked as llama-gguf-split does.

    Returns:
        The files.

    Raises:
        QuernError: the file is damaged, or one of its tensors is larger than a part.
    """
    reader = open_gguf(source)
    changes = without_paths(reader)
    is_larger = split is not None and source.stat().st_size > split
    if not changes and not is_larger:
        link(source, target)
        return [target]
    return _rewrite(reader, source, target, changes, split if is_larger else None)


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def without_paths(reader: GgufFile) -> dict[str, str]:
    """Metadata that name a file by its path on a machine, with its last part in place of it."""
    found = {}
    for key, entry in reader.header.fields.items():
        if entry.types == (GGUFValueType.STRING,) and key.startswith(("general.", "quantize.")):
            value = entry.contents()
            name = published.file_name(value) if key in _FILES else published.bare(value)
            if name != value and not _OWN.fullmatch(value):
                found[key] = name
    return found


def _rewrite(
    reader: GgufFile, source: Path, target: Path, changes: Mapping[str, str], split: int | None
) -> list[Path]:
    header, room = reader.header, 0
    if split is not None:
        padding = header.alignment * len(reader.tensors)
        room = split - header.data_offset - padding - _MORE_HEADER
        largest = max(reader.tensors, key=lambda tensor: tensor.n_bytes)
        if largest.n_bytes > room:
            raise QuernError(
                f"{source}: its tensor {largest.name} has {largest.n_bytes:,} bytes, and "
                f"tensors are never cut, so it fits into no part of {split:,} bytes with the "
                "header; raise `release: split:` in the configuration."
            )
    writer = GGUFWriter(
        target,
        field(reader, "general.architecture"),
        endianess=GGUFEndian.LITTLE if header.order == "<" else GGUFEndian.BIG,
        split_max_size=room,
    )
    with closing(writer):
        writer.data_alignment = header.alignment
        for key, entry in header.fields.items():
            if key == "general.architecture":
                continue
            value = changes.get(key, entry.contents())
            if value == []:
                raise QuernError(
                    f"{source}: its list {key} is empty, which the gguf package does not "
                    "write; leave it whole with `release: split: null`."
                )
            kind, *entries = map(GGUFValueType, entry.types)
            writer.add_key_value(key, value, kind, *entries)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        written = writer.format_shard_names(target)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file(progress=sys.stderr.isatty())
    return written
