"""What went wrong in a video: counted, with the first frames it happened to; and times that never go back.

What went otherwise than a video should: counted, and kept with the first frames that it happened to.

Times that never go back.
"""

import sys
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from mnemask.io.pictures import MAX_NOTED

Event = Literal["dropped", "corrupt", "held", "skipped", "doubtful", "missing", "cut_off", "reconnects", "clock_jumps"]


@dataclass(frozen=True, slots=True)
class Noted:
    """How often something happened, and to which frames; of more than 100, the first 100."""

    count: int = 0
    frames: tuple[int, ...] = ()

    def within(self, begin: int, end: int) -> "Noted":
        """Returns the events from frame `begin` to before `end`; frames that are not named count as within."""
        frames = tuple(frame for frame in self.frames if begin <= frame < end)
        return Noted(self.count - len(self.frames) + len(frames), frames)

    def __add__(self, later: "Noted") -> "Noted":
        return Noted(self.count + later.count, (self.frames + later.frames)[:MAX_NOTED])


@dataclass(frozen=True, slots=True)
class ReaderEvents:
    """What happened while a video was read, each with the numbers of the frames.

    Attributes:
        dropped: frames that a live source gave while the one before was still in use.
        corrupt: frames that could not be decoded, or only with errors; each is also held or skipped.
        held: corrupt frames that were replaced by the last good one.
        skipped: corrupt frames that were left out.
        doubtful: frames after a corrupt one, up to the next key frame: they are built on it, and may show it.
        missing: gaps in the numbers of a folder's files, each at the frame after it.
        cut_off: the frame at which a video ended before its header says that it does.
        reconnects: the first frame after each lost connection.
        clock_jumps: frames with a time before that of the frame before, or more than 10 seconds after it.
    """

    dropped: Noted = Noted()
    corrupt: Noted = Noted()
    held: Noted = Noted()
    skipped: Noted = Noted()
    doubtful: Noted = Noted()
    missing: Noted = Noted()
    cut_off: Noted = Noted()
    reconnects: Noted = Noted()
    clock_jumps: Noted = Noted()

    @classmethod
    def from_dict(cls, noted: Mapping[str, Any]) -> "ReaderEvents":
        """Returns the events from `to_dict`; raises KeyError, TypeError or ValueError for anything else."""
        return cls(**{name: Noted(int(n["count"]), tuple(map(int, n["frames"]))) for name, n in noted.items()})

    def to_dict(self) -> dict[str, dict[str, int | list[int]]]:
        """Returns the events that occurred, as JSON can hold them: `{"dropped": {"count": 2, "frames": [7, 8]}}`."""
        return {name: {"count": n.count, "frames": list(n.frames)} for name, n in self._all().items() if n.count}

    def within(self, begin: int = 0, end: int = sys.maxsize) -> "ReaderEvents":
        """Returns the events from frame `begin` to before `end`; beyond 100 of a kind all count as within."""
        return ReaderEvents(**{name: noted.within(begin, end) for name, noted in self._all().items()})

    def __add__(self, later: "ReaderEvents") -> "ReaderEvents":
        both = later._all()
        return ReaderEvents(**{name: noted + both[name] for name, noted in self._all().items()})

    def _all(self) -> dict[str, Noted]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class EventLog:
    """Collects events, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Event] = Counter()
        self._frames: dict[Event, list[int]] = {}

    def note(self, event: Event, frame: int) -> bool:
        """Notes that this happened to the frame of this number; returns whether it is still one of the first 100."""
        with self._lock:
            self._counts[event] += 1
            frames = self._frames.setdefault(event, [])
            first = len(frames) < MAX_NOTED
            if first:
                frames.append(frame)
            return first

    def clear(self) -> None:
        """Forgets everything: the video is read anew."""
        with self._lock:
            self._counts.clear()
            self._frames.clear()

    def events(self) -> ReaderEvents:
        """Returns the events so far."""
        with self._lock:
            return ReaderEvents(**{event: Noted(n, tuple(self._frames[event])) for event, n in self._counts.items()})


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
