"""Generators at work at the same time, each in a thread of its own, whose items are taken in turns.

A generator goes on only once its last item has been used, so an item may be a view of memory that
the next one overwrites. It yields `END` after each of its groups of items.
"""

import queue
import threading
from collections.abc import Generator, Iterator

END = object()


class InTurns:
    """The items of some generators: a group of the first, a group of the second, and so on.

    Iterate once; then, or before, `close` ends the generators, in their threads.

    Args:
        generators: the k-th of n has the groups k, k + n, …, with `END` after each.
        groups: how many groups there are in all.
    """

    def __init__(self, generators: list[Generator], groups: int):
        self._workers, self._groups = [_Worker(items) for items in generators], groups

    def __iter__(self) -> Iterator:
        for group in range(self._groups):
            worker = self._workers[group % len(self._workers)]
            while (item := worker.take()) is not END:
                yield item
                worker.go_on()

    def close(self) -> None:
        """End the generators, each after what it is at."""
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.join()


class _Worker(threading.Thread):
    """Makes an item, and waits until it was used."""

    def __init__(self, items: Generator):
        super().__init__(daemon=True)
        self._items, self._stopped = items, False
        self._ready, self._used = queue.SimpleQueue(), threading.Semaphore(0)
        self.start()

    def run(self):
        try:
            for item in self._items:
                self._ready.put((item, None))
                if item is not END:
                    self._used.acquire()
                if self._stopped:
                    break
            self._items.close()
        except BaseException as error:  # raised again where the item is taken
            self._ready.put((None, error))

    def take(self):
        item, error = self._ready.get()
        if error:
            raise error
        return item

    def go_on(self):
        self._used.release()

    def stop(self):
        self._stopped = True
        self._used.release()
