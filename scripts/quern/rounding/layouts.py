"""How ggml lays out the blocks of the tensor types that can be rounded anew.

Every type is seen in the same way: a block has a scale, perhaps a factor for each sub-block, and a
code for each weight, which is the number of a level, counted from the lowest. In some types a
sub-block also has a minimum, by which its weights are lowered:

    weight = scale · factor · levels[code] - min_scale · min_factor

Arrays hold many blocks; bytes are as in ggml/src/ggml-common.h and ggml/src/ggml-quants.c.
"""

from typing import NamedTuple

import numpy as np

from .. import QuernError


class Blocks(NamedTuple):
    """What n blocks hold.

    Attributes:
        scales: float16 [n].
        factors: int8 [n, sub-blocks], or None where the type has none.
        codes: uint8 [n, weights].
        min_scales, min_factors: as scales and factors, or None where there are no minima.
    """

    scales: np.ndarray
    factors: np.ndarray | None
    codes: np.ndarray
    min_scales: np.ndarray | None = None
    min_factors: np.ndarray | None = None


class Layout:
    """A tensor type.

    Attributes:
        weights, bytes: of a block.
        sub_blocks: how many factors a block has; 0 for none.
        factor_range: the lowest and the highest factor.
        minima: whether sub-blocks (or blocks that have none) have minima; their factors have the
            same range.
        steps: float32, increasing: the scales that a sub-block may have, where it has one of its
            own, which its factor numbers from the lowest of `factor_range` on; None elsewhere.
        levels: float32, increasing.
    """

    weights = 32
    bytes: int
    sub_blocks = 0
    factor_range = (1, 1)
    minima = False
    steps: np.ndarray | None = None
    levels: np.ndarray

    @classmethod
    def pack(cls, blocks: Blocks) -> np.ndarray:
        """The bytes of blocks, uint8 [n, bytes]."""
        out = np.zeros((len(blocks.codes), cls.bytes), np.uint8)
        cls._write(blocks, out)
        return out

    @classmethod
    def unpack(cls, raw: np.ndarray) -> Blocks:
        """What blocks hold, from their bytes, uint8 [n, bytes].

        Raises:
            QuernError: these are not whole blocks.
        """
        if raw.dtype != np.uint8 or raw.ndim != 2 or raw.shape[1] != cls.bytes:
            raise QuernError(f"bytes of shape {raw.shape} are no blocks of {cls.bytes} bytes.")
        return cls._read(np.ascontiguousarray(raw))

    @classmethod
    def dequantize(cls, raw: np.ndarray) -> np.ndarray:
        """The weights of blocks, float32 [n, weights], to the bit what ggml makes of them."""
        blocks = cls.unpack(raw)
        d = cls._products(blocks.scales, blocks.factors)
        with np.errstate(over="ignore"):
            values = d[..., None] * cls.levels[blocks.codes].reshape(*d.shape, -1)
        if cls.minima:
            values -= cls._products(blocks.min_scales, blocks.min_factors)[..., None]
        return values.reshape(blocks.codes.shape)

    @classmethod
    def _products(cls, scales: np.ndarray, factors: np.ndarray | None) -> np.ndarray:
        """Of scales and factors, float32 [n, sub-blocks]."""
        if cls.steps is not None:
            return cls.steps[factors.astype(np.int64) - cls.factor_range[0]]
        products = scales.astype(np.float32)[:, None]
        return products if factors is None else products * factors.astype(np.float32)

    @classmethod
    def _write(cls, blocks: Blocks, out: np.ndarray) -> None:
        raise NotImplementedError

    @classmethod
    def _read(cls, raw: np.ndarray) -> Blocks:
        raise NotImplementedError


def _put_scales(scales: np.ndarray, out: np.ndarray) -> None:
    out[:] = scales.astype("<f2")[:, None].view(np.uint8)


def _get_scales(raw: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(raw).view("<f2")[:, 0]


def _pair(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Two arrays of nibbles as bytes."""
    return low | high << 4


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """The low nibbles of rows of bytes, then the high ones."""
    return np.concatenate([raw & 15, raw >> 4], axis=-1)


def _quartet(numbers: np.ndarray) -> np.ndarray:
    """Numbers of two bits, [rows, n, 4, width], as bytes [rows, n · width]; low bits first."""
    first, second, third, fourth = np.moveaxis(numbers, 2, 0)
    return (first | second << 2 | third << 4 | fourth << 6).reshape(len(numbers), -1)


def _bit_pairs(raw: np.ndarray) -> np.ndarray:
    """The inverse: numbers [rows, n, 4, width] from bytes [rows, n, width]."""
    return np.stack([raw >> k & 3 for k in (0, 2, 4, 6)], axis=2)


def _integers(lowest: int, highest: int) -> np.ndarray:
    return np.arange(lowest, highest + 1, dtype=np.float32)


class Q4_0(Layout):
    bytes = 18
    levels = _integers(-8, 7)

    @classmethod
    def _write(cls, blocks, out):
        _put_scales(blocks.scales, out[:, :2])
        out[:, 2:] = _pair(blocks.codes[:, :16], blocks.codes[:, 16:])

    @classmethod
    def _read(cls, raw):
        return Blocks(_get_scales(raw[:, :2]), None, _nibbles(raw[:, 2:]))


class IQ4_NL(Q4_0):
    levels = np.array(
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
    )


def _put_five_bits(codes: np.ndarray, out: np.ndarray) -> None:
    """32 codes of five bits: all high bits, then the rest."""
    high = np.packbits(codes.ravel() >> 4, bitorder="little")
    out[:, :4].view("<u4")[:] = high.view("<u4")[:, None]
    out[:, 4:] = _pair(codes[:, :16] & 15, codes[:, 16:] & 15)


def _get_five_bits(raw: np.ndarray) -> np.ndarray:
    high = np.unpackbits(raw[:, :4], axis=1, bitorder="little")
    return _nibbles(raw[:, 4:]) | high << 4


class Q5_0(Layout):
    bytes = 22
    levels = _integers(-16, 15)

    @classmethod
    def _write(cls, blocks, out):
        _put_scales(blocks.scales, out[:, :2])
        _put_five_bits(blocks.codes, out[:, 2:])

    @classmethod
    def _read(cls, raw):
        return Blocks(_get_scales(raw[:, :2]), None, _get_five_bits(raw[:, 2:]))


class Q4_1(Layout):
    bytes, minima = 20, True
    levels = _integers(0, 15)

    @classmethod
    def _write(cls, blocks, out):
        _put_scales(blocks.scales, out[:, :2])
        _put_scales(-blocks.min_scales, out[:, 2:4])
        cls._put_codes(blocks.codes, out[:, 4:])

    @classmethod
    def _read(cls, raw):
        scales, minima = _get_scales(raw[:, :2]), -_get_scales(raw[:, 2:4])
        return Blocks(scales, None, cls._get_codes(raw[:, 4:]), minima, None)

    @staticmethod
    def _put_codes(codes, out):
        out[:] = _pair(codes[:, :16], codes[:, 16:])

    @staticmethod
    def _get_codes(raw):
        return _nibbles(raw)


class Q5_1(Q4_1):
    bytes = 24
    levels = _integers(0, 31)
    _put_codes = staticmethod(_put_five_bits)
    _get_codes = staticmethod(_get_five_bits)


# E2M1 as doubled integers. Its sign lies in the highest of four bits; of two zeros one is used.
_E2M1 = np.array([-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12], np.float32)
_E2M1_BITS = np.array([15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7], np.uint8)
_E2M1_CODES = np.array([7, 8, 9, 10, 11, 12, 13, 14, 7, 6, 5, 4, 3, 2, 1, 0], np.uint8)


class MXFP4(Layout):
    """Scales are powers of two; the factor is the exponent."""

    weights, bytes = 32, 17
    sub_blocks, factor_range = 1, (-127, 127)
    steps = np.exp2(np.arange(-127, 128) - 1.0).astype(np.float32)
    levels = _E2M1

    @classmethod
    def _write(cls, blocks, out):
        out[:, 0] = (blocks.factors[:, 0].astype(np.int16) + 127).astype(np.uint8)
        bits = _E2M1_BITS[blocks.codes]
        out[:, 1:] = _pair(bits[:, :16], bits[:, 16:])

    @classmethod
    def _read(cls, raw):
        factors = (raw[:, :1].astype(np.int16).clip(0, 254) - 127).astype(np.int8)
        return Blocks(np.ones(len(raw), np.float16), factors, _E2M1_CODES[_nibbles(raw[:, 1:])])


class NVFP4(Layout):
    """Scales are unsigned E4M3; the factor is their bits."""

    weights, bytes = 64, 36
    sub_blocks, factor_range = 4, (0, 126)
    steps = np.array(
        [(k % 8 if k < 8 else 8 + k % 8) * 2.0 ** (max(k // 8, 1) - 11) for k in range(127)],
        np.float32,
    )
    levels = _E2M1

    @classmethod
    def _write(cls, blocks, out):
        out[:, :4] = blocks.factors.view(np.uint8)
        bits = _E2M1_BITS[blocks.codes].reshape(len(out), 4, 2, 8)
        out[:, 4:] = _pair(bits[:, :, 0], bits[:, :, 1]).reshape(len(out), 32)

    @classmethod
    def _read(cls, raw):
        factors = (raw[:, :4] & 127).view(np.int8)
        codes = _E2M1_CODES[_nibbles(raw[:, 4:].reshape(len(raw), 4, 8))].reshape(len(raw), 64)
        return Blocks(np.ones(len(raw), np.float16), factors, codes)


class Q8_0(Layout):
    bytes = 34
    levels = _integers(-128, 127)

    @classmethod
    def _write(cls, blocks, out):
        _put_scales(blocks.scales, out[:, :2])
        out[:, 2:] = blocks.codes ^ 128

    @classmethod
    def _read(cls, raw):
        return Blocks(_get_scales(raw[:, :2]), None, raw[:, 2:] ^ 128)


class IQ4_XS(Layout):
    weights, bytes = 256, 136
    sub_blocks, factor_range = 8, (-32, 31)
    levels = IQ4_NL.levels

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        _put_scales(blocks.scales, out[:, :2])
        factors = (blocks.factors + 32).astype(np.uint8)
        high = (factors >> 4).astype("<u2") << np.arange(0, 16, 2, dtype="<u2")
        out[:, 2:4] = np.bitwise_or.reduce(high, axis=1).astype("<u2")[:, None].view(np.uint8)
        out[:, 4:8] = _pair(factors[:, ::2] & 15, factors[:, 1::2] & 15)
        codes = blocks.codes.reshape(n, 8, 2, 16)
        out[:, 8:] = _pair(codes[:, :, 0], codes[:, :, 1]).reshape(n, 128)

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        high = np.ascontiguousarray(raw[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype="<u2")
        low = np.stack([raw[:, 4:8] & 15, raw[:, 4:8] >> 4], axis=2).reshape(n, 8)
        factors = (low | (high & 3).astype(np.uint8) << 4).astype(np.int8) - np.int8(32)
        codes = _nibbles(raw[:, 8:].reshape(n, 8, 16)).reshape(n, 256)
        return Blocks(_get_scales(raw[:, :2]), factors, codes)


class Q3_K(Layout):
    weights, bytes = 256, 110
    sub_blocks, factor_range = 16, (-32, 31)
    levels = _integers(-4, 3)

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        # The high bit of weight 32·k + i is bit k of byte i.
        high = blocks.codes.reshape(n, 8, 32) >> 2
        for k in range(8):
            out[:, :32] |= high[:, k] << k
        # The low bits of weight 128·h + 32·k + i are bits 2·k of byte 32·h + i.
        out[:, 32:96] = _quartet(blocks.codes.reshape(n, 2, 4, 32) & 3)
        factors = (blocks.factors + 32).astype(np.uint8)
        out[:, 96:104] = _pair(factors[:, :8] & 15, factors[:, 8:] & 15)
        out[:, 104:108] = _quartet((factors >> 4).reshape(n, 1, 4, 4))
        _put_scales(blocks.scales, out[:, 108:])

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        high = np.unpackbits(raw[:, None, :32], axis=1, bitorder="little")
        low = _bit_pairs(raw[:, 32:96].reshape(n, 2, 32))
        codes = (low.reshape(n, 8, 32) | high << 2).reshape(n, 256)
        top = _bit_pairs(raw[:, None, 104:108]).reshape(n, 16)
        factors = (_nibbles(raw[:, 96:104]) | top << 4).astype(np.int8) - np.int8(32)
        return Blocks(_get_scales(raw[:, 108:]), factors, codes)


class Q6_K(Layout):
    weights, bytes = 256, 210
    sub_blocks, factor_range = 16, (-128, 127)
    levels = _integers(-32, 31)

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        codes = blocks.codes.reshape(n, 2, 4, 32)  # halves, quarters of a half
        low, high = codes & 15, codes >> 4
        out[:, :128] = _pair(low[:, :, :2], low[:, :, 2:]).reshape(n, 128)
        out[:, 128:192] = _quartet(high)
        out[:, 192:208] = blocks.factors.view(np.uint8)
        _put_scales(blocks.scales, out[:, 208:])

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        low = raw[:, :128].reshape(n, 2, 2, 32)
        low = np.concatenate([low & 15, low >> 4], axis=2)
        high = _bit_pairs(raw[:, 128:192].reshape(n, 2, 32))
        factors = np.ascontiguousarray(raw[:, 192:208]).view(np.int8)
        return Blocks(_get_scales(raw[:, 208:]), factors, (low | high << 4).reshape(n, 256))


class Q2_K(Layout):
    weights, bytes = 256, 84
    sub_blocks, factor_range, minima = 16, (0, 15), True
    levels = _integers(0, 3)

    @classmethod
    def _write(cls, blocks, out):
        out[:, :16] = _pair(blocks.factors.view(np.uint8), blocks.min_factors.view(np.uint8))
        out[:, 16:80] = _quartet(blocks.codes.reshape(len(out), 2, 4, 32))
        _put_scales(blocks.scales, out[:, 80:82])
        _put_scales(blocks.min_scales, out[:, 82:])

    @classmethod
    def _read(cls, raw):
        codes = _bit_pairs(raw[:, 16:80].reshape(len(raw), 2, 32)).reshape(len(raw), 256)
        factors = (raw[:, :16] & 15).view(np.int8), (raw[:, :16] >> 4).view(np.int8)
        scales = _get_scales(raw[:, 80:82]), _get_scales(raw[:, 82:])
        return Blocks(scales[0], factors[0], codes, scales[1], factors[1])


class Q4_K(Layout):
    weights, bytes = 256, 144
    sub_blocks, factor_range, minima = 8, (0, 63), True
    levels = _integers(0, 15)
    _codes = 16  # where they begin

    @classmethod
    def _write(cls, blocks, out):
        _put_scales(blocks.scales, out[:, :2])
        _put_scales(blocks.min_scales, out[:, 2:4])
        # The first four of both lie as they are; the top bits of the others lie above them.
        factors, minima = blocks.factors.view(np.uint8), blocks.min_factors.view(np.uint8)
        out[:, 4:8] = factors[:, :4] | factors[:, 4:] >> 4 << 6
        out[:, 8:12] = minima[:, :4] | minima[:, 4:] >> 4 << 6
        out[:, 12:16] = _pair(factors[:, 4:] & 15, minima[:, 4:] & 15)
        low = (blocks.codes & 15).reshape(len(out), 4, 2, 32)
        out[:, cls._codes :] = _pair(low[:, :, 0], low[:, :, 1]).reshape(len(out), 128)

    @classmethod
    def _read(cls, raw):
        low, high = raw[:, 12:16], raw[:, 4:12] >> 6 << 4
        factors = np.concatenate([raw[:, 4:8] & 63, low & 15 | high[:, :4]], axis=1)
        minima = np.concatenate([raw[:, 8:12] & 63, low >> 4 | high[:, 4:]], axis=1)
        codes = _nibbles(raw[:, cls._codes :].reshape(-1, 4, 32)).reshape(len(raw), 256)
        scales = _get_scales(raw[:, :2]), _get_scales(raw[:, 2:4])
        return Blocks(scales[0], factors.view(np.int8), codes, scales[1], minima.view(np.int8))


class Q5_K(Q4_K):
    bytes = 176
    levels = _integers(0, 31)
    _codes = 48

    @classmethod
    def _write(cls, blocks, out):
        super()._write(blocks, out)
        # The high bit of weight 32·k + i is bit k of byte i.
        high = blocks.codes.reshape(len(out), 8, 32) >> 4
        for k in range(8):
            out[:, 16:48] |= high[:, k] << k

    @classmethod
    def _read(cls, raw):
        blocks = super()._read(raw)
        high = np.unpackbits(raw[:, None, 16:48], axis=1, bitorder="little")
        return blocks._replace(codes=blocks.codes | high.reshape(len(raw), 256) << 4)


def _to_base_3(digits: np.ndarray) -> np.ndarray:
    """Digits [n, 5, k], the highest first, as the bytes that unfold when multiplied by 3."""
    powers = np.array([81, 27, 9, 3, 1], np.uint16)[:, None]
    return ((digits * powers).sum(axis=1, dtype=np.uint16) * 256 + 242) // 243


def _from_base_3(raw: np.ndarray, digits: int) -> np.ndarray:
    powers = np.array([1, 3, 9, 27, 81], np.uint8)[:digits, None]
    return ((raw[:, None] * powers).astype(np.uint16) * 3 >> 8).astype(np.uint8)


class TQ1_0(Layout):
    weights, bytes = 256, 54
    levels = _integers(-1, 1)

    @classmethod
    def _write(cls, blocks, out):
        n, codes = len(out), blocks.codes
        last = np.zeros((n, 5, 4), np.uint8)
        last[:, :4] = codes[:, 240:].reshape(n, 4, 4)
        out[:, :32] = _to_base_3(codes[:, :160].reshape(n, 5, 32))
        out[:, 32:48] = _to_base_3(codes[:, 160:240].reshape(n, 5, 16))
        out[:, 48:52] = _to_base_3(last)
        _put_scales(blocks.scales, out[:, 52:])

    @classmethod
    def _read(cls, raw):
        parts = (raw[:, :32], 5), (raw[:, 32:48], 5), (raw[:, 48:52], 4)
        codes = [_from_base_3(part, digits).reshape(len(raw), -1) for part, digits in parts]
        return Blocks(_get_scales(raw[:, 52:]), None, np.concatenate(codes, axis=1))


class TQ2_0(Layout):
    weights, bytes = 256, 66
    levels = _integers(-1, 1)

    @classmethod
    def _write(cls, blocks, out):
        out[:, :64] = _quartet(blocks.codes.reshape(len(out), 2, 4, 32))
        _put_scales(blocks.scales, out[:, 64:])

    @classmethod
    def _read(cls, raw):
        codes = _bit_pairs(raw[:, :64].reshape(len(raw), 2, 32)).reshape(len(raw), 256)
        return Blocks(_get_scales(raw[:, 64:]), None, codes)


LAYOUTS: dict[str, type[Layout]] = {
    layout.__name__: layout
    for layout in (
        *(Q4_0, Q5_0, Q8_0, IQ4_NL, Q4_1, Q5_1, MXFP4, NVFP4),
        *(Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS),
        *(TQ1_0, TQ2_0),
    )
}
