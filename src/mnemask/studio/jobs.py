"""What runs in the background, and who is told of it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mnemask as mm

log = logging.getLogger(__name__)

Event = dict[str, Any]
_EVERY = 0.05  # seconds between two events of one job
_MOST_WAITING = 256  # events for a page that does not listen


class Listeners:
    """The open pages of one project."""

    def __init__(self) -> None:
        self._queues: dict[asyncio.Queue[Event], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def join(self) -> asyncio.Queue[Event]:
        """Returns a queue of events from now on; called in the event loop of its reader."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_MOST_WAITING)
        with self._lock:
            self._queues[queue] = asyncio.get_running_loop()
        return queue

    def leave(self, queue: asyncio.Queue[Event]) -> None:
        """Ends a queue."""
        with self._lock:
            self._queues.pop(queue, None)

    @property
    def any(self) -> bool:
        """Whether a page is open."""
        return bool(self._queues)

    def tell(self, event: Event) -> None:
        """Tells all pages, from any thread; a page that does not listen misses the oldest."""
        with self._lock:
            for queue, loop in list(self._queues.items()):
                try:
                    loop.call_soon_threadsafe(_put, queue, event)
                except RuntimeError:  # the loop is closed: the server stops
                    self._queues.pop(queue, None)


def _put(queue: asyncio.Queue[Event], event: Event) -> None:
    if queue.full():
        queue.get_nowait()  # the oldest: the newest says how things stand
    queue.put_nowait(event)


class _Heard(logging.Handler):
    """Collects one thread's warnings, without duplicates."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread, self.sentences = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a record."""
        said = record.getMessage()
        if record.thread == self._thread and said not in self.sentences:
            self.sentences.append(said)


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """Yields a list that fills with what this thread warns of within the block."""
    heard, logger = _Heard(), logging.getLogger("mnemask")
    logger.addHandler(heard)
    try:
        yield heard.sentences
    finally:
        logger.removeHandler(heard)


class Job:
    """One thing that runs in a thread for one project, such as a pass of tracking or an export.

    Args:
        kind: "track" or "export".
        work: what to do; it is given the job, asks `stop` and calls `tell`.
        listeners: who is told.
    """

    def __init__(self, kind: str, work: Callable[["Job"], Event], listeners: Listeners) -> None:
        self.kind, self._work, self._listeners = kind, work, listeners
        self._stop, self._told = threading.Event(), 0.0
        self.latest: Event = {"type": "job", "kind": kind, "running": True}
        self._thread = threading.Thread(target=self._run, name=f"studio-{kind}", daemon=True)

    def start(self) -> "Job":
        """Begins, and returns itself."""
        self._listeners.tell(self.latest)
        self._thread.start()
        return self

    @property
    def running(self) -> bool:
        """Whether it has not ended, or not yet said so."""
        return self._thread.is_alive() and self.latest["running"]

    def stop(self) -> bool:
        """Returns whether the job was asked to end."""
        return self._stop.is_set()

    def end(self, timeout: float = 60.0) -> None:
        """Asks the job to end and waits for it."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def tell(self, event: Event) -> None:
        """Tells the pages how far it is, not more often than they can show."""
        self.latest = {"type": "job", "kind": self.kind, "running": True, **event}
        now = time.monotonic()
        if now - self._told >= _EVERY:
            self._told = now
            self._listeners.tell(self.latest)

    def _run(self) -> None:
        try:
            result = self._work(self)
        except mm.MnemaskError as error:
            result = {"error": str(error)}
        except Exception:
            log.exception("a job of the studio failed")
            result = {"error": "an internal error; the terminal tells more"}
        self.latest = {**self.latest, **result, "running": False}
        self._listeners.tell(self.latest)
