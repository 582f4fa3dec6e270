"""The actors on the nodes of a Ray cluster: workers that process clips, and the board for their progress."""

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnemask.errors import MnemaskError
from mnemask.manifest.local import answer, open_worker
from mnemask.manifest.run import Advanced, Begun, Event, Setup
from mnemask.manifest.schedule import Clip, Outcome

_ASK_SECONDS = 0.5
"""Interval at which a worker asks whether to stop."""


class Board:
    """An actor where workers report progress and read whether to stop: they take no calls while they process a clip."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._why = ""

    def tell(self, event: Event) -> None:
        """Adds an event."""
        self._events.append(event)

    def take(self) -> list[Event]:
        """Returns the events since the last call."""
        found, self._events = self._events, []
        return found

    def ask_to_stop(self, why: str) -> None:
        """Makes `why` return this reason from now on."""
        self._why = why

    def why(self) -> str:
        """Returns why the batch is being stopped; empty while it is not."""
        return self._why


class RayWorker:
    """An actor that processes clip after clip with weights loaded once.

    Args:
        setup: the worker's setup.
        board: the board for its progress.
    """

    def __init__(self, setup: Setup, board: Any) -> None:
        import ray

        self._ray, self._board = ray, board
        node = ray.get_runtime_context().get_node_id()[:8]
        self._where = f"{socket.gethostname()}, node {node}, process {os.getpid()}"
        self._problem = ""
        if setup.must_see and not Path(setup.must_see).exists():
            folder = str(Path(setup.must_see).parent)
            self._problem = f"it cannot see {folder!r}: give --out on storage that all nodes share, or an address"
            return
        try:
            self._work = open_worker(setup)
        except MnemaskError as error:
            self._problem = str(error)

    def ready(self) -> tuple[str, str]:
        """Returns the actor's location, and why it cannot work, which is empty if it can."""
        return self._where, self._problem

    def work(self, clip: Clip) -> Outcome:
        """Processes a clip and returns its outcome."""
        control = _BoardControl(self._ray, self._board, clip.name)
        if why := control.look():
            return Outcome("stopped", f"the batch was stopped by {why} before its turn")
        self._ray.get(self._board.tell.remote(Begun(clip.name, self._where)))
        with control:
            return answer(self._work, clip, control)


class _BoardControl:
    """An actor's connection to the board while it processes a clip."""

    def __init__(self, ray: Any, board: Any, clip: str) -> None:
        self._ray, self._board, self._clip = ray, board, clip
        self._why = ""
        self._over = threading.Event()

    def advance(self, frames: int, total: int | None) -> None:
        """Reports the progress of the clip."""
        self._board.tell.remote(Advanced(self._clip, frames, total))

    def stop(self) -> str | None:
        """Returns why the batch is being stopped; None while it is not."""
        return self._why or None

    def look(self) -> str:
        """Asks the board whether to stop; returns the reason, or empty."""
        self._why = str(self._ray.get(self._board.why.remote()))
        return self._why

    def __enter__(self) -> "_BoardControl":
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _listen(self) -> None:
        with suppress(self._ray.exceptions.RayError):  # the batch is over, and this actor ends in a moment
            while not self._over.wait(_ASK_SECONDS) and not self._why:
                self.look()
