"""Where in a video: the number of a frame, or a time."""

import re
from dataclasses import dataclass

from mnemask.errors import FrameError
from mnemask.io.pictures import SourceFacts

_SECONDS = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(ms|s)")
_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)")
# Containers count in ticks: a frame at 12.5 s may say 12.4999.
_ROUNDING = 0.001


@dataclass(frozen=True, slots=True)
class Position:
    """A frame by its number, from 0, or by its time in seconds after the first frame; one of the two."""

    frame: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, text: str | int) -> "Position":
        """Returns the position of a number, "240", "12.5s", "500ms", "1:30" or "00:01:30.5".

        Raises:
            FrameError: for anything else.
        """
        if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
            return cls(frame=text)
        written = str(text).strip()
        if re.fullmatch(r"\d{1,9}", written):
            return cls(frame=int(written))
        if seconds := _SECONDS.fullmatch(written):
            return cls(seconds=float(seconds[1]) / (1000 if seconds[2] == "ms" else 1))
        if clock := _CLOCK.fullmatch(written):
            return cls(seconds=3600 * int(clock[1] or 0) + 60 * int(clock[2]) + float(clock[3]))
        raise FrameError(
            f"{text!r} is no position in a video",
            "expected a frame from 0, such as 240, or a time, such as 12.5s or 00:01:30",
        )

    def is_reached(self, index: int, seconds: float | None) -> bool:
        """Returns whether the frame of this number, so many seconds after the first, is here or later."""
        if self.frame is not None:
            return index >= self.frame
        assert self.seconds is not None, "one of the two is given"
        return seconds is not None and seconds >= self.seconds - _ROUNDING

    def frame_at(self, frames_per_second: float | None) -> int | None:
        """Returns the number of the frame, of an even video for a time; None where the rate is not known."""
        if self.frame is not None or self.seconds is None:
            return self.frame
        return None if frames_per_second is None else round(self.seconds * frames_per_second)

    def __str__(self) -> str:
        return f"frame {self.frame}" if self.seconds is None else f"{self.seconds:g} s"


def check_range(start: Position, stop: Position | None, name: str, facts: SourceFacts) -> None:
    """Raises FrameError for a range that is empty, or that the video is known not to have."""
    if stop is not None and (
        (start.frame is not None and stop.frame is not None and stop.frame <= start.frame)
        or (start.seconds is not None and stop.seconds is not None and stop.seconds <= start.seconds)
    ):
        raise FrameError(f"{start} to {stop} is no range", "expected a start before the stop")
    for position, is_start in ((start, True), (stop, False)):
        if position is None:
            continue
        if position.seconds is not None and not facts.timed:
            raise FrameError(f"{name!r} has no times, so {position} is not in it", "give the number of a frame, from 0")
        length = facts.num_frames if position.seconds is None else facts.duration
        at = position.frame if position.seconds is None else position.seconds - _ROUNDING
        if length is None or at is None or at < length or (at == length and not is_start):
            continue
        has = f"{length} frames, 0 to {int(length) - 1}" if position.seconds is None else f"{length:.6g} s"
        raise FrameError(f"{name!r} has {has}, and {position} is not in it", "give one that is")
