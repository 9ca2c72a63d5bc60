"""Types of one code a weight, a class each: levels, numbers of the search, and ggml's bytes.

Bytes are as in ggml/src/ggml-common.h and ggml/src/ggml-quants.c.
"""

import numpy as np

from .packing import (
    bit_pairs,
    get_scales,
    in_turn,
    nibbles,
    pair,
    pair_in_turn,
    put_scales,
    quartet,
)
from .structures import (
    CodedBlocks,
    CodedType,
    ErrorWeights,
    FactorsAndMinima,
    ListedScales,
    OneScale,
    ScaleAndFactors,
    ScaleAndMinimum,
    TriedScales,
)


def _integers(lowest: int, highest: int) -> np.ndarray:
    return np.arange(lowest, highest + 1, dtype=np.float32)


class Q4_0(OneScale):
    levels = _integers(-8, 7)
    tried = TriedScales(16, (16, 11))

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:] = pair(blocks.codes[:, :16], blocks.codes[:, 16:])

    @classmethod
    def _read(cls, raw):
        return CodedBlocks(get_scales(raw[:, :2]), None, nibbles(raw[:, 2:]))


class IQ4_NL(Q4_0):
    levels = np.array(
        [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
    )
    error_weights = ErrorWeights(32, 2, (0, 2))
    tried, both_signs = TriedScales(0, (48, 180), begin=4), True


def _put_five_bits(codes: np.ndarray, out: np.ndarray) -> None:
    """32 codes of five bits: all high bits, then the rest."""
    high = np.packbits(codes.ravel() >> 4, bitorder="little")
    out[:, :4].view("<u4")[:] = high.view("<u4")[:, None]
    out[:, 4:] = pair(codes[:, :16] & 15, codes[:, 16:] & 15)


def _get_five_bits(raw: np.ndarray) -> np.ndarray:
    high = np.unpackbits(raw[:, :4], axis=1, bitorder="little")
    return nibbles(raw[:, 4:]) | high << 4


class Q5_0(OneScale):
    levels = _integers(-16, 15)
    tried = TriedScales(16, (16, 19))

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        _put_five_bits(blocks.codes, out[:, 2:])

    @classmethod
    def _read(cls, raw):
        return CodedBlocks(get_scales(raw[:, :2]), None, _get_five_bits(raw[:, 2:]))


class Q4_1(ScaleAndMinimum):
    levels = _integers(0, 15)

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        put_scales(-blocks.min_scales, out[:, 2:4])
        cls._put_codes(blocks.codes, out[:, 4:])

    @classmethod
    def _read(cls, raw):
        scales, minima = get_scales(raw[:, :2]), -get_scales(raw[:, 2:4])
        return CodedBlocks(scales, None, cls._get_codes(raw[:, 4:]), minima, None)

    @staticmethod
    def _put_codes(codes, out):
        out[:] = pair(codes[:, :16], codes[:, 16:])

    @staticmethod
    def _get_codes(raw):
        return nibbles(raw)


class Q5_1(Q4_1):
    levels = _integers(0, 31)
    _put_codes = staticmethod(_put_five_bits)
    _get_codes = staticmethod(_get_five_bits)


# E2M1 as doubled integers. Its sign lies in the highest of four bits; of two zeros one is used.
_E2M1 = np.array([-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12], np.float32)
_E2M1_BITS = np.array([15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7], np.uint8)
_E2M1_CODES = np.array([7, 8, 9, 10, 11, 12, 13, 14, 7, 6, 5, 4, 3, 2, 1, 0], np.uint8)


class MXFP4(ListedScales):
    """Scales are powers of two; the factor is the exponent."""

    sub_blocks, factor_range = 1, (-127, 127)
    steps = np.exp2(np.arange(-127, 128) - 1.0).astype(np.float32)
    levels = _E2M1

    @classmethod
    def _write(cls, blocks, out):
        out[:, 0] = (blocks.factors[:, 0].astype(np.int16) + 127).astype(np.uint8)
        bits = _E2M1_BITS[blocks.codes]
        out[:, 1:] = pair(bits[:, :16], bits[:, 16:])

    @classmethod
    def _read(cls, raw):
        factors = (raw[:, :1].astype(np.int16).clip(0, 254) - 127).astype(np.int8)
        return CodedBlocks(np.ones(len(raw), np.float16), factors, _E2M1_CODES[nibbles(raw[:, 1:])])


class NVFP4(ListedScales):
    """Scales are unsigned E4M3; the factor is their bits."""

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
        out[:, 4:] = pair(bits[:, :, 0], bits[:, :, 1]).reshape(len(out), 32)

    @classmethod
    def _read(cls, raw):
        factors = (raw[:, :4] & 127).view(np.int8)
        codes = _E2M1_CODES[nibbles(raw[:, 4:].reshape(len(raw), 4, 8))].reshape(len(raw), 64)
        return CodedBlocks(np.ones(len(raw), np.float16), factors, codes)


class Q8_0(OneScale):
    levels = _integers(-128, 127)
    used = levels[1:]  # ggml's own rounding leaves out the lowest
    tried = TriedScales(160, (16, 150))

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:] = blocks.codes ^ 128

    @classmethod
    def _read(cls, raw):
        return CodedBlocks(get_scales(raw[:, :2]), None, raw[:, 2:] ^ 128)


class IQ4_XS(ScaleAndFactors):
    sub_blocks, factor_range = 8, (-32, 31)
    levels = IQ4_NL.levels
    error_weights = ErrorWeights(256, 2, (0, 2))
    tried, both_signs = TriedScales(0, (32, 180), begin=56), True

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        put_scales(blocks.scales, out[:, :2])
        factors = (blocks.factors + 32).astype(np.uint8)
        high = (factors >> 4).astype("<u2") << np.arange(0, 16, 2, dtype="<u2")
        out[:, 2:4] = np.bitwise_or.reduce(high, axis=1).astype("<u2")[:, None].view(np.uint8)
        out[:, 4:8] = pair_in_turn(factors & 15)
        codes = blocks.codes.reshape(n, 8, 2, 16)
        out[:, 8:] = pair(codes[:, :, 0], codes[:, :, 1]).reshape(n, 128)

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        high = np.ascontiguousarray(raw[:, 2:4]).view("<u2") >> np.arange(0, 16, 2, dtype="<u2")
        factors = in_turn(raw[:, 4:8]) | (high & 3).astype(np.uint8) << 4
        factors = factors.astype(np.int8) - np.int8(32)
        codes = nibbles(raw[:, 8:].reshape(n, 8, 16)).reshape(n, 256)
        return CodedBlocks(get_scales(raw[:, :2]), factors, codes)


class Q3_K(ScaleAndFactors):
    sub_blocks, factor_range = 16, (-32, 31)
    levels = _integers(-4, 3)
    error_weights = ErrorWeights(256, 2, (0, 2))
    tried, both_signs = TriedScales(16, (16, 9)), True

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        # The high bit of weight 32·k + i is bit k of byte i.
        high = blocks.codes.reshape(n, 8, 32) >> 2
        for k in range(8):
            out[:, :32] |= high[:, k] << k
        # The low bits of weight 128·h + 32·k + i are bits 2·k of byte 32·h + i.
        out[:, 32:96] = quartet(blocks.codes.reshape(n, 2, 4, 32) & 3)
        factors = (blocks.factors + 32).astype(np.uint8)
        out[:, 96:104] = pair(factors[:, :8] & 15, factors[:, 8:] & 15)
        out[:, 104:108] = quartet((factors >> 4).reshape(n, 1, 4, 4))
        put_scales(blocks.scales, out[:, 108:])

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        high = np.unpackbits(raw[:, None, :32], axis=1, bitorder="little")
        low = bit_pairs(raw[:, 32:96].reshape(n, 2, 32))
        codes = (low.reshape(n, 8, 32) | high << 2).reshape(n, 256)
        top = bit_pairs(raw[:, None, 104:108]).reshape(n, 16)
        factors = (nibbles(raw[:, 96:104]) | top << 4).astype(np.int8) - np.int8(32)
        return CodedBlocks(get_scales(raw[:, 108:]), factors, codes)


class Q6_K(ScaleAndFactors):
    sub_blocks, factor_range = 16, (-128, 127)
    levels = _integers(-32, 31)
    error_weights = ErrorWeights(0, 0, (0, 2))
    tried, reach, ratios = TriedScales(32, (16, 40)), 3, (100, 1)

    @classmethod
    def _write(cls, blocks, out):
        n = len(out)
        codes = blocks.codes.reshape(n, 2, 4, 32)  # halves, quarters of a half
        low, high = codes & 15, codes >> 4
        out[:, :128] = pair(low[:, :, :2], low[:, :, 2:]).reshape(n, 128)
        out[:, 128:192] = quartet(high)
        out[:, 192:208] = blocks.factors.view(np.uint8)
        put_scales(blocks.scales, out[:, 208:])

    @classmethod
    def _read(cls, raw):
        n = len(raw)
        low = raw[:, :128].reshape(n, 2, 2, 32)
        low = np.concatenate([low & 15, low >> 4], axis=2)
        high = bit_pairs(raw[:, 128:192].reshape(n, 2, 32))
        factors = np.ascontiguousarray(raw[:, 192:208]).view(np.int8)
        return CodedBlocks(get_scales(raw[:, 208:]), factors, (low | high << 4).reshape(n, 256))


class Q2_K(FactorsAndMinima):
    sub_blocks, factor_range = 16, (0, 15)
    levels = _integers(0, 3)
    error_weights = ErrorWeights(256, 1, (0, 1))

    @classmethod
    def _write(cls, blocks, out):
        out[:, :16] = pair(blocks.factors.view(np.uint8), blocks.min_factors.view(np.uint8))
        out[:, 16:80] = quartet(blocks.codes.reshape(len(out), 2, 4, 32))
        put_scales(blocks.scales, out[:, 80:82])
        put_scales(blocks.min_scales, out[:, 82:])

    @classmethod
    def _read(cls, raw):
        codes = bit_pairs(raw[:, 16:80].reshape(len(raw), 2, 32)).reshape(len(raw), 256)
        factors = (raw[:, :16] & 15).view(np.int8), (raw[:, :16] >> 4).view(np.int8)
        scales = get_scales(raw[:, 80:82]), get_scales(raw[:, 82:])
        return CodedBlocks(scales[0], factors[0], codes, scales[1], factors[1])


class Q4_K(FactorsAndMinima):
    sub_blocks, factor_range = 8, (0, 63)
    levels = _integers(0, 15)
    error_weights = ErrorWeights(256, 2, (1, 1))
    _codes = 16  # where they begin

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        put_scales(blocks.min_scales, out[:, 2:4])
        # The first four of both lie as they are; the top bits of the others lie above them.
        factors, minima = blocks.factors.view(np.uint8), blocks.min_factors.view(np.uint8)
        out[:, 4:8] = factors[:, :4] | factors[:, 4:] >> 4 << 6
        out[:, 8:12] = minima[:, :4] | minima[:, 4:] >> 4 << 6
        out[:, 12:16] = pair(factors[:, 4:] & 15, minima[:, 4:] & 15)
        low = (blocks.codes & 15).reshape(len(out), 4, 2, 32)
        out[:, cls._codes :] = pair(low[:, :, 0], low[:, :, 1]).reshape(len(out), 128)

    @classmethod
    def _read(cls, raw):
        low, high = raw[:, 12:16], raw[:, 4:12] >> 6 << 4
        factors = np.concatenate([raw[:, 4:8] & 63, low & 15 | high[:, :4]], axis=1)
        minima = np.concatenate([raw[:, 8:12] & 63, low >> 4 | high[:, 4:]], axis=1)
        codes = nibbles(raw[:, cls._codes :].reshape(-1, 4, 32)).reshape(len(raw), 256)
        scales = get_scales(raw[:, :2]), get_scales(raw[:, 2:4])
        return CodedBlocks(scales[0], factors.view(np.int8), codes, scales[1], minima.view(np.int8))


class Q5_K(Q4_K):
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


class TQ1_0(OneScale):
    levels = _integers(-1, 1)
    tried = TriedScales(0, (32, 6))

    @classmethod
    def _write(cls, blocks, out):
        n, codes = len(out), blocks.codes
        last = np.zeros((n, 5, 4), np.uint8)
        last[:, :4] = codes[:, 240:].reshape(n, 4, 4)
        out[:, :32] = _to_base_3(codes[:, :160].reshape(n, 5, 32))
        out[:, 32:48] = _to_base_3(codes[:, 160:240].reshape(n, 5, 16))
        out[:, 48:52] = _to_base_3(last)
        put_scales(blocks.scales, out[:, 52:])

    @classmethod
    def _read(cls, raw):
        parts = (raw[:, :32], 5), (raw[:, 32:48], 5), (raw[:, 48:52], 4)
        codes = [_from_base_3(part, digits).reshape(len(raw), -1) for part, digits in parts]
        return CodedBlocks(get_scales(raw[:, 52:]), None, np.concatenate(codes, axis=1))


class TQ2_0(OneScale):
    levels = _integers(-1, 1)
    tried = TriedScales(0, (32, 6))

    @classmethod
    def _write(cls, blocks, out):
        out[:, :64] = quartet(blocks.codes.reshape(len(out), 2, 4, 32))
        put_scales(blocks.scales, out[:, 64:])

    @classmethod
    def _read(cls, raw):
        codes = bit_pairs(raw[:, :64].reshape(len(raw), 2, 32)).reshape(len(raw), 256)
        return CodedBlocks(get_scales(raw[:, 64:]), None, codes)


class Q1_0(OneScale):
    """A bit a weight: whether it is the scale, or less it."""

    roundings = CodedType.roundings  # the proposals have nothing to search
    levels = np.array([-1, 1], np.float32)
    tried = TriedScales(0, (16, 8), begin=1)

    @classmethod
    def _write(cls, blocks, out):
        put_scales(blocks.scales, out[:, :2])
        out[:, 2:] = np.packbits(blocks.codes, axis=1, bitorder="little")

    @classmethod
    def _read(cls, raw):
        codes = np.unpackbits(raw[:, 2:], axis=1, bitorder="little")
        return CodedBlocks(get_scales(raw[:, :2]), None, codes)


CODED: dict[str, type[CodedType]] = {
    kind.__name__: kind
    for kind in (
        *(Q4_0, Q5_0, Q8_0, Q4_1, Q5_1, MXFP4, NVFP4),
        *(Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS),
        *(TQ1_0, TQ2_0, Q1_0),
    )
}
