"""Windows of other models, done ahead of their own comparison."""

import json
import shutil

import gguf
import numpy as np
import pytest

from conftest import command
from quern import files, gguf_files
from quern.measure import comparison
from quern.measure.baseline import Baseline
from quern.measure.comparison import Candidate, Until, ahead_path
from quern.measure.window_store import WindowStore, partial_path

WINDOWS = 30


@pytest.fixture
def compared(opened):
    """A function that compares a candidate, with others beside it, and returns its file's bytes."""

    def compare(own, *beside, baseline=None, **options):
        with baseline or opened() as store:
            comparison.compare([own], store, threads=2, beside=beside, **options)
        return own.output.read_bytes()

    return compare


def done_ahead(output):
    """How many windows are done ahead of a comparison."""
    with WindowStore.open(ahead_path(output)) as store:
        return int(store.done.sum())


def test_the_same_bytes_beside_another_and_alone(compared, candidate, tmp_path):
    alone = {k: compared(candidate(k, tmp_path / f"{k}.h5")) for k in ("Q4_0", "Q8_0")}
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q8_0", tmp_path / "other.h5")
    assert compared(own, other) == alone["Q4_0"]
    assert done_ahead(other.output) == WINDOWS and not other.output.exists()
    assert compared(other) == alone["Q8_0"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "Q4_0.h5",
        "Q8_0.h5",
        "other.h5",
        "own.h5",
    ]


def test_what_was_done_ahead_is_not_done_again(compared, candidate, tmp_path):
    """Its windows come from the file: other figures there are other figures in the result."""
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q8_0", tmp_path / "other.h5")
    compared(own, other)
    with WindowStore.open(ahead_path(other.output), writable=True) as store:
        store.write(7, kld=np.float32(0.5))
        store.commit(7)
    compared(other)
    with WindowStore.open(other.output) as store:
        assert (store.read("kld", 7) == 0.5).all()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_each_stops_where_it_stops_alone(compared, candidate, tmp_path, share):
    until = Until("kld_mean", share)
    kinds = ("Q4_0", "Q8_0")
    alone = {k: compared(candidate(k, tmp_path / f"{k}.h5"), until=until) for k in kinds}
    for first, second in (kinds, kinds[::-1]):
        own, other = (candidate(k, tmp_path / f"{first}.{k}.h5") for k in (first, second))
        assert compared(own, other, until=until) == alone[first]
        assert compared(other, until=until) == alone[second]


class Interrupted(Baseline):
    """A baseline that does something when it comes to a window."""

    def __init__(self, *arguments, window, act):
        super().__init__(*arguments)
        self._window, self._act = window, act

    def logits(self, window, *rest):
        if window == self._window:
            act, self._act = self._act, lambda: None
            act()
        return super().logits(window, *rest)


@pytest.fixture
def interrupted(ready, made):
    """A function that opens such a baseline."""
    info = gguf_files.model_info(made / "dense.gguf")
    return lambda **options: Interrupted(ready / "b.h5", made / "dense.gguf", info, **options)


def test_a_comparison_that_begins_takes_over_its_own(compared, candidate, interrupted, tmp_path):
    alone = {k: compared(candidate(k, tmp_path / f"{k}.h5")) for k in ("Q4_0", "Q8_0")}
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q8_0", tmp_path / "other.h5")
    found = []

    def begins():
        found.append(done_of(ahead_path(other.output)))
        found.append(compared(other))

    assert compared(own, other, baseline=interrupted(window=12, act=begins)) == alone["Q4_0"]
    assert found == [12, alone["Q8_0"]]
    assert not ahead_path(other.output).exists()


def done_of(path):
    """How many windows are done in a store that is being written, read from a copy."""
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    with WindowStore.open(copy) as store:
        count = int(store.done.sum())
    copy.unlink()
    return count


def test_nothing_is_lost_where_it_is_interrupted(compared, candidate, interrupted, tmp_path):
    alone = {k: compared(candidate(k, tmp_path / f"{k}.h5")) for k in ("Q4_0", "Q8_0")}
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q8_0", tmp_path / "other.h5")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(own, other, baseline=interrupted(window=12, act=stop))
    assert done_of(partial_path(own.output)) == done_ahead(other.output) == 12
    assert compared(own, other) == alone["Q4_0"]
    assert done_ahead(other.output) == 12  # who has begun goes on alone
    assert compared(other) == alone["Q8_0"]


def test_a_window_that_was_damaged_ahead_is_made_anew(compared, candidate, tmp_path):
    alone = compared(candidate("Q8_0", tmp_path / "alone.h5"))
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q8_0", tmp_path / "other.h5")
    compared(own, other)
    with WindowStore.open(ahead_path(other.output), writable=True) as store:
        store.write(7, kld=np.float32(0.5))
    assert compared(other) == alone


def test_windows_of_another_file_are_not_taken(compared, candidate, ready, tmp_path):
    """The model was made anew since."""
    alone = compared(candidate("Q8_0", tmp_path / "alone.h5"))
    own, other = candidate("Q4_0", tmp_path / "own.h5"), candidate("Q4_0", tmp_path / "other.h5")
    compared(own, other)
    assert compared(candidate("Q8_0", other.output)) == alone


def test_what_fails_beside_it_is_left_alone(compared, candidate, ready, tmp_path, caplog):
    alone = compared(candidate("Q4_0", tmp_path / "alone.h5"))
    (tmp_path / "cut.gguf").write_bytes((ready / "Q8_0.gguf").read_bytes()[:9000])
    shutil.copy(ready / "Q8_0.gguf", tmp_path / "nan.gguf")
    reader = gguf.GGUFReader(tmp_path / "nan.gguf", "r+")
    next(t for t in reader.tensors if t.name == "output_norm.weight").data[:] = np.nan
    reader.data.flush()
    info = gguf_files.model_info(ready / "Q8_0.gguf")
    names = ("cut", "nan", "missing")
    others = [Candidate(tmp_path / f"{n}.gguf", info, tmp_path / f"{n}.h5") for n in names]
    good = candidate("Q8_0", tmp_path / "good.h5")
    assert compared(candidate("Q4_0", tmp_path / "own.h5"), *others, good) == alone
    for name in names:
        assert f"{name}.gguf is left to its own comparison: " in caplog.text
    assert done_ahead(good.output) == WINDOWS


@pytest.fixture
def line(ready, made, tmp_path):
    """A function that compares Q4_0 by the command, with others beside it."""

    def run(name, beside=()):
        names = {key: tmp_path / f"{name}.{key}" for key in ("h5", "csv", "json", "txt")}
        result = command(
            *("compare", "--threads", 2, "--baseline", ready / "b.h5"),
            *("--model", ready / "Q4_0.gguf", "--info", ready / "Q4_0.json"),
            *("--baseline-model", made / "dense.gguf", "--baseline-info", made / "dense.json"),
            *("--output", names["h5"], "--windows", names["csv"], "--summary", names["json"]),
            *("--text", names["txt"], "--log", tmp_path / f"{name}.log"),
            *("--beside", json.dumps(beside, default=str)),
        )
        assert result.returncode == 0, result.stderr
        return [path.read_bytes() for path in names.values()]

    return run


def test_a_crash_beside_it_costs_one_more_try(line, ready, tmp_path):
    """llama.cpp aborts on a model without blocks."""
    shutil.copy(ready / "Q8_0.gguf", tmp_path / "broken.gguf")
    reader = gguf.GGUFReader(tmp_path / "broken.gguf", "r+")
    field = reader.fields["llama.block_count"]
    field.parts[field.data[0]][0] = 0
    reader.data.flush()
    broken = {"model": tmp_path / "broken.gguf", "info": ready / "Q8_0.json"}
    assert line("own", [broken | {"output": tmp_path / "broken.h5"}]) == line("alone")
    said = (tmp_path / "own.log").read_text()
    assert "crashed with SIGABRT" in said and "\0" not in said


def test_a_recipe_that_failed_has_nothing_to_compare(line, ready, tmp_path):
    files.write_failure(tmp_path / "failed.json", "no such type")
    failed = {"model": tmp_path / "failed.gguf", "info": tmp_path / "failed.json"}
    good = {"model": ready / "Q8_0.gguf", "info": ready / "Q8_0.json"}
    entries = [entry | {"output": tmp_path / f"{i}.h5"} for i, entry in enumerate([failed, good])]
    assert line("own", entries) == line("alone")
    assert done_ahead(tmp_path / "1.h5") == WINDOWS
    assert not ahead_path(tmp_path / "0.h5").exists()
