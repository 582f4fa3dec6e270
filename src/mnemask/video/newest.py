"""Only the newest picture of a live source, so that whoever is slower than it never falls behind."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from mnemask.video.events import EventLog
from mnemask.video.picture import Damaged, Picture, Pictures


def newest(pictures: Pictures, log: EventLog, interrupt: Callable[[], None]) -> Pictures:
    """Yields the first picture and then, each time, the newest; one that came and went meanwhile is noted as dropped.

    The first is never dropped, since masks are given for it. One background thread takes what the source gives, and
    keeps one picture. It ends, with `interrupt` called, before this iterator does.
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
    """Room for one picture between the thread that makes them and the one that uses them."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._changed = threading.Condition()
        self._picture: Picture | Damaged | None = None
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

    def take(self) -> Picture | Damaged | None:
        """Returns the picture when there is one; None at the end."""
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
