"""Decoding ahead while the network computes."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(iterable: Iterable[T], depth: int = 4) -> Iterator[T]:
    """Yields the same items in the same order, up to `depth` of them made ahead of time in one background thread.

    What the iterable raises is raised here, in its place. When the caller stops early, the thread ends and the iterable
    is closed before control returns; one that has a method `interrupt` is told by it first. Nothing runs before the
    first item is asked for.

    Example:
        >>> list(prefetch(range(3)))
        [0, 1, 2]
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; expected 1 or more items to make ahead")
    iterator = iter(iterable)
    end = object()
    ahead: deque[Future[T | object]] = deque()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mnemask-prefetch")
    try:
        ahead.extend(executor.submit(next, iterator, end) for _ in range(depth))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(executor.submit(next, iterator, end))
            yield item  # type: ignore[misc]  # T, since it is not the end
    finally:
        # What waits for a camera or a growing file would keep us waiting too.
        interrupt = getattr(iterable, "interrupt", None)
        if interrupt is not None:
            interrupt()
        executor.shutdown(wait=True, cancel_futures=True)
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
