"""Times that never go back."""

from mnemask.video.events import EventLog

LONG_GAP_SECONDS = 10.0


class Clock:
    """The times of one video; notes, from frame `start` on, where they go back or leap ahead by more than 10 seconds.

    It is told of all frames, also those before `start`, so that the times do not depend on where reading starts.
    """

    def __init__(self, log: EventLog, start: int = 0) -> None:
        self._log, self._start = log, start
        self._source: float | None = None
        self._added = self._usual_step = 0.0

    def of(self, seconds: float | None, frame: int) -> float | None:
        """Returns the frame's time, counted on from the frame before where the source's clock was set back."""
        if seconds is None:
            return None
        step = 0.0 if self._source is None else seconds - self._source
        if frame >= self._start and not 0 <= step <= LONG_GAP_SECONDS:
            self._log.note("clock_jumps", frame)
        if step < 0:
            self._added += self._usual_step - step
        else:
            self._usual_step = step
        self._source = seconds
        return seconds + self._added
