"""Sizes, read and written: bytes, bits per weight, or those of a stock mix."""

import re
from dataclasses import dataclass

from . import QuernError
from .ggml_types import QUANTIZATION_TYPES

_UNITS = {"B": 1} | {
    f"{prefix}{end}": base ** (i + 1)
    for base, end in ((1000, "B"), (1024, "iB"))
    for i, prefix in enumerate("KMGT")
}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,15})?)"
_BYTES = re.compile(rf"{_NUMBER} ?({'|'.join(_UNITS)})")
_BITS = re.compile(rf"{_NUMBER} ?bpw")
_STOCK = re.compile(r"as ([A-Z0-9_]+)")
_LARGEST, _MOST_BITS = 10**15, 32  # bytes, and bits of a weight, of all that there is


@dataclass(frozen=True)
class Size:
    """How large a mix may be: one of three.

    Attributes:
        bytes: of the file.
        bits: per weight, of all tensors.
        stock: a type of llama-quantize; as many bytes as it gives.
    """

    bytes: int = 0
    bits: float = 0.0
    stock: str = ""

    @classmethod
    def parse(cls, text: str | int) -> "Size":
        """Read `4300000000`, `4.3GB`, `4.5 bpw` or `as Q4_K_M`.

        Raises:
            QuernError: it is none of them, nothing, more than any model, or no type of llama.cpp's.
        """
        text = str(min(text, _LARGEST)) if isinstance(text, int) else text
        text = f"{text} B" if re.fullmatch("[0-9]+", text) else text
        if found := _BYTES.fullmatch(text):
            size = int(float(found[1]) * _UNITS[found[2]])
            if not 0 < size < _LARGEST:
                raise QuernError(f"{text} is no size of a file; write bytes, such as 4.3GB.")
            return cls(bytes=size)
        if found := _BITS.fullmatch(text):
            if not 0 < float(found[1]) <= _MOST_BITS:
                raise QuernError(f"{text} is no size of weights; write such as 4.5 bpw.")
            return cls(bits=float(found[1]))
        if found := _STOCK.fullmatch(text):
            return cls(stock=QUANTIZATION_TYPES[found[1]].name)
        raise QuernError(f"{text[:40]!r} is no size; write bytes, 4.3GB, 4.5 bpw, or as Q4_K_M.")

    @classmethod
    def parse_bytes(cls, text: str | int) -> int:
        """Read `4300000000` or `4.3GB` alone.

        Raises:
            QuernError: it is neither.
        """
        found = cls.parse(text).bytes
        if not found:
            raise QuernError(f"{text} is no number of bytes; write such as 4.3GB.")
        return found

    @staticmethod
    def text(size: str | int | dict) -> str:
        """As the configuration may write it, as a text: also `{as: Q4_K_M}`."""
        return f"as {size['as']}" if isinstance(size, dict) else str(size)

    @property
    def label(self) -> str:
        """As part of a file's name: `as-Q4_K_M`, `4.5bpw`, `4300000000B`."""
        if self.stock:
            return f"as-{self.stock}"
        return f"{self.bits:g}bpw" if self.bits else f"{self.bytes}B"


def shown(n: int) -> str:
    """Bytes in decimal units with three digits, such as `4.31 GB`."""
    for unit, base in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= 0.9995 * base:
            return f"{n / base:.3g} {unit}"
    return f"{n} bytes"
