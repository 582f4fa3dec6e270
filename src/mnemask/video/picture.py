"""What every source of a video gives: pictures, one at a time, and what it says where there is none."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from mnemask.errors import FrameError


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture: uint8 RGB [3 H W], its number in the video, its time and its name where it has them."""

    image: Tensor
    index: int
    seconds: float | None
    name: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """A frame that cannot be shown, and why; `ends` where all frames after it are missing."""

    why: FrameError
    index: int
    seconds: float | None = None
    name: str = ""
    ends: bool = False


Pictures = Generator[Picture | Damaged, None, None]


@runtime_checkable
class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: short, for messages and file names.
        num_frames: as the source states it; None where it does not.
        frames_per_second: the average; None where there is none.
        repeatable: whether the same frames come when it is opened again.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def num_frames(self) -> int | None: ...  # noqa: D102
    @property
    def frames_per_second(self) -> float | None: ...  # noqa: D102
    @property
    def repeatable(self) -> bool: ...  # noqa: D102

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
