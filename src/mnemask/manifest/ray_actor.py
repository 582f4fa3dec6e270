"""What runs on the nodes of a Ray cluster: actors that do clips, and the board where they say how far they are."""

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
"""Between two questions of a worker whether it is to stop."""


class Board:
    """Where workers say how far they are and read whether to stop: they cannot be asked while they are at a clip."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._why = ""

    def tell(self, event: Event) -> None:
        """Takes an event."""
        self._events.append(event)

    def take(self) -> list[Event]:
        """Returns the events since the last time."""
        found, self._events = self._events, []
        return found

    def ask_to_stop(self, why: str) -> None:
        """Lets `why` return this from now on."""
        self._why = why

    def why(self) -> str:
        """Returns why the batch is to be stopped; nothing while it is not."""
        return self._why


class RayWorker:
    """An actor: does clip after clip with what it has loaded.

    Args:
        setup: what it is told.
        board: where it says how far it is.
    """

    def __init__(self, setup: Setup, board: Any) -> None:
        import ray

        self._ray, self._board = ray, board
        node = ray.get_runtime_context().get_node_id()[:8]
        self._where = f"{socket.gethostname()}, node {node}, process {os.getpid()}"
        self._problem = ""
        if setup.must_see and not Path(setup.must_see).exists():
            folder = str(Path(setup.must_see).parent)
            self._problem = f"it does not see {folder!r}: give --out on storage that all nodes share, or an address"
            return
        try:
            self._work = open_worker(setup)
        except MnemaskError as error:
            self._problem = str(error)

    def ready(self) -> tuple[str, str]:
        """Returns where this is, and why it cannot work if so."""
        return self._where, self._problem

    def work(self, clip: Clip) -> Outcome:
        """Returns what became of a clip."""
        control = _BoardControl(self._ray, self._board, clip.name)
        if why := control.look():
            return Outcome("stopped", f"the batch was stopped by {why} before its turn")
        self._ray.get(self._board.tell.remote(Begun(clip.name, self._where)))
        with control:
            return answer(self._work, clip, control)


class _BoardControl:
    """What an actor says and hears while it is at a clip."""

    def __init__(self, ray: Any, board: Any, clip: str) -> None:
        self._ray, self._board, self._clip = ray, board, clip
        self._why = ""
        self._over = threading.Event()

    def advance(self, frames: int, total: int | None) -> None:
        """Says how far the clip is."""
        self._board.tell.remote(Advanced(self._clip, frames, total))

    def stop(self) -> str | None:
        """Returns why the batch is to be stopped; None while it is not."""
        return self._why or None

    def look(self) -> str:
        """Asks the board."""
        self._why = str(self._ray.get(self._board.why.remote()))
        return self._why

    def __enter__(self) -> "_BoardControl":
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _listen(self) -> None:
        with suppress(self._ray.exceptions.RayError):  # the batch is over, and so is this actor in a moment
            while not self._over.wait(_ASK_SECONDS) and not self._why:
                self.look()
