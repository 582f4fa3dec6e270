"""Live sources: retries with backoff, reading ahead, the newest frame only, and cameras."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from mnemask.errors import FrameError
from mnemask.io.pictures import Damaged, DecodedPicture, EventLog, Pictures, SourceFacts

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Backoff:
    """Exponential backoff that gives up after `seconds` without a success, or at once when interrupted.

    Args:
        seconds: total time to wait without a success; 0 never waits.
        interrupted: event that ends each wait when set.
        first: first step, in seconds.
        longest: upper limit of a step, in seconds.
    """

    def __init__(
        self, seconds: float, interrupted: threading.Event, *, first: float = 0.25, longest: float = 30.0
    ) -> None:
        self.seconds = seconds
        self.interrupted = interrupted
        self._first, self._longest = first, longest
        self._step = first
        self._deadline: float | None = None

    def wait(self) -> bool:
        """Waits for the next step and returns whether to try again; the last try comes when the time is up."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self.seconds
        left = self._deadline - now
        if left <= 0 or self.interrupted.wait(min(self._step, left)):
            return False
        self._step = min(2 * self._step, self._longest)
        return True

    def succeeded(self) -> None:
        """Resets the step and the deadline after a success."""
        self._step, self._deadline = self._first, None


def prefetch(iterable: Iterable[T], depth: int = 4) -> Iterator[T]:
    """Yields the items of an iterable in order, up to `depth` of them computed ahead in one background thread.

    Exceptions of the iterable are raised here, in place of the item. When the caller stops early, the thread ends and
    the iterable is closed before control returns; an iterable with a method `interrupt` is interrupted first. Nothing
    runs before the first item is requested.

    Example:
        >>> list(prefetch(range(3)))
        [0, 1, 2]
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; expected 1 or more items to read ahead")
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
        # A thread that waits for a camera or a growing file would block the shutdown.
        interrupt = getattr(iterable, "interrupt", None)
        if interrupt is not None:
            interrupt()
        executor.shutdown(wait=True, cancel_futures=True)
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def latest_frame(pictures: Pictures, log: EventLog, interrupt: Callable[[], None]) -> Pictures:
    """Yields the first picture and then always the newest; pictures that are overtaken are noted as dropped.

    The first is never dropped, since masks are given for it. One background thread reads the source and keeps one
    picture. It ends, after a call of `interrupt`, before this iterator does.
    """
    slot = _Slot(log)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mnemask-live")
    filled = executor.submit(slot.fill, pictures)
    filled.add_done_callback(slot.end)
    try:
        while (picture := slot.take()) is not None:
            yield picture
        filled.result()
    finally:
        slot.stop()
        interrupt()
        executor.shutdown(wait=True)


class _Slot:
    """A buffer for one picture between the thread that reads pictures and the one that uses them."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._changed = threading.Condition()
        self._picture: DecodedPicture | Damaged | None = None
        self._taken_one = self._ended = self._stopped = False

    def fill(self, pictures: Pictures) -> None:
        with closing(pictures):
            for picture in pictures:
                with self._changed:
                    self._changed.wait_for(lambda: self._taken_one or self._picture is None or self._stopped)
                    if self._stopped:
                        return
                    if self._picture is not None:
                        self._log.note("dropped", self._picture.index)
                    self._picture = picture
                    self._changed.notify_all()

    def take(self) -> DecodedPicture | Damaged | None:
        """Waits for a picture and returns it; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._ended)
            picture, self._picture = self._picture, None
            self._taken_one = True
            self._changed.notify_all()
            return picture

    def end(self, filled: Future[None]) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class Camera:
    """The pictures of a camera, as fast as it delivers them, until the reader stops.

    Args:
        number: the camera's number, counted from 0.
        backoff: how long to retry when the camera delivers nothing; None never retries.
        log: log in which reconnects are noted.
    """

    num_frames = None
    repeatable = False
    facts = SourceFacts()

    def __init__(self, number: int, *, backoff: Backoff | None = None, log: EventLog | None = None) -> None:
        self.name = f"camera{number}"
        self._number = number
        self._backoff = backoff
        self._log = log or EventLog()
        # Another thread may close the camera while one waits for a picture.
        self._lock = threading.Lock()
        # OpenCV takes a C int; no camera has a number beyond that range.
        if abs(number) >= 2**31 or not (device := self._open()).isOpened():
            raise FrameError(
                f"camera {number} cannot be opened",
                "give the number of a connected camera that no other program uses, counted from 0",
            )
        self._device = device
        self.frames_per_second = self._device.get(cv2.CAP_PROP_FPS) or None

    def pictures(self, start: int) -> Pictures:
        """Yields the camera's pictures, timed from the first one; the first `start` are discarded."""
        began = None
        for index, picture in enumerate(self._arriving()):
            now = time.monotonic()
            began = now if began is None else began
            if index >= start:
                rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                yield DecodedPicture(torch.from_numpy(rgb).permute(2, 0, 1), index, seconds=now - began, name="")

    def close(self) -> None:
        """Releases the camera."""
        with self._lock:
            self._device.release()

    def _open(self) -> cv2.VideoCapture:
        # OpenCV reports every backend that fails on stderr; one error message is enough. Versions 4 and 5 are silenced
        # differently.
        set_level: Callable[[int], int] = (
            cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
        )
        level = set_level(0)
        device = cv2.VideoCapture(self._number)
        set_level(level)
        return device

    def _read(self) -> UInt8[np.ndarray, "H W 3"] | None:
        with self._lock:
            arrived, picture = self._device.read()
        return np.asarray(picture, np.uint8) if arrived else None

    def _arriving(self) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        lost = False
        for index in range(sys.maxsize):
            while (picture := self._read()) is None:
                if not lost:
                    logger.warning("%s delivered no picture after %d frames", self.name, index)
                lost = True
                if self._backoff is None or not self._backoff.wait():
                    if self._backoff is not None and self._backoff.interrupted.is_set():
                        return
                    waited = f" within {self._backoff.seconds:g} s" if self._backoff is not None else ""
                    raise FrameError(
                        f"{self.name} delivered no picture after {index} frames{waited}",
                        "check that it is still connected",
                    )
                self.close()
                self._device = self._open()
            if lost:
                self._log.note("reconnects", index)
                lost = False
            if self._backoff is not None:
                self._backoff.succeeded()
            yield picture
