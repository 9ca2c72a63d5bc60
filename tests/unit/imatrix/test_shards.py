"""Shards add up to one long run, whatever the cuts; their noise falls as the pool grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import command
from models import write_model
from quern import QuernError, gguf_files
from quern.imatrix.shards import SumsOfSquares, merge, noise, read_shard, report
from quern.imatrix.shards import collect as collect_shard
from quern.tokens import windows
from quern.tokens.work import Work


class Product:
    """A product with given inputs."""

    def __init__(self, name, inputs, key, ids=None, kind="plain", matrices=1):
        self.name, self.key, self.kind, self.matrices = name, key, kind, matrices
        self.inputs, self.expert_ids = (lambda: inputs), (lambda: ids)


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_expert_sums_agree_with_a_loop(seed, experts, tokens, shared):
    rng = np.random.default_rng(seed)
    used = min(2, experts)
    ids = np.array([rng.permutation(experts)[:used] for _ in range(tokens)])
    inputs = rng.standard_normal((tokens, 1 if shared else used, 8)).astype(np.float32)
    sums_of = SumsOfSquares()
    sums_of(0, Product("e", inputs, 0, ids, "experts", experts))
    sums, counts = np.zeros((experts, 8)), np.zeros(experts)
    for token in range(tokens):
        for slot in range(used):
            row = inputs[token, 0 if shared else slot].astype(np.float64)
            sums[ids[token, slot]] += row**2
            counts[ids[token, slot]] += 1
    np.testing.assert_allclose(sums_of.halves[0].sums["e"], sums, rtol=1e-12)
    assert (sums_of.halves[0].counts["e"] == counts).all()


def test_ten_million_rows_lose_nothing():
    """float32 sums would lose percents here."""
    rows = np.full((1, 100_000, 1), 1.1, np.float32)
    sums_of = SumsOfSquares()
    for i in range(100):
        sums_of(0, Product("w", rows, i))
    expected = 1e7 * float(np.float32(1.1)) ** 2
    assert sums_of.halves[0].sums["w"][0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["dense", "moe"])
def test_shards_in_any_order_and_grouping_equal_one_long_run(collect, tmp_path, name):
    cuts = {"whole": [(0, 12)], "uneven": [(0, 3), (3, 4), (4, 12)], "even": [(0, 6), (6, 12)]}
    merged = {}
    for kind, ranges in cuts.items():
        shards = [collect(tmp_path / f"{kind}{a}.h5", a, b, name) for a, b in ranges]
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


def test_the_output_matrix_is_included_when_asked_for(collect, tmp_path):
    without, both = (
        merge([collect(tmp_path / f"{output}.h5", 0, 3, output_weight=output)], "d").matrix
        for output in (False, True)
    )
    assert set(both.sums) - set(without.sums) == {"output.weight"}
    assert both.counts["output.weight"].tolist() == [3 * 64]
    for name, sums in without.sums.items():
        assert (sums == both.sums[name]).all()


def test_the_output_matrix_of_a_tied_model_is_its_embeddings(made, tmp_path):
    path = write_model(tmp_path / "tied.gguf", n_embd=64, n_layer=1, tied=True)
    tokens = windows.read_tokens(made / "dense.h5")
    work = Work(path, gguf_files.model_info(path), tokens, 64)
    with work.opened() as model:
        collect_shard(model, work, tmp_path / "s.h5", last=2, output_weight=True)
    even, odd, _ = read_shard(tmp_path / "s.h5")
    assert (even + odd).counts["token_embd.weight"].tolist() == [2 * 64]


def test_windows_beyond_what_the_model_learned(made, tmp_path):
    """Positions that are no vectors of the model's are computed, and the report says it."""
    path = write_model(tmp_path / "m.gguf", n_embd=64, n_layer=1, context_length=64)
    info, tokens = gguf_files.model_info(path), windows.read_tokens(made / "dense.h5")
    work = Work(path, info, tokens, 128)
    with work.opened() as model:
        collect_shard(model, work, tmp_path / "s.h5", last=1)
    said = "Windows of 128 tokens are longer than the 64 that the model was trained for."
    assert report(merge([tmp_path / "s.h5"], "text"), info)["beyond_training"] == said


def test_a_shard_takes_what_the_pool_still_has(made, collect, tmp_path):
    count = windows.read_tokens(made / "dense.h5").n_windows(64)
    shards = [
        collect(tmp_path / "a.h5", 0, count - 2),
        collect(tmp_path / "b.h5", count - 2, count + 50),
        collect(tmp_path / "c.h5", count + 50, count + 90),
    ]
    merged = merge(shards, "text/pool", asked=count + 90)
    assert merged.matrix.chunks == count and merged.exhausted
    assert not merge(shards[:1], "text/pool", asked=count - 2).exhausted


@pytest.mark.slow
def test_parts_of_the_pool_are_all_of_it(made, collect, tmp_path):
    count = windows.read_tokens(made / "dense.h5").n_windows(2048)
    assert 3 < count < 30
    whole = merge([collect(tmp_path / "whole.h5", n_ctx=2048)], "text/pool").matrix
    for parts in (3, 30):
        shards = [
            collect(tmp_path / f"{k}of{parts}.h5", part=(k, parts), n_ctx=2048)
            for k in range(1, parts + 1)
        ]
        sizes = [read_shard(shard)[2]["windows"] for shard in shards]
        assert max(sizes) - min(sizes) <= 1
        merged = merge(shards, "text/pool").matrix
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


def test_shards_that_do_not_fit_are_refused(collect, tmp_path):
    a, b = (collect(tmp_path / f"{first}.h5", first, first + 2) for first in (0, 3))
    with pytest.raises(QuernError, match="begins at window 3, not at 2"):
        merge([a, b], "d")
    other = collect(tmp_path / "other.h5", 2, 4, text="another")
    with pytest.raises(QuernError, match="is of another text than the other shards"):
        merge([a, other], "d")
    content = bytearray(b.read_bytes())
    content[len(content) // 2] ^= 1
    b.write_bytes(content)
    with pytest.raises(QuernError, match="its content is not what was written"):
        merge([a, b], "d")
    b.write_bytes(b.read_bytes()[:1000])
    with pytest.raises(QuernError, match="no shard of an imatrix"):
        merge([a, b], "d")


def test_noise_falls_as_the_pool_grows(collect, tmp_path):
    few = merge([collect(tmp_path / "few.h5", 0, 4)], "d")
    many = merge([collect(tmp_path / "many.h5", 0, 64)], "d")
    small, large = (np.median(list(noise(m.halves).values())) for m in (many, few))
    assert 0 < small < large / 2


def test_a_nan_stops_the_shard_and_names_tensor_and_window():
    sums_of = SumsOfSquares(first=40)
    rows = np.ones((1, 20, 8), np.float32)
    sums_of(1, Product("blk.0.attn_q.weight", rows, 0))
    rows[0, 3, 3] = np.inf
    with pytest.raises(QuernError, match=r"blk\.0\.ffn_up\.weight are not finite in window 41"):
        sums_of(1, Product("blk.0.ffn_up.weight", rows, 1))
