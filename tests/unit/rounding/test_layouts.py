"""Block layouts: what ggml reads is what was written, to the bit."""

import numpy as np
import pytest

from quern import QuernError, llama
from quern.rounding.layouts import CODED
from quern.rounding.structures import CodedBlocks, FactorsAndMinima, ListedScales, ScaleAndMinimum

KINDS = sorted(CODED)


def some_blocks(layout, n=500):
    """Random blocks, with scales of every size, subnormal ones among them."""
    rng = np.random.default_rng(1)
    low, high = layout.factor_range

    def scales():
        bits = rng.integers(0, 0x7C00, n) | rng.integers(0, 2, n) << 15
        return bits.astype(np.uint16).view(np.float16)

    def factors():
        return rng.integers(low, high + 1, (n, layout.sub_blocks)).astype(np.int8)

    has_minima = issubclass(layout, ScaleAndMinimum | FactorsAndMinima)
    return CodedBlocks(
        np.ones(n, np.float16) if issubclass(layout, ListedScales) else scales(),
        factors() if layout.sub_blocks else None,
        rng.integers(0, len(layout.levels), (n, layout.weights)).astype(np.uint8),
        *((scales(), factors() if layout.sub_blocks else None) if has_minima else ()),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_packed_is_unpacked_again(kind):
    blocks = some_blocks(CODED[kind])
    found = CODED[kind].unpack(CODED[kind].pack(blocks))
    for ours, theirs in zip(found, blocks, strict=True):
        assert (ours is None and theirs is None) or ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_dequantization_is_ggmls_to_the_bit(kind):
    layout = CODED[kind]
    raw = layout.pack(some_blocks(layout))
    ours, theirs = layout.dequantize(raw), llama.dequantize_rows(kind, raw)
    assert (ours.view(np.uint32) == theirs.view(np.uint32)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_ggml_wrote_are_read_and_written_back(kind):
    layout = CODED[kind]
    values = np.random.default_rng(2).normal(size=(20, 512)).astype(np.float32)
    raw = llama.quantize_rows(kind, values, np.ones(512, np.float32)).reshape(-1, layout.bytes)
    assert (layout.pack(layout.unpack(raw)) == raw).all()
    theirs = llama.dequantize_rows(kind, raw)
    assert (layout.dequantize(raw).view(np.uint32) == theirs.view(np.uint32)).all()


def test_wrong_sizes_are_errors_not_crashes():
    values = np.zeros((2, 512), np.float32)
    with pytest.raises(QuernError, match="no whole blocks"):
        llama.quantize_rows("Q6_K", values[:, :300])
    with pytest.raises(QuernError, match="no whole blocks"):
        llama.quantize_rows("Q4_0", values[:0])
    with pytest.raises(QuernError, match="importances do not fit"):
        llama.quantize_rows("Q4_0", values, np.ones(32, np.float32))
    with pytest.raises(QuernError, match="needs importances"):
        llama.quantize_rows("IQ2_XS", values)
    with pytest.raises(QuernError, match="knows no tensor type"):
        llama.quantize_rows("Q9_9", values)
    with pytest.raises(QuernError, match="no whole blocks"):
        llama.dequantize_rows("Q4_0", np.zeros((1, 17), np.uint8))
    with pytest.raises(QuernError, match="no blocks of 18 bytes"):
        CODED["Q4_0"].unpack(np.zeros((1, 17), np.uint8))
