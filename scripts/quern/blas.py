"""Products whose bits do not depend on how many threads BLAS would take."""

import contextlib
import functools

from threadpoolctl import ThreadpoolController


@functools.cache
def _threadpools() -> ThreadpoolController:
    """Finding the libraries that have threads takes a millisecond."""
    return ThreadpoolController()


def one_thread() -> contextlib.AbstractContextManager:
    """Let BLAS work with one thread in this process; whoever shares work does it in parts."""
    return _threadpools().limit(limits=1, user_api="blas")
