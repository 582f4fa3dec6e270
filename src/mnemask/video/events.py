"""What went otherwise than a video should: counted, and kept with the first frames that it happened to."""

import threading
from collections import Counter
from dataclasses import dataclass, fields
from typing import Literal

from mnemask.video.limits import MAX_NOTED

Event = Literal["dropped", "corrupt", "held", "skipped", "missing", "cut_off", "reconnects", "clock_jumps"]


@dataclass(frozen=True, slots=True)
class Noted:
    """How often something happened, and to which frames; of more than 100, the first 100."""

    count: int = 0
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReaderEvents:
    """What happened while a video was read, each with the numbers of the frames.

    Attributes:
        dropped: frames that a live source gave while the one before was still in use.
        corrupt: frames that could not be decoded, or only with errors; each is held or skipped besides.
        held: corrupt frames in whose place the last good one was given again.
        skipped: corrupt frames that were left out.
        missing: gaps in the numbers of a folder's files, each at the frame after it.
        cut_off: the frame at which a video ended before its header says that it does.
        reconnects: the first frame after each lost connection.
        clock_jumps: frames whose time is before that of the frame before, or more than 10 seconds after it.
    """

    dropped: Noted = Noted()
    corrupt: Noted = Noted()
    held: Noted = Noted()
    skipped: Noted = Noted()
    missing: Noted = Noted()
    cut_off: Noted = Noted()
    reconnects: Noted = Noted()
    clock_jumps: Noted = Noted()

    def to_dict(self) -> dict[str, dict[str, int | list[int]]]:
        """Returns what happened at all, as JSON can hold it: `{"dropped": {"count": 2, "frames": [7, 8]}}`."""
        noted = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: {"count": n.count, "frames": list(n.frames)} for name, n in noted.items() if n.count}


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
        """Returns what was noted so far."""
        with self._lock:
            return ReaderEvents(**{event: Noted(n, tuple(self._frames[event])) for event, n in self._counts.items()})
