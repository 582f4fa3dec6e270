"""What is known of a video before its first frame is read."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mnemask.errors import InputError
from mnemask.io.atomic import safe_name
from mnemask.io.footage import Footage
from mnemask.io.reader import Position, VideoReader
from mnemask.io.stream import frames_before, most_frames
from mnemask.prompts.plan import beyond_the_end
from mnemask.types import frame_name


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a video before it is read.

    Attributes:
        num_frames: index before which the run stops at the latest, according to the source; None if unknown.
        total: number of all frames, likewise; it sets the number of digits in frames' names.
        counted: whether these numbers are exact, not estimates.
        files: files of the frames, if each is one.
        footage: properties of the video that output videos keep.
        ahead: approximate number of frames that the run will read; None if unknown.
        stop: the frame or time to stop before, as given; None for the end.
    """

    num_frames: int | None = None
    total: int | None = None
    counted: bool = False
    files: Sequence[Path] | None = None
    footage: Footage = Footage()
    ahead: int | None = None
    stop: str | None = None

    @classmethod
    def of(cls, reader: VideoReader | None) -> "Expected":
        """Returns what a reader knows before reading; nothing without a reader."""
        if reader is None:
            return cls()
        known = reader.last, reader.total, reader.counted, reader.files, reader.facts.footage
        return cls(*known, reader.num_frames, reader.stop)

    @property
    def file_names(self) -> list[str] | None:
        """Names of the frames' files; None if they are not files."""
        return None if self.files is None else [path.name for path in self.files]

    def names(self, start: int) -> list[str] | None:
        """Returns the names of the output files from frame `start` on; None if they are unknown."""
        if self.files is not None:
            return [safe_name(path.stem) for path in self.files[start : self.num_frames]]
        if self.num_frames is None:
            return None
        return [frame_name(index, self.total) for index in range(start, self.num_frames)]

    def refuse_beyond(self, frames: Iterable[int], refusal: Callable[..., InputError] = beyond_the_end) -> None:
        """Raises InputError if one of the frames, by default of given masks, is not in the video.

        Args:
            frames: the frames.
            refusal: returns the error for a frame; see `beyond_the_end` for its arguments.
        """
        about, stop = self.num_frames or 0, None if self.stop is None else Position.of(self.stop)
        is_uneven = stop is not None and stop.seconds is not None and self.footage.rate is None
        sure = about if self.counted else 1 if is_uneven else max(about * 9 // 10 - 2, 1)
        doubtful = [frame for frame in frames if frame >= sure]
        if not doubtful:
            return
        if stop is not None and (end := self._end_of_part(stop, max(doubtful) + 1)) is not None:
            if beyond := [frame for frame in doubtful if frame >= end]:
                raise refusal(min(beyond), end, stop=self.stop)
            if stop.seconds is not None:
                return  # the estimate made from a time says less
        most = self._most()
        if most is not None and (beyond := [frame for frame in doubtful if frame >= most]):
            is_part = self.num_frames is not None and self.num_frames != self.total
            raise refusal(min(beyond), about or most, about=most != about, stop=self.stop if is_part else None)

    def _end_of_part(self, stop: Position, enough: int) -> int | None:
        """Returns the frame that reading stops before; None if that is a time, and packets do not tell its frame.

        For a time, it is not looked for beyond frame `enough`.
        """
        if stop.seconds is None or self.footage.path is None:
            return stop.frame
        return frames_before(self.footage.path, partial(stop.is_reached, 0), enough)

    def _most(self) -> int | None:
        """Returns the maximum number of frames; a file that does not state it is scanned."""
        if self.counted:
            return self.num_frames
        # A length computed from a duration may be slightly wrong.
        limits = [] if self.num_frames is None else [self.num_frames + 2 + self.num_frames // 10]
        found = None if self.footage.path is None else most_frames(self.footage.path)
        return min((*limits, *([] if found is None else [found])), default=None)
