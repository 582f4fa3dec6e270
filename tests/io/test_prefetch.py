import threading

import pytest

from mnemask.io import prefetch


def threads():
    return [thread for thread in threading.enumerate() if "prefetch" in thread.name]


class Source:
    """Counts what was taken from it and whether it was closed."""

    def __init__(self, length, fails_at=None):
        self.taken, self.closed = 0, False
        self.length, self.fails_at = length, fails_at

    def __iter__(self):
        try:
            for number in range(self.length):
                if number == self.fails_at:
                    raise OSError("the disk is gone")
                self.taken += 1
                yield number
        finally:
            self.closed = True


def test_items_come_in_order_and_nothing_is_left_behind():
    source = Source(50)
    assert list(prefetch(source)) == list(range(50))
    assert source.closed
    assert not threads()


def test_an_empty_iterable_gives_nothing():
    assert list(prefetch([])) == []


def test_an_error_arrives_in_its_place():
    source, items = Source(50, fails_at=7), []
    with pytest.raises(OSError, match="the disk is gone"):
        items.extend(prefetch(source, depth=4))
    assert items == list(range(7))
    assert not threads()


@pytest.mark.parametrize("depth", [1, 3])
def test_it_runs_ahead_by_no_more_than_its_depth(depth):
    source = Source(1000)
    for number in prefetch(source, depth):
        assert source.taken <= number + 1 + depth
        if number == 100:
            break


def test_stopping_early_ends_the_thread_and_closes_the_source():
    source = Source(1000)
    items = prefetch(source)
    next(items)
    assert len(threads()) == 1
    items.close()
    assert source.closed
    assert not threads()


def test_nothing_runs_before_the_first_item():
    source = Source(10)
    items = prefetch(source)
    assert source.taken == 0
    assert not threads()
    items.close()


def test_it_works_while_the_caller_does():
    working = threading.Event()

    def source():
        yield 0
        working.set()
        yield 1

    items = prefetch(source(), depth=1)
    next(items)
    assert working.wait(timeout=10), "the second item is made although nobody asked for it yet"
    assert list(items) == [1]


def test_a_depth_below_one_is_refused():
    with pytest.raises(ValueError, match="depth is 0"):
        next(prefetch([1], depth=0))
