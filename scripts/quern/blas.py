"""Products whose bits do not depend on how many threads BLAS would take."""

import contextlib
import functools
import threading
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController


class _Limit:
    """A limit of the whole process, which holds as long as any thread is inside."""

    def __init__(self):
        self._lock, self._inside, self._limiter = threading.Lock(), 0, None

    @functools.cached_property
    def _pools(self) -> ThreadpoolController:
        """Finding the libraries that have threads takes a millisecond."""
        return ThreadpoolController()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limiter = self._pools.limit(limits=1, user_api="blas")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS work with one thread in this process; whoever shares work does it in parts.

    Threads may enter and leave in any order; the last one that leaves lifts the limit.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
