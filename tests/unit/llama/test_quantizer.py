"""Rows that ggml quantizes, against the gguf package's own quantization in Python."""

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from models import write_model
from quern import QuernError, llama
from quern.llama.library import block_size
from references import some_values

# Types that the gguf package both quantizes and widens.
BOTH = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
WIDENED = (*BOTH, "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


def by_gguf(kind, values):
    return gguf.quants.quantize(values, GGMLQuantizationType[kind])


def widened(kind, raw):
    return gguf.quants.dequantize(raw, GGMLQuantizationType[kind])


@pytest.mark.parametrize("drawn", ["normal", "laplace", "t4"])
@pytest.mark.parametrize("kind", BOTH)
def test_bytes_are_those_of_the_gguf_package(kind, drawn):
    values, _ = some_values((20, 256), drawn)
    assert (llama.quantize_rows(kind, values) == by_gguf(kind, values)).all()


@pytest.mark.parametrize("kind", WIDENED)
def test_values_are_those_of_the_gguf_package(kind):
    values, importances = some_values((20, 512), "laplace", seed=1)
    raw = llama.quantize_rows(kind, values, importances)
    found, expected = llama.dequantize_rows(kind, raw), widened(kind, raw)
    assert found.dtype == np.float32 and found.shape == values.shape
    # A scale that is multiplied in another order differs in the last place.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert np.corrcoef(found.ravel(), values.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["Q4_K", "Q2_K", "Q4_0"])
def test_importances_lower_the_error_that_they_weigh(kind):
    values, importances = some_values((50, 512))
    plain, weighted = (
        ((llama.dequantize_rows(kind, llama.quantize_rows(kind, values, w)) - values) ** 2)
        for w in (None, importances)
    )
    assert (weighted * importances).sum() < (plain * importances).sum()


def test_rows_are_quantized_one_by_one():
    values, importances = some_values((6, 256))
    together = llama.quantize_rows("Q4_K", values, importances)
    alone = [llama.quantize_rows("Q4_K", row[None], importances) for row in values]
    assert (together == np.concatenate(alone)).all()


def test_strided_and_wider_arrays_are_taken():
    values, _ = some_values((6, 256))
    wide = np.asfortranarray(values.astype(np.float64))
    raw = llama.quantize_rows("Q8_0", values)
    assert (llama.quantize_rows("Q8_0", wide) == raw).all()
    apart = np.repeat(raw, 2, axis=1)[:, ::2]
    assert (llama.dequantize_rows("Q8_0", apart) == llama.dequantize_rows("Q8_0", raw)).all()


@pytest.mark.parametrize("shape", [(256,), (2, 3, 32), (0, 256), (2, 0), (2, 255), (2, 31)])
def test_rows_that_are_no_whole_blocks(shape):
    with pytest.raises(QuernError, match=r"are no whole blocks of Q4_0"):
        llama.quantize_rows("Q4_0", np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(18,), (2, 3, 18), (0, 18), (2, 0), (2, 17), (2, 19)])
def test_bytes_that_are_no_whole_blocks(shape):
    with pytest.raises(QuernError, match=r"are no whole blocks of Q4_0"):
        llama.dequantize_rows("Q4_0", np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(255,), (257,), (2, 256), ()])
def test_importances_that_do_not_fit(shape):
    with pytest.raises(QuernError, match="importances do not fit rows of 256 weights"):
        llama.quantize_rows("Q4_K", np.ones((2, 256)), np.ones(shape))


def test_a_type_that_needs_importances_says_so():
    values, importances = some_values((2, 256))
    with pytest.raises(QuernError, match="IQ2_XXS needs importances"):
        llama.quantize_rows("IQ2_XXS", values)
    raw = llama.quantize_rows("IQ2_XXS", values, importances)
    np.testing.assert_allclose(
        llama.dequantize_rows("IQ2_XXS", raw), widened("IQ2_XXS", raw), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["Q4_K_M", "q4_0", "Q9_9", ""])
def test_a_type_that_ggml_does_not_know(kind):
    values = np.zeros((2, 256))
    for call in (
        lambda: block_size(kind),
        lambda: llama.quantize_rows(kind, values),
        lambda: llama.dequantize_rows(kind, values),
    ):
        with pytest.raises(QuernError, match=f"ggml knows no tensor type {kind}"):
            call()


def test_sizes_of_blocks_are_those_of_the_gguf_package():
    names = llama.tensor_types().keys() & GGMLQuantizationType.__members__
    names -= {"Q8_1"}  # of which the package has it that its two scales are float32
    assert len(names) > 25
    for name in names:
        kind = GGMLQuantizationType[name]
        assert block_size(name) == gguf.GGML_QUANT_SIZES[kind]
        assert llama.tensor_types()[name] == kind.value


def test_what_llama_cpp_says_is_quoted(tmp_path):
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_ff=64)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(QuernError, match=r"llama\.cpp cannot quantize .*m\.gguf to Q4_0: \w+"):
        llama.quantize(path, tmp_path / "q.gguf", llama.QuantizationParameters("Q4_0"))


def test_long_metadata_are_cut_between_characters(tmp_path):
    """llama.cpp takes 127 bytes; half a character makes a file that nobody can read."""
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_layer=1)
    name = "a" + "校准数据" * 12 + ".txt"
    wanted = llama.QuantizationParameters("Q8_0", metadata={"quantize.imatrix.dataset": name})
    llama.quantize(path, tmp_path / "q.gguf", wanted)
    found = gguf.GGUFReader(tmp_path / "q.gguf").get_field("quantize.imatrix.dataset").contents()
    assert name.startswith(found) and 120 < len(found.encode()) < 128
