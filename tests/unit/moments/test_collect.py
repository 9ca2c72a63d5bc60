"""Second moments against the imatrix, whose diagonal they contain, and against themselves."""

import functools

import numpy as np
import pytest

from models import write_model
from quern import QuernError, gguf_files, hdf5
from quern.imatrix import shards
from quern.llama import Way
from quern.moments import collect as of_inputs
from quern.moments import excess as of_halves
from quern.moments.collect import collect, layers_of
from quern.moments.stored import Moments
from quern.tokens import windows
from quern.tokens.work import Work

N_CTX, WINDOWS = 64, 5


def collected(made, path, name="dense", threads=2, **options):
    info = gguf_files.model_info(made / f"{name}.gguf")
    tokens = windows.read_tokens(made / f"{name}.h5")
    work = Work(made / f"{name}.gguf", info, tokens, N_CTX)
    with work.opened(Way(threads=threads)) as model:
        collect(model, work, path, windows=WINDOWS, **options)
    return path


@pytest.fixture
def write(made):
    """A function that collects moments of a small model and gives back the path."""

    return functools.partial(collected, made)


@pytest.fixture(scope="module")
def whole_moments(made, tmp_path_factory):
    """A file of moments of the dense model."""
    path = tmp_path_factory.mktemp("moments") / "m.h5"
    return collected(made, path)


def test_the_diagonal_is_the_imatrix(made, write, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    moments = Moments([write(tmp_path / "m.h5")], info)
    work = Work(made / "dense.gguf", info, windows.read_tokens(made / "dense.h5"), N_CTX)
    with work.opened(Way(threads=2)) as model:
        shards.collect(model, work, tmp_path / "s.h5", last=WINDOWS)
    even, odd, _ = shards.read_shard(tmp_path / "s.h5")
    assert len(info.matrices) == 14
    for name in info.matrices:
        moment = moments.of(name)
        assert moment.tokens == (3 * N_CTX, 2 * N_CTX)
        for own, half in ((moment.even, even), (moment.odd, odd)):
            np.testing.assert_allclose(np.diag(own), half.sums[name][0], rtol=1e-5)
            assert (own == own.T).all()
        both = moment.mean()
        parts = moment.mean("even") * 3 + moment.mean("odd") * 2
        np.testing.assert_allclose(both * 5, parts, atol=1e-6 * np.abs(parts).max())
        assert np.linalg.eigvalsh(both).min() > -1e-6 * np.trace(both)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_matrix_has_the_moment_of_hidden_states(made, tmp_path, tied):
    """Whether it is the embeddings too or not."""
    path = write_model(tmp_path / "m.gguf", tied=tied)
    info = gguf_files.model_info(path)
    work = Work(path, info, windows.read_tokens(made / "dense.h5"), N_CTX)
    with work.opened(Way(threads=2)) as model:
        collect(model, work, tmp_path / "m.h5", windows=WINDOWS)
        inputs = list(model.hidden_states(work.windows(range(WINDOWS))[:], 0, N_CTX))
    moments = Moments([tmp_path / "m.h5"], info)
    assert (moments.of("token_embd.weight") is not None) == tied
    moment = moments.of("token_embd.weight" if tied else "output.weight")
    assert moment.tokens == (3 * N_CTX, 2 * N_CTX)
    for own, first in ((moment.even, 0), (moment.odd, 1)):
        parts = [
            hidden.astype(np.float64) for window, _, hidden, _ in inputs if window % 2 == first
        ]
        expected = sum(part.T @ part for part in parts)
        np.testing.assert_allclose(own, expected, atol=1e-5 * np.abs(expected).max())


def test_products_that_share_an_input_share_its_moment(made, write, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    moments = Moments([write(tmp_path / "m.h5")], info)
    q, k, v, gate, up, down = (
        moments.of(f"blk.1.{name}.weight")
        for name in ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up", "ffn_down")
    )
    assert (q.even == k.even).all() and (k.even == v.even).all() and (gate.odd == up.odd).all()
    assert not (q.even == gate.even).all() and not (up.even == down.even).all()


def test_windows_are_doubled_until_that_promises_too_little(made, write, tmp_path, monkeypatch):
    info = gguf_files.model_info(made / "dense.gguf")
    once = Moments([write(tmp_path / "once.h5")], info)
    monkeypatch.setattr(of_inputs, "FIRST", 2)
    monkeypatch.setattr(of_inputs, "PAYS", 0.0)
    staged = Moments([write(tmp_path / "staged.h5")], info)
    assert staged.windows == once.windows == [WINDOWS] and staged.excess == once.excess
    for name in info.matrices:
        assert (staged.of(name).odd == once.of(name).odd).all()
    monkeypatch.setattr(of_inputs, "PAYS", 1e9)
    assert Moments([write(tmp_path / "first.h5")], info).windows == [2]


@pytest.mark.parametrize("damage", [False, True])
def test_an_interrupted_run_goes_on_from_the_last_doubling(
    made, write, tmp_path, monkeypatch, damage
):
    """Killed on the way to the third look, with what the second one left whole or damaged."""
    monkeypatch.setattr(of_inputs, "FIRST", 1)
    monkeypatch.setattr(of_inputs, "PAYS", 0.0)
    expected = write(tmp_path / "whole.h5").read_bytes()
    show, seen = of_inputs.OuterProducts.__call__, []

    def stop_late(self, index, product):
        seen.append(self.first + index)
        if self.first == 4:
            raise KeyboardInterrupt
        show(self, index, product)

    monkeypatch.setattr(of_inputs.OuterProducts, "__call__", stop_late)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "m.h5")
    partial = tmp_path / "m.h5.partial"
    assert partial.exists() and not (tmp_path / "m.h5").exists()
    if damage:
        partial.write_bytes(partial.read_bytes()[:-5000])
    seen.clear()

    def record(self, index, product):
        seen.append(self.first + index)
        show(self, index, product)

    monkeypatch.setattr(of_inputs.OuterProducts, "__call__", record)
    assert write(tmp_path / "m.h5").read_bytes() == expected
    assert set(seen) == (set(range(WINDOWS)) if damage else {4})
    assert not partial.exists()


def test_the_excess_is_that_of_inverses():
    """Of normal inputs, a half of N tokens is about n / N off; twice as many, half as much."""
    n, rng = 96, np.random.default_rng(0)
    mixing = rng.standard_normal((n, n)) * np.exp(rng.normal(0, 1, n))[:, None] + 3 * np.eye(n)

    def moment(tokens):
        x = rng.standard_normal((tokens, n)) @ mixing.T
        return (x.T @ x / tokens).astype(np.float32)

    found = []
    for tokens in (2000, 8000):
        own, other = moment(tokens), moment(tokens)
        believed = own + of_halves.BELIEVED * np.diag(np.diag(own))
        inverse = np.linalg.inv(believed.astype(np.float64))
        expected = np.trace(inverse @ other) / np.trace(inverse @ own) - 1
        found.append(of_halves.excess(own, other))
        assert found[-1] == pytest.approx(expected, abs=0.01)
    assert found[1] < found[0] / 2 < 0.1


def test_parts_of_the_layers_and_threads_change_nothing(made, write, tmp_path):
    info = gguf_files.model_info(made / "dense.gguf")
    whole = Moments([write(tmp_path / "m.h5")], info)
    parts = [write(tmp_path / f"{k}.h5", part=(k, 3), threads=k) for k in (1, 2, 3)]
    parts = Moments(parts, info)
    for name in info.matrices:
        assert (whole.of(name).even == parts.of(name).even).all()
    write(tmp_path / "n.h5")
    assert (tmp_path / "n.h5").read_bytes() == (tmp_path / "m.h5").read_bytes()


def test_experts_have_their_own_where_they_saw_enough(made, write, tmp_path, monkeypatch):
    info = gguf_files.model_info(made / "moe.gguf")
    monkeypatch.setattr(of_inputs, "ENOUGH", 0)
    moments = Moments([write(tmp_path / "m.h5", name="moe")], info)
    assert moments.of("token_embd.weight") is None and layers_of(info) == 2
    assert moments.of("output.weight").tokens == (3 * N_CTX, 2 * N_CTX)
    work = Work(made / "moe.gguf", info, windows.read_tokens(made / "moe.h5"), N_CTX)
    with work.opened(Way(threads=2)) as model:
        shards.collect(model, work, tmp_path / "s.h5", last=WINDOWS)
    even, odd, _ = shards.read_shard(tmp_path / "s.h5")
    for name in ("blk.0.attn_q", "blk.1.ffn_up_exps", "blk.1.ffn_gate_exps", "blk.0.ffn_down_exps"):
        for matrix in range(info.matrices[f"{name}.weight"][1]):
            moment = moments.of(f"{name}.weight", matrix)
            if moment is None:  # an expert that no token chose
                assert not any(half.sums[f"{name}.weight"][matrix].any() for half in (even, odd))
                continue
            for own, half in ((moment.even, even), (moment.odd, odd)):
                theirs = half.sums[f"{name}.weight"][matrix]
                np.testing.assert_allclose(np.diag(own), theirs, rtol=1e-5)
    gate, up = (moments.of(f"blk.1.ffn_{name}_exps.weight", 0) for name in ("gate", "up"))
    assert gate is not None and (gate.even == up.even).all()
    # No expert saw a thousand times as many tokens as it has inputs.
    monkeypatch.setattr(of_inputs, "ENOUGH", 1000)
    moments = Moments([write(tmp_path / "n.h5", name="moe")], info)
    assert moments.of("blk.0.ffn_up_exps.weight", 1) is None
    assert moments.of("blk.0.attn_q.weight") is not None


def lacking(h5):
    del h5["odd/blk.0.attn_q.weight"]


def gone(h5):
    for half in ("even", "odd"):
        del h5[half]["blk.0.attn_q.weight"]


def cut(h5):
    even = h5["even/blk.0.attn_q.weight"]
    half, tokens = even[: len(even) // 2], even.attrs["tokens"]
    del h5["even/blk.0.attn_q.weight"]
    h5.create_dataset("even/blk.0.attn_q.weight", data=half).attrs["tokens"] = tokens


def endless(h5):
    h5["odd/blk.0.attn_q.weight"][3, 3] = np.nan


def negative(h5):
    h5["odd/blk.0.attn_q.weight"][3, 3] = -1


def uncounted(h5):
    h5["even/blk.0.attn_q.weight"].attrs["tokens"] = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lacking, "odd windows' moment of blk.0.attn_q.weight: it is not there"),
        (gone, "even windows' moment of blk.0.attn_q.weight: it is not there"),
        (cut, "its shape is"),
        (endless, "it is not finite"),
        (negative, "a square is negative"),
        (uncounted, "it is of 0 tokens"),
    ],
)
def test_a_moment_that_cannot_be_is_a_sentence(made, whole_moments, tmp_path, change, said):
    info = gguf_files.model_info(made / "dense.gguf")
    path = tmp_path / "m.h5"
    with hdf5.reading(whole_moments, "file of moments") as before, hdf5.writing(path) as after:
        after.attrs.update(before.attrs)
        for half in ("even", "odd"):
            before.copy(half, after)
        change(after)
    moments = Moments([path], info)
    with pytest.raises(QuernError, match=f"m.h5 holds what cannot be .*{said}"):
        moments.of("blk.0.attn_q.weight")
    assert moments.of("blk.0.ffn_down.weight") is not None


def test_moments_of_another_model_or_of_other_windows(made, write, tmp_path):
    first = write(tmp_path / "a.h5")
    other = gguf_files.model_info(write_model(tmp_path / "m.gguf", seed=5))
    with pytest.raises(QuernError, match=r"a\.h5 is of another model; delete it"):
        Moments([first], other)
    own = gguf_files.model_info(made / "dense.gguf")
    second = write(tmp_path / "b.h5", name="moe")
    with pytest.raises(QuernError, match=r"b\.h5 is of other tokens or another model"):
        Moments([first, second], own)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    with pytest.raises(QuernError, match=r"a\.h5 is damaged"):
        Moments([first], own)
