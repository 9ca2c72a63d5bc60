"""The imatrix file, and how sums are formed."""

import dataclasses
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from quern import QuernError, gguf_files
from quern.imatrix import formats
from quern.imatrix.matrix import MODEL_SHA256, Imatrix
from quern.imatrix.shards import merge, report
from quern.quantize import quantization


def test_the_first_tensor_that_differs_is_named(made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    matrix = Imatrix()
    matrix.add("blk.0.attn_q.weight", np.ones((1, 128)), np.array([7]))
    with pytest.raises(QuernError, match=r"attn_q\.weight has 128 values there and 1 × 256"):
        matrix.fitted(info.matrices, tmp_path / "i.gguf")


def test_a_matrix_of_a_weight_that_the_model_has_in_two_parts(tmp_path):
    """Programs without MLA multiply by attn_kv_b."""
    parts = {f"blk.0.attn_{part}.weight": (8, 2) for part in ("k_b", "v_b")}
    shapes = parts | {f"blk.0.ffn_{part}.weight": (8, 1) for part in ("up", "gate", "down")}
    matrix = Imatrix()
    gate = "blk.0.ffn_gate_inp_shexp.weight"  # of one row, as in Qwen's mixtures of experts
    for name in [*list(shapes)[2:], "blk.0.attn_kv_b.weight", gate]:
        matrix.add(name, np.ones((1, 8)), np.array([7]))
    fitted = matrix.fitted(shapes, tmp_path / "i.gguf")
    assert fitted.sums.keys() == shapes.keys() - parts.keys()
    assert fitted.unreached(SimpleNamespace(matrices=shapes, sha256="")) == dict.fromkeys(parts, 2)
    with pytest.raises(QuernError, match=r"it has blk\.0\.attn_kv_b\.weight, the model has not"):
        matrix.fitted({n: s for n, s in shapes.items() if "v_b" not in n}, tmp_path / "i.gguf")


# --- what is done with importances -----------------------------------------------------------


def test_importances_are_mean_squares_and_even_where_nothing_came():
    matrix = Imatrix()
    matrix.add("w", np.array([[10.0, 30.0]]), np.array([10]))
    matrix.add("e", np.array([[8.0, 4.0], [0, 0]]), np.array([4, 0]))
    found = matrix.importances()
    assert found["w"].tolist() == [1, 3] and found["e"].tolist() == [2, 1, 1, 1]


@pytest.fixture
def with_dead_expert(made, collect, tmp_path):
    """An imatrix of the mixture of experts, one of which no token reaches, without layer 1.
    It does not say that it is of this model."""
    merged = merge([collect(tmp_path / "s.h5", 0, 8, "moe")], "text/pool")
    merged.matrix.extra = {}
    for name in [n for n in merged.matrix.sums if n.startswith("blk.1.attn")]:
        del merged.matrix.sums[name], merged.matrix.counts[name]
    formats.write(merged.matrix, tmp_path / "i.gguf")
    return merged, gguf_files.model_info(made / "moe.gguf"), tmp_path / "i.gguf"


def test_what_calibration_never_reached_is_listed(with_dead_expert):
    merged, info, _ = with_dead_expert
    lacking = report(merged, info)["unreached"]
    experts = {f"blk.{i}.ffn_{kind}_exps.weight" for i in (0, 1) for kind in ("gate", "up", "down")}
    missing = {f"blk.1.attn_{x}.weight" for x in ("q", "k", "v", "output")}
    assert set(lacking) == experts | missing
    assert set(lacking.values()) == {1}


def test_what_an_imatrix_of_this_model_lacks_is_multiplied_by_no_graph(with_dead_expert):
    merged, info, path = with_dead_expert
    merged.matrix.extra = {MODEL_SHA256: info.sha256}
    formats.write(merged.matrix, path)
    lacking = formats.read(path).unreached(info)
    assert lacking == report(merged, info)["unreached"]
    assert lacking and all("_exps" in name for name in lacking)


def test_only_what_llama_quantizes_counts(made, tmp_path):
    """Biases of experts, convolutions and routers have two dimensions too."""
    info = gguf_files.model_info(made / "dense.gguf")
    kept = ("ffn_gate_exps.bias", "ssm_a", "ssm_conv1d.weight", "ssm_norm.weight", "ssm_d")
    kept = {
        f"blk.{i}.{name}": (256, 1) for i in range(9) for name in (*kept, "ffn_gate_inp.weight")
    }
    model = dataclasses.replace(info, matrices=info.matrices | kept)
    matrix = Imatrix()
    for name, (columns, _) in [*info.matrices.items(), ("blk.0.ffn_gate_inp.weight", (256, 1))]:
        matrix.add(name, np.ones((1, columns)), np.array([1]))
    assert matrix.fitted(model.matrices, tmp_path / "i.gguf").unreached(model) == {}


def test_policies_for_what_was_not_reached(made, with_dead_expert, tmp_path, caplog):
    _, info, path = with_dead_expert

    def types(policy):
        quantization.quantize(
            *(made / "moe.gguf", info, quantization.Recipe("IQ2_XXS"), tmp_path / "q.gguf"),
            imatrix=path,
            unreached=policy,
        )
        tensors = gguf_files.open_gguf(tmp_path / "q.gguf").tensors
        return {t.name: t.tensor_type.name for t in tensors}

    with caplog.at_level(logging.WARNING, "quern.quantization"):
        neutral = types("neutral")
    assert "blk.0.ffn_up_exps.weight: calibration did not reach 1 of 4" in caplog.text
    assert neutral["blk.0.ffn_up_exps.weight"] == neutral["blk.1.attn_q.weight"] == "IQ2_XXS"
    kept = types("Q8_0")
    assert kept["blk.0.ffn_up_exps.weight"] == kept["blk.1.attn_q.weight"] == "Q8_0"
    assert kept["blk.0.attn_q.weight"] == "IQ2_XXS"
    with pytest.raises(QuernError, match=r"lacks 1 of 4 matrices of blk\.0\.ffn_down_exps"):
        types("refuse")
    with pytest.raises(QuernError, match="no tensor type Q9_9"):
        types("Q9_9")


# --- statistics ------------------------------------------------------------------------------


def test_counts_below_one_are_kept():
    """Merged matrices may be weighted."""
    matrix = Imatrix()
    matrix.add("w", np.array([[2.0, 1.0], [6.0, 3.0]]), np.array([0.5, 2.0]))
    assert matrix.importances()["w"].tolist() == [4, 2, 3, 1.5]
