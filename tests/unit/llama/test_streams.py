"""Generators side by side: items in order, none overwritten before its use, no thread left over."""

import threading
import time

import pytest

from quern.llama.streams import END, InTurns


def counting(groups, log, buffer=None):
    """Two items for each group; `buffer` is overwritten for each."""
    buffer = [None] if buffer is None else buffer
    try:
        for group in groups:
            for k in range(2):
                buffer[0] = (group, k)
                log.append((group, k))
                yield buffer
            yield END
    finally:
        log.append("closed")


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("groups", [0, 1, 2, 7])
def test_items_come_in_order_and_whole(count, groups):
    log = []
    running = InTurns([counting(range(groups)[k::count], log) for k in range(count)], groups)
    found = []
    for item in running:
        before = item[0]
        time.sleep(0.001)  # the others go on meanwhile
        assert item[0] == before
        found.append(before)
    running.close()
    assert found == [(group, k) for group in range(groups) for k in range(2)]
    assert log.count("closed") == count


def test_they_work_at_the_same_time():
    meeting = threading.Barrier(2, timeout=10)

    def waiting(groups):
        for group in groups:
            meeting.wait()
            yield group
            yield END

    running = InTurns([waiting(range(6)[k::2]) for k in range(2)], 6)
    assert list(running) == list(range(6))
    running.close()


def test_an_error_is_raised_where_its_item_would_be():
    def failing(groups):
        for group in groups:
            if group == 3:
                raise ValueError("three")
            yield group
            yield END

    running = InTurns([failing(range(8)[k::2]) for k in range(2)], 8)
    found = []
    with pytest.raises(ValueError, match="three"):
        for item in running:
            found.append(item)
    running.close()
    assert found == [0, 1, 2]


def test_closing_early_ends_the_generators_and_their_threads():
    before, log = threading.active_count(), []
    running = InTurns([counting(range(100)[k::2], log) for k in range(2)], 100)
    for item, _ in zip(running, range(3), strict=False):
        assert item
    running.close()
    assert log.count("closed") == 2 and len(log) < 15
    assert threading.active_count() == before
    running.close()
