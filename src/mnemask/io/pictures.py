"""What all video sources provide: pictures, one at a time, upright and within size limits, and a log of problems."""

import math
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, Protocol, cast, runtime_checkable

import cv2
import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame
from jaxtyping import UInt8, UInt16
from torch import Tensor

from mnemask.errors import FrameError
from mnemask.io.footage import Footage, YCbCr
from mnemask.types import Frame, frame_name

MAX_SIDE = 16_384
# 8192 x 8192, twice 8K video; below the size at which Pillow starts to warn.
MAX_PIXELS = 2**26
# 9 hours at 30 frames/s.
MAX_IMAGES = 1_000_000
# For the masks in one file, at one byte per pixel and object.
MAX_MASK_BYTES = 2**31
# Frames that a report lists for each kind of event; further ones are only counted.
MAX_NOTED = 100
# A longer gap between two frames is noted as a jump of the clock.
LONG_GAP_SECONDS = 10.0


def check_size(width: int, height: int, what: str) -> None:
    """Raises FrameError for a size that a header can claim but no video has."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise FrameError(
            f"{what!r} claims {width}x{height} pixels",
            f"expected 1 to {MAX_SIDE} pixels a side and at most {MAX_PIXELS // 10**6} megapixels, so shrink it first",
        )


# Cameras with 10, 12 or 14 bits write 16-bit files that never use most of the range; scaled by 65535, these would be
# nearly black. File formats do not state the depth reliably (the sBIT of PNG describes data that fills the range
# anyway), so it is inferred from the pictures, once for the whole video.
_WHITES = (2**8 - 1, 2**10 - 1, 2**12 - 1, 2**14 - 1, 2**16 - 1)
# If less than this share of the range is used, as by thermal cameras, the used part is stretched.
_NARROW = 1 / 8


# Share of values that are ignored at both ends of each picture: hot and dead pixels of a sensor.
_BROKEN = 1e-4
_FEW_VALUES = 1000  # in a smaller picture every value counts


def extremes(sample: UInt16[np.ndarray, "..."]) -> tuple[int, int]:
    """Returns the lowest and the highest value of a picture, ignoring those of broken pixels."""
    if sample.size < _FEW_VALUES:
        return int(sample.min()), int(sample.max())
    aside = math.ceil(_BROKEN * sample.size)
    counts = cv2.calcHist([sample.reshape(1, -1)], [0], None, [2**16], [0, 2**16]).ravel()
    below, above = (np.cumsum(each, dtype=np.float64) for each in (counts, counts[::-1]))
    return int(np.searchsorted(below, aside, "right")), 2**16 - 1 - int(np.searchsorted(above, aside, "right"))


@dataclass(frozen=True, slots=True)
class Levels:
    """The values that are mapped to 0 and 255."""

    black: int = 0
    white: int = 2**16 - 1

    @classmethod
    def of(cls, samples: Iterable[UInt16[np.ndarray, "..."]]) -> "Levels":
        """Returns the levels of a video from some of its pictures: 8 to 16 bits, or the narrow range that is used."""
        found = [extremes(sample) for sample in samples]
        lowest, highest = min((low for low, _ in found), default=0), max((high for _, high in found), default=0)
        if not highest:  # black, so later pictures may use any range
            return cls()
        white = next(white for white in _WHITES if white >= highest)
        used = highest - lowest
        if not 0 < used < _NARROW * white or white == _WHITES[0]:
            return cls(0, white)
        margin = used // 4 + 1  # other pictures may use a little more
        return cls(max(lowest - margin, 0), min(highest + margin, _WHITES[-1]))

    @classmethod
    def of_deep(cls, samples: Iterable[UInt16[np.ndarray, "..."] | None]) -> "Levels | None":
        """Returns the levels of those samples that are pictures, held one at a time; None if none is."""
        deep = (sample for sample in samples if sample is not None)
        first = next(deep, None)
        return None if first is None else cls.of(chain([first], deep))

    @classmethod
    def of_report(cls, source: Mapping[str, Any]) -> "Levels | None":
        """Returns the levels in `SourceFacts.to_dict`; raises KeyError, TypeError or ValueError for malformed ones."""
        if "white" not in source:
            return None
        levels = cls(int(source["black"]), int(source["white"]))
        if not 0 <= levels.black < levels.white <= _WHITES[-1]:
            raise ValueError(levels)
        return levels

    def for_more(self) -> "Levels":
        """Returns the levels for a video that begins with the pictures of these levels: those of 10 bits or more.

        Its first pictures may be dark, as with a covered lens, so that they show neither its range nor a narrow one.
        """
        return self if self.white > _WHITES[1] else Levels(0, _WHITES[1])

    def to_8_bits(self, values: UInt16[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
        """Returns the values scaled to 0 to 255; those outside the levels are clipped."""
        span = self.white - self.black
        above = values.astype(np.int64).clip(self.black, self.white) - self.black
        return ((above * 255 + span // 2) // span).astype(np.uint8)

    def __str__(self) -> str:
        if self.black:
            return f"values from {self.black} to {self.white} are stretched from black to white"
        return f"{self.white} is white ({self.white.bit_length()} bits)"


Matrix = tuple[tuple[float, float], tuple[float, float]]
Channels = UInt8[np.ndarray, "_ _ 3"] | UInt16[np.ndarray, "_ _ 3"]


def apply_rotation(rgb: Channels, matrix: Matrix) -> Channels:
    """Returns the picture in the orientation in which it is to be shown."""
    (a, b), (c, d) = matrix
    x_sign, y_sign = a, d
    if swaps_sides(matrix):  # rows become columns
        rgb, x_sign, y_sign = rgb.transpose(1, 0, 2), c, b
    if x_sign > 0 and y_sign > 0 and rgb.strides[1] == 3:
        return rgb
    return np.ascontiguousarray(rgb[:: -1 if y_sign < 0 else 1, :: -1 if x_sign < 0 else 1])


def swaps_sides(matrix: Matrix) -> bool:
    """Returns whether the matrix swaps width and height: a quarter turn."""
    return abs(matrix[0][0]) < abs(matrix[0][1])


def display_matrix(frame: VideoFrame) -> Matrix:
    """Returns (a, b), (c, d): column x and row y of the stored frame are shown at x' = a x + c y, y' = b x + d y."""
    try:
        data = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18 raises when a frame has side data that it does not know, such as EXIF. The rotation (degrees
        # counter-clockwise) is still available; a mirrored frame stays mirrored.
        turn = math.radians(frame.rotation)
        return (math.cos(turn), -math.sin(turn)), (math.sin(turn), math.cos(turn))
    if data is None:
        return (1.0, 0.0), (0.0, 1.0)
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).astype(float).tolist()
    return (a, b), (c, d)


@dataclass(frozen=True, slots=True)
class DecodedPicture:
    """One decoded picture.

    Attributes:
        image: uint8 RGB [3 H W].
        index: frame number in the video.
        seconds: presentation time; None if the source has none.
        name: name of its file without the suffix; empty if it has none.
        pixel_aspect: width of a pixel divided by its height, as shown.
        ycbcr: the picture as the video stores it, see `Frame`.
        duration: seconds for which it is shown; None if the source does not state that.
    """

    image: Tensor
    index: int
    seconds: float | None
    name: str
    pixel_aspect: Fraction = Fraction(1)
    ycbcr: YCbCr | None = None
    duration: float | None = None

    def to_frame(self, num_frames: int | None) -> Frame:
        """Returns it as a frame of a video of so many frames; without a name, its number is the name."""
        name = self.name or frame_name(self.index, num_frames)
        return Frame(self.image, self.index, self.seconds, name, self.pixel_aspect, self.ycbcr, self.duration)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A frame that cannot be shown, and why; `ends` is True if all frames after it are missing."""

    why: FrameError
    index: int
    seconds: float | None = None
    name: str = ""
    ends: bool = False


Pictures = Generator[DecodedPicture | Damaged, None, None]


_VISIBLE = Fraction(1, 100)
"""Deviation from square pixels that is worth reporting: encoders round the aspect ratio of a picture."""


def is_anamorphic(pixel_aspect: Fraction) -> bool:
    """Returns whether pixels are visibly wider or narrower than square ones."""
    return bool(abs(pixel_aspect - 1) >= _VISIBLE)


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts about a video that are known before its first frame.

    Attributes:
        notes: sentences about what was left out or is ambiguous.
        levels: black and white level, if the video has more than 8 bits.
        pixel_aspect: width of a stored pixel divided by its height, as shown.
        num_frames: number of frames; None if it is uncertain.
        duration: duration in seconds; None if it is uncertain.
        suffix: suffix that all its files have, if each picture is a file; else empty.
        timed: whether frames may have times.
        footage: what videos made from it keep.
    """

    notes: tuple[str, ...] = ()
    levels: Levels | None = None
    pixel_aspect: Fraction = Fraction(1)
    num_frames: int | None = None
    duration: float | None = None
    suffix: str = ""
    timed: bool = True
    footage: Footage = Footage()

    @property
    def about(self) -> tuple[str, ...]:
        """How its pictures differ from those of most videos, in words."""
        aspect = self.pixel_aspect
        return (
            *((f"more than 8 bits: {self.levels}",) if self.levels else ()),
            *((f"pixel aspect ratio {aspect.numerator}:{aspect.denominator}",) if is_anamorphic(aspect) else ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the facts that differ from an ordinary video, as JSON types."""
        aspect = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
        return {
            **({"about": list(self.about)} if self.about else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"black": self.levels.black, "white": self.levels.white} if self.levels else {}),
            **({"pixel_aspect": aspect} if self.pixel_aspect != 1 else {}),
            **({"suffix": self.suffix} if self.suffix else {}),
        }


@runtime_checkable
class Source(Protocol):
    """A source of pictures.

    Attributes:
        name: short name for messages and file names.
        num_frames: number of frames, as the source states it; None if it does not.
        frames_per_second: average frame rate; None if there is none.
        repeatable: whether opening it again yields the same frames.
        facts: what else is known beforehand.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def num_frames(self) -> int | None: ...  # noqa: D102
    @property
    def frames_per_second(self) -> float | None: ...  # noqa: D102
    @property
    def repeatable(self) -> bool: ...  # noqa: D102
    @property
    def facts(self) -> SourceFacts: ...  # noqa: D102

    def pictures(self, start: int) -> Pictures:
        """Yields the pictures from number `start` on and every damaged frame, after which it continues if it can."""
        ...

    def close(self) -> None:
        """Releases files and devices."""
        ...


@runtime_checkable
class Readable(Protocol):
    """The part of an open binary file or pipe that a reader needs."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end of the file."""
        ...


@runtime_checkable
class ReadableFile(Readable, Protocol):
    """A `Readable` that must be closed by whoever opened it."""

    def close(self) -> None:
        """Closes the file."""
        ...


Event = Literal["dropped", "corrupt", "held", "skipped", "doubtful", "missing", "cut_off", "reconnects", "clock_jumps"]


@dataclass(frozen=True, slots=True)
class Noted:
    """How often an event occurred, and at which frames; of more than 100, the first 100."""

    count: int = 0
    frames: tuple[int, ...] = ()

    def within(self, begin: int, end: int) -> "Noted":
        """Returns the events from frame `begin` to before `end`; frames that are not listed count as within."""
        frames = tuple(frame for frame in self.frames if begin <= frame < end)
        return Noted(self.count - len(self.frames) + len(frames), frames)

    def __add__(self, later: "Noted") -> "Noted":
        return Noted(self.count + later.count, (self.frames + later.frames)[:MAX_NOTED])


@dataclass(frozen=True, slots=True)
class ReaderEvents:
    """Events while a video was read, each with the numbers of the frames.

    Attributes:
        dropped: frames of a live source that were overtaken by newer ones while an earlier one was in use.
        corrupt: frames that could not be decoded, or only with errors; each is also held or skipped.
        held: corrupt frames that were replaced by the last good one.
        skipped: corrupt frames that were left out.
        doubtful: frames after a corrupt one, up to the next key frame: they are predicted from it and may show it.
        missing: gaps in the numbering of a folder's files, each at the frame after it.
        cut_off: the frame at which a video ended earlier than its header states.
        reconnects: the first frame after each lost connection.
        clock_jumps: frames whose time is before that of the previous frame, or more than 10 seconds after it.
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
        """Returns the events that occurred, as JSON types: `{"dropped": {"count": 2, "frames": [7, 8]}}`."""
        return {name: {"count": n.count, "frames": list(n.frames)} for name, n in self._all().items() if n.count}

    def within(self, begin: int = 0, end: int = sys.maxsize) -> "ReaderEvents":
        """Returns the events from frame `begin` to before `end`; those beyond 100 of a kind all count as within."""
        return ReaderEvents(**{name: noted.within(begin, end) for name, noted in self._all().items()})

    def __add__(self, later: "ReaderEvents") -> "ReaderEvents":
        both = later._all()
        return ReaderEvents(**{name: noted + both[name] for name, noted in self._all().items()})

    def _all(self) -> dict[str, Noted]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class EventLog:
    """Collects events; any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[Event] = Counter()
        self._frames: dict[Event, list[int]] = {}

    def note(self, event: Event, frame: int) -> bool:
        """Records an event at a frame; returns whether it is one of the first 100 of its kind."""
        with self._lock:
            self._counts[event] += 1
            frames = self._frames.setdefault(event, [])
            first = len(frames) < MAX_NOTED
            if first:
                frames.append(frame)
            return first

    def clear(self) -> None:
        """Removes all events, since the video is read again."""
        with self._lock:
            self._counts.clear()
            self._frames.clear()

    def events(self) -> ReaderEvents:
        """Returns the events so far."""
        with self._lock:
            return ReaderEvents(**{event: Noted(n, tuple(self._frames[event])) for event, n in self._counts.items()})
