"""The first SIGINT or SIGTERM asks a run to end well, the second ends it at once; and none is lost."""

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Hears signals while it is entered.

    Args:
        interrupt: is called with the first one, to end what waits for more.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._heard: signal.Signals | None = None

    def __call__(self) -> str | None:
        """Returns the name of the signal that was heard, None before it."""
        return None if self._heard is None else self._heard.name

    @property
    def exit_code(self) -> int:
        """What a shell expects of a process that ended because of the signal; 0 if none came."""
        return 0 if self._heard is None else 128 + self._heard

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._heard is not None:
            os._exit(128 + number)
        self._heard = signal.Signals(number)
        self._interrupt()


def repeat_ignored_interrupts() -> None:
    """Makes a Ctrl-C come again that Python ignored because it came while an object was being disposed of."""
    show = sys.unraisablehook

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            show(ignored)
            return
        # A little later: what is raised in here is ignored too.
        again = threading.Timer(0.05, _thread.interrupt_main)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
