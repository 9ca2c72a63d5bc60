"""Half types widen and narrow as numpy and the gguf package do it."""

import gguf
import numpy as np

from quern import half_types


def test_every_finite_float16_widens():
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits[np.isfinite(bits.view(np.float16))].view(np.float16)
    assert (half_types.to_float32(halves) == halves.astype(np.float32)).all()
    assert np.signbit(half_types.to_float32(np.array([-0.0], np.float16))).all()


def test_bfloat16_both_ways_as_the_gguf_package_has_it():
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(4096) * 10.0 ** rng.integers(-30, 30, 4096)).astype(np.float32)
    expected = gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16).view(np.uint16)
    found = half_types.to_bfloat16(values)
    assert (found == expected).all()
    assert (
        half_types.to_float32(found) == (expected.astype(np.uint32) << 16).view(np.float32)
    ).all()
