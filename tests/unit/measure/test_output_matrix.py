"""Conversions of half types, and the product with the output matrix, against numpy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from quern import half_types
from quern.measure.output_matrix import OutputMatrix, Transform, to_hidden_type


@pytest.mark.parametrize("transform", [Transform(), Transform(0.25), Transform(1.0, 30.0)])
@pytest.mark.parametrize("kind", ["F16", "BF16", "F32"])
def test_product_with_transform_and_bias(kind, transform):
    rng = np.random.default_rng(0)
    dtype = {"F16": np.float16, "BF16": np.uint16, "F32": np.float32}[kind]
    weights = to_hidden_type(rng.standard_normal((9001, 64), np.float32), dtype)
    hidden = to_hidden_type(rng.standard_normal((21, 64), np.float32), dtype)
    bias = rng.standard_normal(9001, np.float32)
    matrix = OutputMatrix(weights, kind, bias, transform=transform)
    wide = [half_types.to_float32(x).astype(np.float64) for x in (hidden, weights)]
    expected = (wide[0] @ wide[1].T + bias) * transform.scale
    if transform.cap:
        expected = transform.cap * np.tanh(expected / transform.cap)
    results = []
    for threads in (1, 3):
        with ThreadPoolExecutor(threads) as pool:
            results.append(matrix.logits(hidden, np.empty((30, 9001), np.float32), pool))
    np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=1e-5)
    assert (results[0] == results[1]).all()
