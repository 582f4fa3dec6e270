"""Background jobs, and the pages that are notified of their progress."""

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
_MOST_WAITING = 256  # events for a page that does not read them


class Listeners:
    """The open pages of one project.

    Attributes:
        telling: held while an event is made and sent, so that none that was made earlier is sent later.
    """

    def __init__(self) -> None:
        self.telling = threading.RLock()
        self._queues: dict[asyncio.Queue[Event], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    def join(self) -> asyncio.Queue[Event]:
        """Returns a queue of events from now on; called in the event loop of its reader."""
        queue: asyncio.Queue[Event] = asyncio.Queue(_MOST_WAITING)
        with self._lock:
            self._queues[queue] = asyncio.get_running_loop()
        return queue

    def leave(self, queue: asyncio.Queue[Event]) -> None:
        """Removes a queue."""
        with self._lock:
            self._queues.pop(queue, None)

    @property
    def any(self) -> bool:
        """Whether a page is open."""
        return bool(self._queues)

    def tell(self, event: Event) -> None:
        """Sends an event to all pages, from any thread; a page that does not read them loses the oldest."""
        with self._lock:
            for queue, loop in list(self._queues.items()):
                try:
                    loop.call_soon_threadsafe(_put, queue, event)
                except RuntimeError:  # the loop is closed: the server is stopping
                    self._queues.pop(queue, None)


def _put(queue: asyncio.Queue[Event], event: Event) -> None:
    if queue.full():
        queue.get_nowait()  # the oldest: the newest event has the current state
    queue.put_nowait(event)


class _Heard(logging.Handler):
    """Collects one thread's warnings, without duplicates."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread, self.sentences = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Stores the message of a record."""
        said = record.getMessage()
        if record.thread == self._thread and said not in self.sentences:
            self.sentences.append(said)


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """Yields a list that collects the warnings that this thread logs within the block."""
    heard, logger = _Heard(), logging.getLogger("mnemask")
    logger.addHandler(heard)
    try:
        yield heard.sentences
    finally:
        logger.removeHandler(heard)


class Job:
    """A job that runs in a thread for one project, such as a tracking pass or an export.

    Args:
        kind: "track" or "export".
        work: the function to run; it gets the job, checks `stop` and calls `tell`.
        listeners: the pages to notify.
    """

    def __init__(self, kind: str, work: Callable[["Job"], Event], listeners: Listeners) -> None:
        self.kind, self._work, self._listeners = kind, work, listeners
        self._stop, self._told = threading.Event(), 0.0
        self.latest: Event = {"type": "job", "kind": kind, "running": True}
        self._thread = threading.Thread(target=self._run, name=f"studio-{kind}", daemon=True)

    def start(self) -> "Job":
        """Starts the thread and returns the job."""
        self._listeners.tell(self.latest)
        self._thread.start()
        return self

    @property
    def running(self) -> bool:
        """Whether the job has not ended yet, and has not reported its end."""
        return self._thread.is_alive() and self.latest["running"]

    def stopping(self) -> bool:
        """Returns whether the job was asked to stop."""
        return self._stop.is_set()

    def stop(self, timeout: float = 60.0) -> None:
        """Asks the job to stop and waits for it."""
        self._stop.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def tell(self, event: Event) -> None:
        """Sends progress to the pages, no more often than every `_EVERY` seconds."""
        now = time.monotonic()
        with self._listeners.telling:
            self.latest = {"type": "job", "kind": self.kind, "running": True, **event}
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
            result = {"error": "internal error; see the terminal for details"}
        with self._listeners.telling:
            self.latest = {**self.latest, **result, "running": False}
            self._listeners.tell(self.latest)
