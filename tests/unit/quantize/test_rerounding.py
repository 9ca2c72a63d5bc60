"""Rounding whole models again, by hand as users do."""

import gguf
import numpy as np
import pytest

from conftest import command, fails_with
from models import write_model
from quern import files, gguf_files, rounding
from quern.ggml_types import UNQUANTIZED
from quern.imatrix import formats
from quern.imatrix.matrix import Imatrix
from quern.llama import Model
from quern.quantize.recipes import KEY


def ok(result):
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def importances(made, tmp_path_factory):
    """An imatrix of the dense model's blocks, random."""
    rng = np.random.default_rng(0)
    matrix = Imatrix()
    info = gguf_files.model_info(made / "dense.gguf")
    for name, (columns, _) in info.matrices.items():
        matrix.add(name, rng.exponential(size=(1, columns)) * 100, np.array([100]))
    path = tmp_path_factory.mktemp("imatrix") / "i.gguf"
    formats.write(matrix, path)
    return path


def quantized(made, folder, kind, *options, model="dense"):
    result = command(
        "quantize",
        *("--model", made / f"{model}.gguf", "--info", made / f"{model}.json", "--type", kind),
        *("--output", folder / "q.gguf", "--output-info", folder / "q.json", *options),
    )
    ok(result)
    return folder / "q.gguf"


def reround(made, source, output, *options, model="dense"):
    return command(
        "reround",
        *("--baseline", made / f"{model}.gguf", "--quantized", source, "--output", output),
        *options,
    )


def tensors(path):
    return {t.name: t for t in gguf_files.open_gguf(path).tensors}


@pytest.mark.parametrize("kind", ["Q3_K_M", "IQ4_XS", "Q4_0"])
def test_a_mix_is_rounded_where_it_can_be(made, importances, tmp_path, kind):
    source = quantized(made, tmp_path, kind, "--imatrix", importances)
    log = tmp_path / "log"
    ok(
        reround(
            made, source, tmp_path / "r.gguf",
            *("--imatrix", importances, "--threads", 2, "--log", log),
        )
    )  # fmt: skip
    before, after = tensors(source), tensors(tmp_path / "r.gguf")
    original = tensors(made / "dense.gguf")
    weights = formats.read(importances).importances()
    assert list(before) == list(after)
    for name, tensor in after.items():
        type_name = tensor.tensor_type.name
        assert type_name == before[name].tensor_type.name
        if rounding.covers("exact", type_name) and name in weights:
            values = original[name].data.astype(np.float32)
            rows = rounding.Rows(values, weights[name])
            found = rounding.round_rows(type_name, "exact", rows)
            assert (tensor.data == found).all()
        else:
            assert (tensor.data == before[name].data).all()
        if type_name not in UNQUANTIZED and not rounding.covers("exact", type_name):
            assert f"{type_name} is not covered" in log.read_text()
    reader = gguf_files.open_gguf(tmp_path / "r.gguf")
    assert gguf_files.field(reader, KEY) == "exact"
    old = gguf_files.open_gguf(source)
    for key in old.header.fields:
        if not key.startswith("GGUF."):
            assert gguf_files.field(reader, key) == gguf_files.field(old, key), key
    with Model(tmp_path / "r.gguf") as model:
        assert model.n_vocab == 300
    fails_with(
        reround(made, tmp_path / "r.gguf", tmp_path / "s.gguf", "--rounding", "exact"),
        "rounded by exact already",
    )


def test_experts_have_importances_of_their_own(made, tmp_path):
    info = gguf_files.model_info(made / "moe.gguf")
    matrix, rng = Imatrix(), np.random.default_rng(0)
    for name, (columns, matrices) in info.matrices.items():
        sums = rng.exponential(size=(matrices, columns)) * 100
        matrix.add(name, sums, np.full(matrices, 100))
    formats.write(matrix, tmp_path / "i.gguf")
    options = ("--imatrix", tmp_path / "i.gguf")
    source = quantized(made, tmp_path, "Q4_0", "--pure", *options, model="moe")
    ok(reround(made, source, tmp_path / "r.gguf", *options, model="moe"))
    name, (columns, matrices) = next((n, s) for n, s in info.matrices.items() if s[1] > 1)
    tensor, original = tensors(tmp_path / "r.gguf")[name], tensors(made / "moe.gguf")[name]
    weights = matrix.importances()[name].reshape(matrices, columns)
    for i in range(matrices):
        rows = rounding.Rows(original.data[i].astype(np.float32), weights[i])
        found = rounding.round_rows("Q4_0", "exact", rows)
        assert (tensor.data[i] == found).all()


def test_experts_that_are_published_quantized_keep_their_bytes(made, tmp_path):
    path = write_model(tmp_path / "mx.gguf", experts=4, n_layer=1, expert_dtype="MXFP4")
    info, matrix = gguf_files.model_info(path), Imatrix()
    files.write_json(tmp_path / "mx.json", info.as_dict())
    for name, (columns, matrices) in info.matrices.items():
        matrix.add(name, np.ones((matrices, columns)), np.full(matrices, 9))
    formats.write(matrix, tmp_path / "i.gguf")
    options = ("--imatrix", tmp_path / "i.gguf")
    given = ("--tensor-type", "ffn_up_exps=Q4_0")
    source = quantized(tmp_path, tmp_path, "Q4_K_M", *options, *given, model="mx")
    again = (*options, "--rounding", "importance", "--log", tmp_path / "log")
    ok(reround(tmp_path, source, tmp_path / "r.gguf", *again, model="mx"))
    before, after = tensors(source), tensors(tmp_path / "r.gguf")
    changed = {n for n, t in after.items() if (t.data != before[n].data).any()}
    assert "blk.0.attn_q.weight" in changed and not any("_exps" in name for name in changed)
    assert "1 tensors were published as MXFP4" in (tmp_path / "log").read_text()


def test_without_an_imatrix_the_rounding_is_asked_for_by_name(made, tmp_path):
    source = quantized(made, tmp_path, "Q5_0", "--pure")
    fails_with(reround(made, source, tmp_path / "r.gguf"), "name the rounding")
    ok(reround(made, source, tmp_path / "r.gguf", "--rounding", "gradient"))
    reader = gguf_files.open_gguf(tmp_path / "r.gguf")
    assert gguf_files.field(reader, KEY) == "gradient"
    before, after = tensors(source), tensors(tmp_path / "r.gguf")
    assert any((before[n].data != after[n].data).any() for n in before)


def test_what_does_not_fit_is_one_sentence(made, importances, tmp_path):
    source = quantized(made, tmp_path, "Q4_0")
    other = reround(made, source, tmp_path / "r.gguf", "--rounding", "exact", model="moe")
    fails_with(other, "is of another model")
    fails_with(
        reround(made, tmp_path / "none.gguf", tmp_path / "r.gguf", "--rounding", "exact"),
        "does not exist",
    )
    result = command(
        "reround",
        *("--baseline", source, "--quantized", source, "--output", tmp_path / "r.gguf"),
        *("--rounding", "exact"),
    )
    fails_with(result, "already quantized")
    assert not (tmp_path / "r.gguf").exists()


def test_an_infinite_weight_names_its_tensor(made, tmp_path):
    source = quantized(made, tmp_path, "Q4_0")
    broken = write_model(tmp_path / "broken.gguf")
    reader = gguf.GGUFReader(broken, "r+")
    next(t for t in reader.tensors if t.name == "blk.1.ffn_up.weight").data[3, 7] = np.inf
    reader.data.flush()
    result = command(
        "reround",
        *("--baseline", broken, "--quantized", source, "--output", tmp_path / "r.gguf"),
        *("--rounding", "exact"),
    )
    fails_with(result, "blk.1.ffn_up.weight", "not finite")
    assert not (tmp_path / "r.gguf").exists()


def test_compensated_needs_moments_and_no_other_takes_them(made, importances, tmp_path):
    source = quantized(made, tmp_path, "Q4_0", "--imatrix", importances)
    options = ("--imatrix", importances)
    bare = reround(made, source, tmp_path / "o.gguf", *options, "--rounding", "compensated")
    fails_with(bare, "compensated needs --moments and --baseline-info")
    moments = command(
        "moments",
        *("--model", made / "dense.gguf", "--info", made / "dense.json"),
        *("--tokens", made / "dense.h5", "--n-ctx", 64, "--windows", 60),
        *("--output", tmp_path / "m.h5"),
    )
    ok(moments)
    options += ("--moments", tmp_path / "m.h5", "--baseline-info", made / "dense.json")
    fails_with(reround(made, source, tmp_path / "o.gguf", *options), "no other takes them")
    done = reround(made, source, tmp_path / "o.gguf", *options, "--rounding", "compensated")
    ok(done)
    ok(reround(made, source, tmp_path / "i.gguf", *options[:2], "--rounding", "importance"))
    plain, ours = tensors(tmp_path / "i.gguf"), tensors(tmp_path / "o.gguf")
    changed = {name for name in plain if (plain[name].data != ours[name].data).any()}
    assert "output.weight" in changed and "token_embd.weight" not in changed
