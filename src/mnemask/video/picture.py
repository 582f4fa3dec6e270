"""What every source of a video gives: pictures, one at a time, and what it says where there is none."""

from collections.abc import Generator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mnemask.errors import FrameError
from mnemask.video.levels import Levels


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.

    Attributes:
        image: uint8 RGB [3 H W].
        index: its number in the video.
        seconds: when it is shown; None where the source does not say.
        name: of its file; empty where it has none.
        pixel_aspect: how many times as wide as high a pixel is shown.
    """

    image: Tensor
    index: int
    seconds: float | None
    name: str
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A frame that cannot be shown, and why; `ends` where all frames after it are missing."""

    why: FrameError
    index: int
    seconds: float | None = None
    name: str = ""
    ends: bool = False


Pictures = Generator[Picture | Damaged, None, None]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a video before its first frame, and should be said.

    Attributes:
        notes: sentences about what was left out, or may be meant in another way.
        levels: the values that are black and white, where there are more than 8 bits.
        pixel_aspect: how many times as wide as high a stored pixel is shown.
        num_frames: how many frames there are; None where that is not sure.
        duration: how long it lasts, in seconds; None where that is not sure.
        timed: whether frames may have times.
    """

    notes: tuple[str, ...] = ()
    levels: Levels | None = None
    pixel_aspect: Fraction = Fraction(1)
    num_frames: int | None = None
    duration: float | None = None
    timed: bool = True

    @property
    def about(self) -> tuple[str, ...]:
        """How its pictures differ from those of most videos, in words."""
        aspect = self.pixel_aspect
        return (
            *((f"more than 8 bits: {self.levels}",) if self.levels else ()),
            *((f"pixels are shown {aspect.numerator}:{aspect.denominator} wide",) if aspect != 1 else ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what differs from an ordinary video, as JSON can hold it."""
        aspect = f"{self.pixel_aspect.numerator}:{self.pixel_aspect.denominator}"
        return {
            **({"about": list(self.about)} if self.about else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"black": self.levels.black, "white": self.levels.white} if self.levels else {}),
            **({"pixel_aspect": aspect} if self.pixel_aspect != 1 else {}),
        }


@runtime_checkable
class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: short, for messages and file names.
        num_frames: as the source states it; None where it does not.
        frames_per_second: the average; None where there is none.
        repeatable: whether the same frames come when it is opened again.
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
        """Yields the pictures from number `start` on, and every damage; goes on after it where it can."""
        ...

    def close(self) -> None:
        """Lets go of files and devices."""
        ...


@runtime_checkable
class Readable(Protocol):
    """An open binary file or pipe, as far as a reader needs one."""

    def read(self, size: int, /) -> bytes:
        """Returns up to `size` bytes; none at the end."""
        ...


@runtime_checkable
class ReadableFile(Readable, Protocol):
    """One that whoever opened it must close."""

    def close(self) -> None:
        """Closes it."""
        ...
