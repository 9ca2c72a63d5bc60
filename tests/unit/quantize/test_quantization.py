"""What a recipe says of types, read back from the file with the gguf package."""

import gguf
import numpy as np
import pytest

from models import write_model
from quern import QuernError, files, gguf_files
from quern.imatrix import formats
from quern.imatrix.matrix import Imatrix
from quern.quantize import quantization
from quern.quantize.recipes import Recipe


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model of 32-weight blocks, and what is said of it."""
    path = write_model(tmp_path_factory.mktemp("tiny") / "m.gguf", n_embd=64, n_ff=96)
    return path, gguf_files.model_info(path)


def quantized(model, recipe, path, **options):
    quantization.quantize(*model, recipe, path, **options)
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def types(tensors):
    """The type of every matrix; norms stay as they are."""
    return {name: t.tensor_type.name for name, t in tensors.items() if len(t.shape) > 1}


def test_pure_is_one_type_for_all(tiny, tmp_path):
    pure = types(quantized(tiny, Recipe("Q4_0", pure=True), tmp_path / "pure.gguf"))
    mixed = types(quantized(tiny, Recipe("Q4_0"), tmp_path / "mixed.gguf"))
    assert pure.keys() == mixed.keys() == {*tiny[1].matrices, "output.weight", "token_embd.weight"}
    assert set(pure.values()) == {"Q4_0"}
    assert set(mixed.values()) == {"Q4_0", mixed["output.weight"]} != {"Q4_0"}


def test_norms_are_not_quantized(tiny, tmp_path):
    before = {t.name: t for t in gguf.GGUFReader(tiny[0]).tensors}
    after = quantized(tiny, Recipe("Q4_0", pure=True), tmp_path / "q.gguf")
    norms = [name for name in before if name.endswith("norm.weight")]
    assert len(norms) == 5
    for name in norms:
        assert after[name].tensor_type.name == "F32"
        assert (after[name].data == before[name].data).all()


def test_the_output_and_the_embeddings_have_types_of_their_own(tiny, tmp_path):
    plain = types(quantized(tiny, Recipe("Q4_0"), tmp_path / "plain.gguf"))
    recipe = Recipe("Q4_0", output_type="Q5_1", token_embedding_type="F16")
    found = types(quantized(tiny, recipe, tmp_path / "q.gguf"))
    assert found == plain | {"output.weight": "Q5_1", "token_embd.weight": "F16"}


def test_of_tensor_types_the_first_match_counts(tiny, tmp_path):
    plain = types(quantized(tiny, Recipe("Q4_0"), tmp_path / "plain.gguf"))
    pairs = ((r"blk\.1\.attn_q", "Q8_0"), ("attn_[qk]", "Q5_0"), ("attn", "Q5_1"))
    for order in (1, -1):
        recipe = Recipe("Q4_0", tensor_types=pairs[::order])
        found = types(quantized(tiny, recipe, tmp_path / f"{order}.gguf"))
        expected = dict(plain)
        for name in plain:
            if "attn" in name:
                first = [kind for pattern, kind in pairs[::order] if _matches(pattern, name)]
                expected[name] = first[0]
        assert found == expected
    assert found["blk.1.attn_q.weight"] == found["blk.0.attn_output.weight"] == "Q5_1"


def _matches(pattern, name):
    """Plain containment; patterns of these tests need no more."""
    if pattern == "attn_[qk]":
        return "attn_q" in name or "attn_k" in name
    return pattern.replace("\\", "") in name


def test_values_are_those_of_the_model_quantized(tiny, tmp_path):
    """Q8_0 of every matrix, against the gguf package's."""
    before = {t.name: t for t in gguf.GGUFReader(tiny[0]).tensors}
    after = quantized(tiny, Recipe("Q8_0", pure=True), tmp_path / "q.gguf")
    kind = gguf.GGMLQuantizationType.Q8_0
    for name in types(after):
        values = before[name].data.astype(np.float32)
        assert (after[name].data == gguf.quants.quantize(values, kind)).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_inputs_are_the_same_bytes_in_any_folder(tiny, tmp_path, threads):
    recipe = Recipe("Q4_1", tensor_types=(("ffn", "Q5_0"),))
    paths = [tmp_path / "q.gguf", tmp_path / "some/other/folder/model.gguf"]
    for path in paths:
        quantized(tiny, recipe, path, threads=threads)
    assert files.sha256(paths[0]) == files.sha256(paths[1])
    quantized(tiny, recipe, tmp_path / "one.gguf")
    assert files.sha256(tmp_path / "one.gguf") == files.sha256(paths[0])


@pytest.fixture
def imatrix(tiny, tmp_path):
    """An imatrix of the model's blocks, random, made from some data set."""
    rng = np.random.default_rng(0)
    matrix = Imatrix(datasets=["text.txt"], chunks=5, chunk_size=64)
    for name, (columns, _) in tiny[1].matrices.items():
        matrix.add(name, rng.exponential(size=(1, columns)) * 320, np.array([320]))
    formats.write(matrix, tmp_path / "in/i.gguf")
    return tmp_path / "in/i.gguf"


def test_the_imatrix_changes_weights_and_is_recorded(tiny, imatrix, tmp_path):
    plain = quantized(tiny, Recipe("Q4_0", pure=True), tmp_path / "plain.gguf")
    found = quantized(tiny, Recipe("Q4_0", pure=True), tmp_path / "out/q.gguf", imatrix=imatrix)
    for name in tiny[1].matrices:
        assert (found[name].data != plain[name].data).any()
    reader = gguf.GGUFReader(tmp_path / "out/q.gguf")
    said = {key: field.contents() for key, field in reader.fields.items() if "imatrix" in key}
    assert said == {
        "quantize.imatrix.file": "../in/i.gguf",
        "quantize.imatrix.dataset": "text.txt",
        "quantize.imatrix.entries_count": len(tiny[1].matrices),
        "quantize.imatrix.chunks_count": 5,
    }


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("Q9_K"), "quantization type Q9_K; it knows .*Q4_K_M"),
        (Recipe("q4_0"), "quantization type q4_0"),
        (Recipe("Q4_0", output_type="Q4_K_M"), "tensor type Q4_K_M; it knows .*Q4_K"),
        (Recipe("Q4_0", token_embedding_type="F17"), "tensor type F17"),
        (Recipe("Q4_0", tensor_types=(("attn", "Q8_0"), ("ffn", "Q8"))), "tensor type Q8;"),
    ],
)
def test_an_unknown_type_is_refused_before_anything_is_written(tiny, tmp_path, recipe, said):
    with pytest.raises(QuernError, match=rf"llama\.cpp knows no {said}"):
        quantization.quantize(*tiny, recipe, tmp_path / "q.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_model_is_not_quantized_again(tiny, tmp_path):
    quantized(tiny, Recipe("Q8_0"), tmp_path / "q.gguf")
    again = tmp_path / "q.gguf", gguf_files.model_info(tmp_path / "q.gguf")
    with pytest.raises(QuernError, match=r"q\.gguf is already quantized \(Q8_0\)"):
        quantization.quantize(*again, Recipe("Q4_0"), tmp_path / "r.gguf")
    assert not (tmp_path / "r.gguf").exists()


def test_experts_that_are_published_quantized_stay_as_they_are(tmp_path):
    """Models such as gpt-oss exist in no wider type than MXFP4."""
    path = write_model(tmp_path / "m.gguf", experts=4, n_layer=1, expert_dtype="MXFP4")
    info = gguf_files.model_info(path)
    before = {t.name: t for t in gguf.GGUFReader(path).tensors}
    made = quantization.quantize(path, info, Recipe("Q8_0"), tmp_path / "q.gguf")
    assert made.notes == ["3 of 13 tensors stay MXFP4, as the model was published."]
    after = {t.name: t for t in gguf.GGUFReader(tmp_path / "q.gguf").tensors}
    for name, tensor in after.items():
        if "_exps" in name:
            assert tensor.tensor_type.name == "MXFP4"
            assert (tensor.data == before[name].data).all()
    assert after["blk.0.attn_q.weight"].tensor_type.name == "Q8_0"
    asked = Recipe("Q8_0", tensor_types=(("ffn_up_exps", "Q5_0"),))
    found = types(quantized((path, info), asked, tmp_path / "other.gguf"))
    assert found["blk.0.ffn_up_exps.weight"] == "Q5_0"
    assert found["blk.0.ffn_down_exps.weight"] == "MXFP4"
    matrix = Imatrix()  # experts that no token reached are not quantized, so none is missed
    for name, (columns, _) in info.matrices.items():
        if "_exps" not in name:
            matrix.add(name, np.ones((1, columns)), np.array([9]))
    formats.write(matrix, tmp_path / "i.gguf")
    options = {"imatrix": tmp_path / "i.gguf", "unreached": "refuse"}
    refused = quantization.quantize(path, info, Recipe("Q8_0"), tmp_path / "q.gguf", **options)
    assert refused.notes == made.notes
    with pytest.raises(QuernError, match=r"lacks 4 of 4 matrices of blk\.0\.ffn_up_exps"):
        quantized((path, info), asked, tmp_path / "q.gguf", **options)
    wide = quantized((path, info), Recipe("BF16"), tmp_path / "wide.gguf")
    assert types(wide)["blk.0.ffn_up_exps.weight"] == "BF16"
