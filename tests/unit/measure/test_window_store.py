"""A store survives kill -9 at any moment and refuses what does not belong to it."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import HOUSE
from quern import QuernError
from quern.measure.window_store import StoreInUse, WindowStore, partial_path, window_range

DATASETS = {"x": ((1000,), np.float32)}
WRITER = """
import sys; sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
from quern.measure.window_store import WindowStore
sets = {"x": ((1000,), np.float32)}
with WindowStore.resume_or_create(Path(sys.argv[1]), 60000, sets, {"a": 1}) as s:
    for w in np.flatnonzero(~s.done):
        s.write(w, x=np.full(1000, w, np.float32))
        s.commit(w)
        print(w, flush=True)
"""


def test_killed_writers_lose_no_complete_window(tmp_path):
    output, seen = tmp_path / "s.h5", 0
    for wait in (0.02, 0.05, 0.11, 0.17):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, output, HOUSE / "scripts"],
            stdout=subprocess.PIPE,
            text=True,
        )
        writer.stdout.readline()
        time.sleep(wait)
        os.kill(writer.pid, signal.SIGKILL)
        reported = writer.stdout.read().split()
        with WindowStore.open(partial_path(output), writable=True) as store:
            done = np.flatnonzero(store.done)
            assert len(done) > seen
            assert not reported or int(reported[-1]) in done
            for w in done:
                assert (store.read("x", w) == w).all()
        seen = len(done)
    assert not output.exists()


def test_the_same_windows_are_the_same_bytes(tmp_path):
    for name in "ab":
        with WindowStore.resume_or_create(tmp_path / name, 3, DATASETS, {"a": 1}) as store:
            for w in range(3):
                store.write(w, x=np.full(1000, w))
                store.commit(w)
            store.finish(tmp_path / name)
        time.sleep(1.1)  # HDF5 counts time in seconds
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_finished_store_takes_more_windows(tmp_path):
    output = tmp_path / "s.h5"
    for windows in (range(0, 3), range(3, 6)):
        with WindowStore.resume_or_create(output, 9, DATASETS, {"a": 1}) as store:
            for w in windows:
                store.write(w, x=np.full(1000, w))
                store.commit(w)
            store.finish(output)
    with WindowStore.open(output) as store:
        assert store.rows("x")[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        with pytest.raises(QuernError, match="does not hold window 7"):
            store.read("x", 7)


@pytest.mark.parametrize("window, flag", [(1, 0), (2, 1), (0, 255)])
def test_a_changed_flag_is_seen(tmp_path, window, flag):
    output = tmp_path / "s.h5"
    with WindowStore.create(tmp_path / "new", 3, DATASETS, {}) as store:
        for w in range(3):
            store.write(w, x=np.full(1000, w))
            store.commit(w)
        store._put("done", 2, b"\0")
        store.finish(output)
    WindowStore.open(output).close()
    with WindowStore.open(output, writable=True) as store:
        store._put("done", window, bytes([flag]))
    with pytest.raises(QuernError, match="is damaged"):
        WindowStore.open(output)


def test_a_store_that_is_being_written_is_left_alone(tmp_path):
    """Another process holds it: what it has computed must not be lost."""
    output = tmp_path / "s.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, output, HOUSE / "scripts"],
        stdout=subprocess.PIPE,
        text=True,
    )
    writer.stdout.readline()
    with pytest.raises(StoreInUse, match="being written by another process"):
        WindowStore.resume_or_create(output, 60000, DATASETS, {"a": 1})
    assert partial_path(output).exists()
    writer.kill()
    writer.communicate()


def test_a_finished_store_of_other_settings_is_kept(tmp_path):
    output = tmp_path / "s.h5"
    with WindowStore.resume_or_create(output, 2, DATASETS, {"n_ctx": 512}) as store:
        store.finish(output)
    before = output.read_bytes()
    with pytest.raises(QuernError, match="made with n_ctx = 512, not 256"):
        WindowStore.resume_or_create(output, 2, DATASETS, {"n_ctx": 256})
    assert output.read_bytes() == before


def test_a_file_cut_off_is_refused(tmp_path):
    output = tmp_path / "s.h5"
    with WindowStore.resume_or_create(output, 50, DATASETS, {}) as store:
        store.finish(output)
    size = output.stat().st_size
    for keep in (0, 10, 600, size // 2, size - 1):
        with open(output, "r+b") as file:
            file.truncate(keep)
        with pytest.raises(QuernError, match="is damaged"):
            WindowStore.open(output)


def test_ranges():
    assert window_range(None, None, 7) == range(7)
    assert window_range(2, 5, 7) == range(2, 5)
    for first, last in ((5, 5), (-1, 3), (0, 8)):
        with pytest.raises(QuernError, match="not within the 7 windows"):
            window_range(first, last, 7)
