"""Rows in a file are what numpy would give, slice by slice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quern.stored_rows import StoredRows

ROWS, COLUMNS, OFFSET = 11, 7, 37


@pytest.fixture(scope="module", params=[np.float16, np.float32, np.uint16])
def both(request, tmp_path_factory):
    """The rows in a file, behind and before other bytes, and the same array in memory."""
    dtype = request.param
    array = np.random.default_rng(0).permutation(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    array = array.astype(dtype)
    path = tmp_path_factory.mktemp("rows") / "x"
    path.write_bytes(b"\xff" * OFFSET + array.tobytes() + b"\xff" * 100)
    return StoredRows(path, OFFSET, dtype, ROWS, COLUMNS), array


ENDS = st.none() | st.integers(0, ROWS + 5)


@given(start=ENDS, length=ENDS)
def test_a_slice_is_that_of_the_array(both, start, length):
    stored, array = both
    rows = slice(start, None if length is None else (start or 0) + length)
    found = stored[rows]
    assert found.dtype == array.dtype and found.shape == array[rows].shape
    assert (found == array[rows]).all()


@given(start=st.integers(1, ROWS), stop=st.integers(0, ROWS - 1))
def test_a_slice_may_count_from_the_end(both, start, stop):
    stored, array = both
    stop = min(stop, start)
    rows = slice(-start, -stop or None)
    assert (stored[rows] == array[rows]).all() and len(stored[rows]) == start - stop


@given(size=st.integers(1, ROWS + 3))
def test_pieces_make_up_the_whole(both, size):
    stored, array = both
    pieces = [stored[i : i + size] for i in range(0, len(stored), size)]
    assert (np.concatenate(pieces) == array).all()


def test_the_shape_is_known_without_reading(both):
    stored, array = both
    assert stored.shape == array.shape and len(stored) == len(array)
