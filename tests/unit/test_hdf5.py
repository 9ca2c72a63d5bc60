"""HDF5 files appear whole or not at all, whatever the disk says while they are written."""

import errno
import os
import resource

import h5py
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quern import QuernError, hdf5

ROWS = np.arange(200_000, dtype=np.int32)


def write(path):
    """A growing dataset and a plain one, with attributes."""
    with hdf5.writing(path) as h5:
        h5.attrs["a"] = "b"
        h5["plain"] = ROWS
        grown = h5.create_dataset("grown", (0,), np.int32, maxshape=(None,), chunks=(1 << 14,))
        for start in range(0, len(ROWS), 30_000):
            rows = ROWS[start : start + 30_000]
            grown.resize((start + len(rows),))
            grown[start:] = rows


def test_what_is_written_is_read(tmp_path):
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as h5:
        assert h5.attrs["a"] == "b"
        assert (h5["plain"][:] == ROWS).all() and (h5["grown"][:] == ROWS).all()
    assert [p.name for p in tmp_path.iterdir()] == ["x.h5"]


def calls_of(monkeypatch, name, fail_at):
    """Let the n-th call of a function of `os` fail once; count the calls."""
    real, calls = getattr(os, name), []

    def function(*arguments):
        calls.append(name)
        if len(calls) - 1 == fail_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments)

    monkeypatch.setattr(hdf5.os, name, function)
    return calls


@pytest.mark.parametrize("name", ["pwrite", "ftruncate", "fsync"])
def test_one_error_anywhere_leaves_no_file(tmp_path, monkeypatch, name):
    """HDF5 itself drops the errors that come while it closes a file."""
    with monkeypatch.context() as patch:
        calls = calls_of(patch, name, -1)
        write(tmp_path / "x.h5")
        (tmp_path / "x.h5").unlink()
        count = len(calls)
    assert count
    for number in sorted({*range(min(count, 6)), count // 2, count - 2, count - 1} - {-1}):
        with monkeypatch.context() as patch:
            calls_of(patch, name, number)
            with pytest.raises(OSError, match="Input/output error") as error:
                write(tmp_path / "x.h5")
            assert error.value.filename == str(tmp_path / "x.h5")
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "x.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "x.h5").read_bytes() == b"before"


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """The bytes of a file with a dataset that is filled afterwards, and where that lies."""
    path = tmp_path_factory.mktemp("some") / "x.h5"
    with hdf5.writing(path, ["filled"]) as h5:
        h5.attrs["a"] = "b"
        h5["plain"] = ROWS[:100]
        h5["filled"] = ROWS[:100] + 1
    with h5py.File(path) as h5:
        return path, path.read_bytes(), h5["filled"].id.get_offset()


@given(data=st.data())
def test_every_changed_byte_is_found_but_what_is_filled_later(some, data):
    path, content, offset = some
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    assume(not (content[place] == ord(" ") and byte in b"\t\n\r"))  # white space before the hash
    path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    if offset <= place < offset + 400:
        with hdf5.reading(path, "file") as h5:
            assert (h5["plain"][:] == ROWS[:100]).all()
    else:
        damaged = r"x\.h5 is damaged, or no file \(.*\); delete it"
        with pytest.raises(QuernError, match=damaged), hdf5.reading(path, "file"):
            pass


@given(st.data())
def test_a_file_of_another_length_is_refused(some, data):
    path, content, _ = some
    length = data.draw(st.integers(0, len(content) + 3000).filter(lambda n: n != len(content)))
    path.write_bytes(content[:length].ljust(length, b"\0"))
    with pytest.raises(QuernError, match="damaged, or no file"), hdf5.reading(path, "file"):
        pass
