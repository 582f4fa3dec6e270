"""The first SIGINT or SIGTERM asks a run to end well, the second ends it at once; and none is lost."""

from __future__ import annotations

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

    def __enter__(self) -> StopSignals:
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


class Interrupts:
    """Ctrl-C outside `StopSignals`, from the first import to the end: exit code 130 and no traceback.

    Attributes:
        heard: whether one came that is to end the command.
    """

    def __init__(self) -> None:
        self.heard = False
        self._installed = False

    def leave_at_once(self) -> None:
        """Lets a Ctrl-C end the process there and then, for as long as there is nothing to save.

        A process that was started to ignore it, as in the background of a script, goes on doing so.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
            self._installed = True

    def raise_once(self) -> None:
        """Lets the first Ctrl-C raise KeyboardInterrupt, and the second end the process there and then."""
        if self._installed:
            self._repeat_ignored()
            signal.signal(signal.SIGINT, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.heard:
            os._exit(128 + number)
        self.heard = True
        raise KeyboardInterrupt

    def _repeat_ignored(self) -> None:
        """Raises a Ctrl-C again that Python ignored because it came while an object was being disposed of."""
        show = sys.unraisablehook

        def hook(ignored: sys.UnraisableHookArgs) -> None:
            if not issubclass(ignored.exc_type, KeyboardInterrupt):
                show(ignored)
                return
            self.heard = False
            # A little later: what is raised in here is ignored too.
            again = threading.Timer(0.05, _thread.interrupt_main)
            again.daemon = True
            again.start()

        sys.unraisablehook = hook


INTERRUPTS = Interrupts()
