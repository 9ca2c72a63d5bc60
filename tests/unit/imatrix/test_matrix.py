"""The imatrix file, and how sums are formed."""

import logging

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import command, fails_with
from quern import QuernError, gguf_files
from quern.imatrix import formats, statistics
from quern.imatrix.matrix import Imatrix
from quern.imatrix.shards import OUTPUT, Collector, merge, noise, read_shard, report
from quern.imatrix.shards import collect as collect_shard
from quern.llama import Model
from quern.quantize import quantization
from quern.tokens import windows


class Product:
    """A product with given inputs."""

    def __init__(self, name, inputs, key, ids=None, experts=0, matrices=1):
        self.name, self.key, self.experts, self.matrices = name, key, experts, matrices
        self.inputs, self.expert_ids = (lambda: inputs), (lambda: ids)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_expert_sums_agree_with_a_loop(seed, experts, tokens, shared):
    rng = np.random.default_rng(seed)
    used = min(2, experts)
    ids = np.array([rng.permutation(experts)[:used] for _ in range(tokens)])
    inputs = rng.standard_normal((tokens, 1 if shared else used, 8)).astype(np.float32)
    collector = Collector()
    collector(0, Product("e", inputs, 0, ids, experts, experts))
    sums, counts = np.zeros((experts, 8)), np.zeros(experts)
    for token in range(tokens):
        for slot in range(used):
            row = inputs[token, 0 if shared else slot].astype(np.float64)
            sums[ids[token, slot]] += row**2
            counts[ids[token, slot]] += 1
    np.testing.assert_allclose(collector.halves[0].sums["e"], sums, rtol=1e-12)
    assert (collector.halves[0].counts["e"] == counts).all()


def test_ten_million_rows_lose_nothing():
    """float32 sums would lose percents here."""
    rows = np.full((1, 100_000, 1), 1.1, np.float32)
    collector = Collector()
    for i in range(100):
        collector(0, Product("w", rows, i))
    expected = 1e7 * float(np.float32(1.1)) ** 2
    assert collector.halves[0].sums["w"][0, 0] == pytest.approx(expected, rel=1e-9)


def test_write_and_read_back(tmp_path):
    matrix = Imatrix(datasets=["wiki/pool"], chunks=3, chunk_size=512)
    matrix.add("blk.0.a.weight", np.array([[1.5, 2.5]]), np.array([7]))
    matrix.add("blk.0.e.weight", np.array([[1.0, 2.0], [0, 0]]), np.array([4, 0]))
    formats.write(matrix, tmp_path / "i.gguf")
    found = formats.read(tmp_path / "i.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (["wiki/pool"], 3, 512)
    for name in matrix.sums:
        assert (found.sums[name] == matrix.sums[name]).all()
        assert (found.counts[name] == matrix.counts[name]).all()
    importances = found.importances()
    assert importances["blk.0.e.weight"].tolist() == [0.25, 0.5, 1, 1]
    first = (tmp_path / "i.gguf").read_bytes()
    formats.write(found, tmp_path / "j.gguf")
    assert (tmp_path / "j.gguf").read_bytes() == first


def test_nan_in_a_file_is_found_at_once(tmp_path):
    matrix = Imatrix()
    matrix.add("blk.0.a.weight", np.array([[1, np.nan]]), np.array([7]))
    formats.write(matrix, tmp_path / "i.gguf")
    with pytest.raises(QuernError, match=r"not finite for blk\.0\.a\.weight"):
        formats.read(tmp_path / "i.gguf")


def test_a_model_is_no_imatrix(made):
    with pytest.raises(QuernError, match="not an imatrix"):
        formats.read(made / "dense.gguf")


def test_the_first_tensor_that_differs_is_named(made, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    matrix = Imatrix()
    matrix.add("blk.0.attn_q.weight", np.ones((1, 128)), np.array([7]))
    with pytest.raises(QuernError, match=r"attn_q\.weight has 128 values there and 1 × 256"):
        matrix.fitted(info.matrices, tmp_path / "i.gguf")


# --- shards ----------------------------------------------------------------------------------


def collect(made, shard, first=0, last=None, name="dense", n_ctx=64, **options):
    info = gguf_files.model_info(made / f"{name}.gguf")
    tokens = windows.read_tokens(made / f"{name}.h5")
    with Model(made / f"{name}.gguf", threads=2) as model:
        collect_shard(model, info, tokens, shard, n_ctx=n_ctx, first=first, last=last, **options)
    return shard


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_shards_in_any_order_and_grouping_equal_one_long_run(made, tmp_path, name):
    cuts = {"whole": [(0, 12)], "uneven": [(0, 3), (3, 4), (4, 12)], "even": [(0, 6), (6, 12)]}
    merged = {}
    for kind, ranges in cuts.items():
        shards = [collect(made, tmp_path / f"{kind}{a}.h5", a, b, name) for a, b in ranges]
        merged[kind] = merge(shards[::-1], "text/pool")
    whole = merged.pop("whole")
    assert whole.matrix.chunks == 12 and not whole.exhausted
    for other in merged.values():
        for name, sums in whole.matrix.sums.items():
            np.testing.assert_array_equal(
                sums.astype(np.float32), other.matrix.sums[name].astype(np.float32)
            )
            assert (whole.matrix.counts[name] == other.matrix.counts[name]).all()
        assert noise(other.halves) == pytest.approx(noise(whole.halves))


def test_the_output_matrix_is_included_when_asked_for(made, tmp_path):
    without, both = (
        merge([collect(made, tmp_path / f"{output}.h5", 0, 3, output_weight=output)], "d").matrix
        for output in (False, True)
    )
    assert set(both.sums) - set(without.sums) == {OUTPUT}
    assert both.counts[OUTPUT].tolist() == [3 * 64]
    for name, sums in without.sums.items():
        assert (sums == both.sums[name]).all()


def test_a_shard_takes_what_the_pool_still_has(made, tmp_path):
    count = windows.read_tokens(made / "dense.h5").n_windows(64)
    shards = [
        collect(made, tmp_path / "a.h5", 0, count - 2),
        collect(made, tmp_path / "b.h5", count - 2, count + 50),
        collect(made, tmp_path / "c.h5", count + 50, count + 90),
    ]
    merged = merge(shards, "text/pool", asked=count + 90)
    assert merged.matrix.chunks == count and merged.exhausted
    assert not merge(shards[:1], "text/pool", asked=count - 2).exhausted


@pytest.mark.parametrize("parts", [3, 30])
def test_parts_of_the_pool_are_all_of_it(made, tmp_path, parts):
    count = windows.read_tokens(made / "dense.h5").n_windows(2048)
    assert 3 < count < 30
    shards = [
        collect(made, tmp_path / f"{k}.h5", part=(k, parts), n_ctx=2048)
        for k in range(1, parts + 1)
    ]
    sizes = [read_shard(shard)[2]["windows"] for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    merged = merge(shards, "text/pool").matrix
    whole = merge([collect(made, tmp_path / "whole.h5", n_ctx=2048)], "text/pool").matrix
    assert merged.chunks == whole.chunks == count
    for name, sums in whole.sums.items():
        assert (sums.astype(np.float32) == merged.sums[name].astype(np.float32)).all()


@pytest.mark.parametrize("part", ["0/4", "5/4", "3", "a/b"])
def test_a_part_that_is_none(tmp_path, part):
    result = command(
        *("imatrix_shard", "--model", "m", "--info", "i", "--tokens", "t", "--output", "o"),
        *("--part", part),
    )
    assert result.returncode == 2 and "not K/N with K from 1 to N" in result.stderr


def test_shards_that_do_not_fit_are_refused(made, tmp_path):
    a, b = (collect(made, tmp_path / f"{first}.h5", first, first + 2) for first in (0, 3))
    with pytest.raises(QuernError, match="begins at window 3, not at 2"):
        merge([a, b], "d")
    with h5py.File(b, "r+") as h5:
        h5.attrs["text_sha256"] = "another"
    with pytest.raises(QuernError, match="is of another text than the other shards"):
        merge([a, b], "d")
    b.write_bytes(b.read_bytes()[:1000])
    with pytest.raises(QuernError, match="no whole shard"):
        merge([a, b], "d")


def test_noise_falls_as_the_pool_grows(made, tmp_path):
    few = merge([collect(made, tmp_path / "few.h5", 0, 4)], "d")
    many = merge([collect(made, tmp_path / "many.h5", 0, 64)], "d")
    small, large = (np.median(list(noise(m.halves).values())) for m in (many, few))
    assert 0 < small < large / 2


def test_a_nan_stops_the_shard_and_names_tensor_and_window():
    collector = Collector(first=40)
    rows = np.ones((1, 20, 8), np.float32)
    collector(1, Product("blk.0.attn_q.weight", rows, 0))
    rows[0, 3, 3] = np.inf
    with pytest.raises(QuernError, match=r"blk\.0\.ffn_up\.weight are not finite in window 41"):
        collector(1, Product("blk.0.ffn_up.weight", rows, 1))


# --- other people's files --------------------------------------------------------------------


def test_the_old_format_there_and_back(tmp_path):
    matrix = Imatrix(datasets=["wiki.txt"], chunks=7, chunk_size=64)
    matrix.add("blk.0.a.weight", np.array([[448.0, 896.0]]), np.array([448]))
    formats.write(matrix, tmp_path / "i.dat")
    found = formats.read(tmp_path / "i.dat")
    assert (found.datasets, found.chunks) == (["wiki.txt"], 7)
    np.testing.assert_allclose(found.importances()["blk.0.a.weight"], [1, 2], rtol=1e-6)
    whole = (tmp_path / "i.dat").read_bytes()
    for size in (2, 20, len(whole) - 12):
        (tmp_path / "cut.dat").write_bytes(whole[:size])
        with pytest.raises(QuernError, match=r"is no imatrix of llama\.cpp, or is cut short"):
            formats.read(tmp_path / "cut.dat")


# --- what is done with importances -----------------------------------------------------------


def test_a_prior_draws_importances_towards_their_mean():
    matrix = Imatrix()
    matrix.add("w", np.array([[10.0, 30.0]]), np.array([10]))
    assert matrix.importances()["w"].tolist() == [1, 3]
    np.testing.assert_allclose(matrix.importances(prior=10)["w"], [1.5, 2.5])
    np.testing.assert_allclose(matrix.importances(prior=1e9)["w"], [2, 2], rtol=1e-6)
    matrix.add("e", np.array([[8.0, 4.0], [0, 0]]), np.array([4, 0]))
    np.testing.assert_allclose(matrix.importances(prior=4)["e"], [1.75, 1.25, 1.5, 1.5])


@pytest.fixture
def with_dead_expert(made, tmp_path):
    """An imatrix of the mixture of experts, one of which no token reaches, without layer 1."""
    merged = merge([collect(made, tmp_path / "s.h5", 0, 8, "moe")], "text/pool")
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


def test_statistics_by_their_definitions():
    matrix = Imatrix()
    matrix.add("blk.0.ffn_up.weight", np.array([[4.0, 4, 4, 4, 4, 4, 4, 36]]), np.array([4]))
    matrix.add("blk.1.ffn_up.weight", np.array([[0.0, 0, 0, 0, 0, 0, 0, 8]]), np.array([4]))
    frame = statistics.table(matrix, {"blk.0.ffn_up.weight": 0.25}).set_index("tensor")
    row = frame.loc["blk.0.ffn_up.weight"]
    assert (row.layer, row.kind, row.elements) == (0, "ffn_up", 8)
    assert (row.total, row["mean"], row["min"], row["max"]) == (16, 2, 1, 9)
    share = np.array([1 / 16] * 7 + [9 / 16])
    assert row.entropy == pytest.approx(-(share * np.log2(share)).sum())
    assert row.zd == 1 / 8
    assert row.noise == 0.25
    other = frame.loc["blk.1.ffn_up.weight"]
    assert other.active == 1 / 8
    assert other.entropy == 0
    assert other.similarity == pytest.approx(36 / np.sqrt(7 * 16 + 36**2))
    layers = statistics.layers(frame.reset_index())
    assert layers.total.tolist() == [16, 2]


def test_statistics_as_files(made, tmp_path):
    merged = merge([collect(made, tmp_path / "s.h5", 0, 4)], "d")
    formats.write(merged.matrix, tmp_path / "i.gguf")
    arguments = [
        *("--imatrix", tmp_path / "i.gguf", "--csv", tmp_path / "t.csv"),
        *("--layers", tmp_path / "l.csv", "--picture", tmp_path / "p.png"),
    ]
    result = command("imatrix_statistics", *arguments)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 15
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "i.gguf").write_bytes(b"GGUF")
    fails_with(command("imatrix_statistics", *arguments), "i.gguf is damaged or cut short")
