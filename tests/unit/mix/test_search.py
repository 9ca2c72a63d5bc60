"""Types, sizes and budgets: to the byte, within what is allowed, never worse than stock mixes."""

import re
from dataclasses import replace

import numpy as np
import pytest

from models import write_model
from quern import QuernError, files, gguf_files
from quern.ggml_types import CHOSEN, PROBES
from quern.llama import Model, Way
from quern.measure.window_store import WindowStore
from quern.mix import damage, errors, search, stored
from quern.mix.choices import padded
from quern.mix.editing import Editor
from quern.mix.inputs import Inputs
from quern.quantize import quantization, type_files
from quern.quantize.recipes import GGML, Recipe
from quern.rounding import COMPENSATED
from quern.sizes import Size
from quern.tokens import windows
from quern.tokens.work import Work

from .conftest import N_CTX


@pytest.fixture(scope="module")
def plans(inputs):
    return search.stock_plans(inputs)


@pytest.fixture(scope="module")
def ratios(inputs):
    return errors.table(inputs.free(), inputs.sources, inputs.importances, threads=2)


@pytest.fixture
def measured(inputs, work, measure, tmp_path):
    stores = [measure(tmp_path / f"{t}.h5", turn=t) for t in (0, 1)]
    return damage.read(stores, inputs, work).kld


def found(inputs, plans, damages, size, tokens, folder, how=GGML, **options):
    header = quantization.header_bytes(inputs.model, inputs.metadata)
    with (
        Model(inputs.model, Way(threads=2), load="editable") as model,
        Editor(model, inputs.sources, inputs.importances, how) as editor,
    ):
        return search.search(
            inputs,
            inputs.free(**options),
            plans,
            damages,
            Size.parse(size),
            header=header,
            editor=editor,
            measured_on=tokens.windows(N_CTX, [0, 1])[:],
            held_back=tokens.windows(N_CTX, list(range(2, 10)))[:],
            folder=folder,
        )


@pytest.mark.slow
@pytest.mark.parametrize("size", ["as Q4_K_M", "as Q2_K", "5 bpw", "700000"])
def test_the_file_has_the_bytes_that_were_said(
    inputs, plans, ratios, measured, tokens, tmp_path, size
):
    mix = found(inputs, plans, search.Damages(measured, ratios), size, tokens, tmp_path)
    types = {name: row["type"] for name, row in mix["tensors"].items()}
    imatrix = inputs.model.parent / "i.gguf"
    output = inputs.model.parent / "q.gguf"
    quantization.quantize(
        *(inputs.model, inputs.info, Recipe(mix["base"]), output), imatrix=imatrix, types=types
    )
    written = gguf_files.tensors_of(output)
    assert {n: t.tensor_type.name for n, t in written.items() if n in types} == types
    assert output.stat().st_size == mix["file_bytes"]
    data = sum(padded(int(t.n_bytes)) for t in written.values())
    assert data == mix["tensor_bytes"] <= mix["budget"]
    if size.startswith("as"):
        quantization.quantize(inputs.model, inputs.info, Recipe(size[3:]), output, imatrix=imatrix)
        stock = gguf_files.tensors_of(output).values()
        assert mix["budget"] == sum(padded(int(t.n_bytes)) for t in stock)


def require_readable(mix, folder):
    """Read a mix as the stages do, and what cannot be one is a sentence."""
    path, name = folder / "mix.json", next(iter(mix["tensors"]))
    files.write_json(path, mix)
    assert stored.read(path, mix["model_sha256"]) == mix
    with pytest.raises(QuernError, match=r"mix\.json is of another model"):
        stored.read(path, "0" * 64)
    for key, value in {"type": "Q9_K", "bytes": 0, "weights": -1, "damage": -1e-9}.items():
        row = mix["tensors"][name] | {key: value}
        files.write_json(path, mix | {"tensors": mix["tensors"] | {name: row}})
        with pytest.raises(QuernError, match=rf"mix\.json holds what cannot be .*{key}: "):
            stored.read(path)
    for wrong in ({"tensors": {}}, {"tensor_bytes": 1}, {"predicted": {"kld": float("inf")}}):
        files.write_json(path, mix | wrong)
        with pytest.raises(QuernError, match=rf"cannot be .*{next(iter(wrong))}: "):
            stored.read(path)


def test_a_mix_is_proved_and_a_better_stock_mix_is_taken(
    inputs, plans, ratios, measured, tokens, tmp_path
):
    damages = search.Damages(measured, ratios)
    mix = found(inputs, plans, damages, "as Q4_K_M", tokens, tmp_path)
    assert mix["chosen"] == "mix" and "Q4_K_M" in mix["rivals"]
    assert 0.3 < mix["additivity"] < 3
    low, high = mix["measured"]["kld_mean"]["low"], mix["measured"]["kld_mean"]["high"]
    assert low < mix["measured"]["kld_mean"]["value"] < high
    require_readable(mix | {"rounding": GGML, "model_sha256": inputs.info.sha256}, tmp_path)
    # Damages turned upside down: the mix that they choose loses against the stock mix.
    wrong = search.Damages({n: 1e-6 / v for n, v in measured.items()}, ratios)
    only = {k: plans[k] for k in ("Q4_K_M",)}
    lost = found(inputs, only, wrong, "as Q4_K_M", tokens, tmp_path, COMPENSATED)
    assert lost["chosen"] == "Q4_K_M"
    assert lost["rivals"]["Q4_K_M"]["mix_less_rival"]["verdict"] == "worse"
    assert lost["additivity"] is None  # predicted for one rounding, measured with another
    types = {name: row["type"] for name, row in lost["tensors"].items()}
    assert types == {name: plans["Q4_K_M"][name] for name in types}


def test_what_is_fixed_and_what_is_left_out(inputs):
    fixed = {"attn_v": "Q8_0", "output_norm": "F32"}
    types = {t.name: t.types for t in inputs.free(fixed=fixed, fast_on="cpu")}
    assert types["blk.0.attn_v.weight"] == types["blk.1.attn_v.weight"] == ("Q8_0",)
    assert "output_norm.weight" not in types  # llama.cpp keeps it as it is
    assert not any(k.startswith(("IQ2", "IQ3")) for own in types.values() for k in own)
    assert "IQ4_XS" in types["output.weight"]
    with pytest.raises(QuernError, match=r"fixed: output_norm\.weight cannot become Q8_0"):
        inputs.free(fixed={"output_norm": "Q8_0"})
    with pytest.raises(QuernError, match=r"output\.weight cannot become IQ2_XS, which needs"):
        inputs.free(fixed={"output": "IQ2_XS", "output_norm": "F32"})
    with pytest.raises(QuernError, match="typo"):
        inputs.free(fixed={"typo": "Q8_0"})


def test_types_that_need_importances_without_any(inputs):
    bare = replace(inputs, importances={})
    for tensor in bare.free():
        assert not any(kind.startswith("IQ2") for kind in tensor.types)
        assert ("IQ3_XXS" in tensor.types) != tensor.name.startswith("blk.")
    with_some = {t.name: t.types for t in inputs.free()}
    assert "IQ2_XS" in with_some["blk.0.attn_q.weight"]
    assert "IQ2_XS" not in with_some["output.weight"]


def test_sizes():
    for text, size in {
        "4300000000": Size(bytes=4_300_000_000),
        "4.3GB": Size(bytes=4_300_000_000),
        "2 GiB": Size(bytes=2 << 30),
        "4.5 bpw": Size(bits=4.5),
        "as IQ4_XS": Size(stock="IQ4_XS"),
    }.items():
        assert Size.parse(text) == size
    for text in ("", "4.3", "4 GBit", "as", "bpw", "-3GB"):
        with pytest.raises(QuernError, match=re.escape(repr(text))):
            Size.parse(text)


def test_a_stock_mix_that_is_not_there(inputs, plans):
    with pytest.raises(QuernError, match="cpp makes no IQ1_S of this model"):
        search.budget_of(Size(stock="IQ1_S"), inputs.info, 0, plans, inputs.tensors)


def test_damages_that_are_none(measured, ratios):
    name = next(iter(measured))
    with pytest.raises(QuernError, match=f"the damage of {name} is not finite"):
        search.Damages(measured | {name: np.array([np.nan, 1])}, ratios)
    with pytest.raises(QuernError, match="there is no damage of other in Q4_K"):
        search.Damages(measured, ratios).of("other", "Q4_K")


def test_errors_are_those_of_all_rows(inputs, ratios):
    """A sample of rows against float64 over the whole tensor."""
    name = "blk.0.ffn_up.weight"
    source, h = inputs.sources[name], inputs.importances[name].astype(np.float64)
    values = source.float32(0, source.rows)

    def error(kind):
        return (h * (values - errors.rounded(kind, values, inputs.importances[name])) ** 2).sum()

    for kind in ("Q2_K", "Q5_K", "IQ3_S", "Q8_0"):
        assert ratios[name][kind] == pytest.approx(error(kind) / error(PROBES[0]), rel=0.1)
    assert ratios[name][PROBES[0]] == 1
    assert set(ratios[name]) == set(CHOSEN)


@pytest.mark.parametrize("kind", CHOSEN)
def test_what_may_be_chosen_without_an_imatrix_is_made_without_one(inputs, tmp_path, kind):
    """llama.cpp refuses some types, or crashes, where a tensor has no importances."""
    bare = replace(inputs, importances={})
    types = {t.name: kind if kind in t.types else "Q8_0" for t in bare.free()}
    recipe, output = Recipe("Q8_0"), tmp_path / "q.gguf"
    quantization.quantize(inputs.model, inputs.info, recipe, output, types=types)
    written = gguf_files.tensors_of(output)
    assert {n: t.tensor_type.name for n, t in written.items() if n in types} == types


def test_experts_that_are_published_quantized_keep_their_bytes(tmp_path):
    path = write_model(tmp_path / "m.gguf", experts=4, n_layer=1, expert_dtype="MXFP4")
    moe = Inputs.read(path, gguf_files.model_info(path))
    assert not any("_exps" in t.name for t in moe.free())
    for kind, plan in search.stock_plans(moe).items():
        quantization.quantize(path, moe.info, Recipe(kind), tmp_path / "q.gguf")
        data = search.plan_bytes(plan, moe.tensors)
        size = (tmp_path / "q.gguf").stat().st_size
        assert size == quantization.header_bytes(path) + data, kind


def test_a_file_that_is_mostly_floats_is_called_by_a_quantized_type(inputs):
    """Where the base is a float type, llama.cpp looks at no tensor's own."""
    free = inputs.free()
    assert type_files.base_of(("F16", t.weights) for t in free) == "Q8_0"
    assert type_files.base_of(("Q4_K", t.weights) for t in free) == "Q4_K_S"


def test_errors_of_another_imatrix_are_refused(inputs, ratios, tmp_path):
    files.write_json(tmp_path / "e.json", {"errors": ratios} | errors.origin(inputs))
    assert errors.read(tmp_path / "e.json", inputs) == ratios
    with pytest.raises(QuernError, match=r"e\.json is of another model or imatrix"):
        errors.read(tmp_path / "e.json", replace(inputs, imatrix_sha256="other"))


def test_tensors_that_do_nothing(made, tmp_path):
    """A block for drafting, which no graph reads, and one that adds zeros."""
    path = write_model(tmp_path / "m.gguf", architecture="glm4", drafting=True)
    content = bytearray(path.read_bytes())
    zeros = ("blk.1.attn_output.weight", "blk.1.ffn_down.weight")
    for name in zeros:
        tensor = gguf_files.tensors_of(path)[name]
        begin, size = int(tensor.data_offset), int(tensor.n_bytes)
        content[begin : begin + size] = bytes(size)
    path.write_bytes(content)
    model = Inputs.read(path, gguf_files.model_info(path))
    with Model(path, load="vocab") as vocabulary:
        tokenizer = model.info.tokenizer_sha256
        windows.tokenize_text(vocabulary, tokenizer, made / "text.txt", tmp_path / "t.h5")
    work = Work(path, model.info, windows.read_tokens(tmp_path / "t.h5"), N_CTX)
    stores = [tmp_path / f"{turn}.h5" for turn in (0, 1)]
    for turn, store in enumerate(stores):
        with work.opened(Way(threads=2), "editable") as opened:
            damage.measure(opened, model, work, store, turn=turn)
    measured = damage.read(stores, model, work)
    drafting = {t.name for t in model.free() if t.name.startswith("blk.2.")}
    assert len(drafting) == 7 and measured.unused == drafting
    nothing = {name for name, values in measured.kld.items() if not values.any()}
    assert nothing == {t.name for t in model.free() if t.name.startswith("blk.1.")}
    ratios = errors.table(model.free([*CHOSEN, "MXFP4"]), model.sources, {}, threads=2)
    damages, plans = (
        search.Damages(measured.kld, ratios, measured.unused),
        search.stock_plans(model),
    )
    fixed = {r"blk\.2\.attn_k\.": "Q8_0", r"blk\.0\.attn_v\.": "MXFP4"}
    mix = found(
        *(model, plans, damages, "as Q4_K_M", work.tokens, tmp_path),
        unused=measured.unused,
        fixed=fixed,
    )
    types = {name: row["type"] for name, row in mix["tensors"].items()}
    assert types["blk.0.attn_v.weight"] == "MXFP4"
    wanted = {name: plans["Q4_K_M"][name] for name in drafting} | {"blk.2.attn_k.weight": "Q8_0"}
    assert {name: types[name] for name in drafting} == wanted
    assert {types[name] for name in nothing} == {"Q2_K"}  # the smallest without an imatrix
    quantization.quantize(path, model.info, Recipe(mix["base"]), tmp_path / "q.gguf", types=types)
    assert (tmp_path / "q.gguf").stat().st_size == mix["file_bytes"]
    for store in stores:
        _forget(store)
    with pytest.raises(QuernError, match="whichever tensor is rounded"):
        damage.read(stores, model, work)


def _forget(store):
    """Make all damages 0."""
    with WindowStore.open(store, writable=True) as opened:
        for row in range(len(opened.done)):
            opened.write(row, kld=np.zeros_like(opened.read("kld", row)))
            opened.commit(row)
