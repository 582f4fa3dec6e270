"""The first SIGINT or SIGTERM asks a run to end cleanly, the second one ends it at once; no signal is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context manager that receives stop signals.

    Args:
        interrupt: called on the first signal, to end a wait for more input.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._heard: signal.Signals | None = None

    def __call__(self) -> str | None:
        """Returns the name of the signal that was received, None before it."""
        return None if self._heard is None else self._heard.name

    @property
    def exit_code(self) -> int:
        """Exit code that a shell expects of a process that ended because of the signal; 0 if none was received."""
        return 0 if self._heard is None else 128 + self._heard

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard is not None:
            os._exit(128 + number)
        self._heard = signal.Signals(number)
        self._interrupt()
