"""BLAS keeps to one thread as long as anyone asks for that."""

import numpy as np
from threadpoolctl import ThreadpoolController

from quern import blas


def threads():
    pools = ThreadpoolController().select(user_api="blas").info()
    return {pool["num_threads"] for pool in pools}


def test_the_last_that_leaves_lifts_the_limit():
    assert np.ones((2, 2)) @ np.ones(2) is not None  # BLAS is loaded
    pools = ThreadpoolController()
    with pools.limit(limits=2, user_api="blas"):
        first, second = blas.one_thread(), blas.one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == {2}
