"""How long to wait for what may still come."""

import threading
import time


class Patience:
    """Waits in doubling steps, for no longer than `seconds` since the last success, and not at all once interrupted.

    Args:
        seconds: in all; 0 waits never.
        interrupted: ends each wait when set.
        first: the first step in seconds.
        longest: no step is longer.
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
        """Returns after the next step whether to try again; the last try is when the time is over."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + self.seconds
        left = self._deadline - now
        if left <= 0 or self.interrupted.wait(min(self._step, left)):
            return False
        self._step = min(2 * self._step, self._longest)
        return True

    def succeeded(self) -> None:
        """Starts anew: what was waited for came."""
        self._step, self._deadline = self._first, None
