"""A product that ggml computes, on the CPU as its device."""

import numpy as np
import pytest

from quern import QuernError, gguf_files, half_types
from quern.llama import DeviceProduct, Model
from quern.measure.output_matrix import OutputMatrix, to_hidden_type


@pytest.mark.parametrize("dtype", [np.float16, np.uint16, np.float32])
@pytest.mark.parametrize("block", [1 << 10, 64 << 20])
def test_rows_of_any_number(dtype, block, monkeypatch):
    monkeypatch.setattr("quern.llama.product.BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    weights = to_hidden_type(rng.standard_normal((301, 64), np.float32), dtype)
    product = DeviceProduct(weights, gpu=False, threads=2)
    for count in (1, 21, 2, 21):
        rows = to_hidden_type(rng.standard_normal((count, 64), np.float32), dtype)
        wide, out = half_types.to_float32(rows), np.empty((count, 301), np.float32)
        product.multiply(wide, out)
        expected = wide.astype(np.float64) @ half_types.to_float32(weights).T
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_logits_of_hidden_states_are_llama_cpps_to_the_bit(made):
    """The same kernel on the same rows, which BLAS is not."""
    path = made / "dense.gguf"
    matrix = OutputMatrix.of_model(path, gguf_files.model_info(path))
    product = DeviceProduct(matrix.weights, gpu=False)
    windows = np.arange(128, dtype=np.int32).reshape(2, 64)
    with Model(path) as model:
        for _, _, hidden, logits in model.hidden_states(windows, 32, 63, with_logits=True):
            again = np.empty_like(logits)
            product.multiply(hidden, again)
            assert (again == logits).all()


def test_a_gpu_that_is_not_there_leaves_the_product_to_the_cpu(made, caplog):
    import llama_cpp

    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this build has a GPU")
    path = made / "dense.gguf"
    with pytest.raises(QuernError, match="cannot use a GPU"):
        DeviceProduct(np.zeros((2, 32), np.float32))
    matrix = OutputMatrix.of_model(path, gguf_files.model_info(path))
    assert matrix.on_gpu() is matrix and "computed on the CPU" in caplog.text
