"""What every source of a video gives: pictures, one at a time, no larger than can be meant."""

from collections.abc import Generator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from mnemask.errors import FrameError

MAX_SIDE = 16_384
# 8192 x 8192, twice 8K video; below the size at which Pillow starts to warn.
MAX_PIXELS = 2**26


class Picture(NamedTuple):
    """One decoded picture: uint8 RGB [3 H W], its time where the source has one, its name where it is a file."""

    image: Tensor
    seconds: float | None
    name: str


@runtime_checkable
class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: short, for messages and file names.
        num_frames: as the source states it; None where it does not.
        frames_per_second: the average; None where there is none.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def num_frames(self) -> int | None: ...  # noqa: D102
    @property
    def frames_per_second(self) -> float | None: ...  # noqa: D102

    def pictures(self, start: int) -> Generator[Picture, None, None]:
        """Yields the pictures from number `start` on; raises FrameError where they break off."""
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


def check_size(width: int, height: int, what: str) -> None:
    """Raises FrameError for a size that a header can claim but no video has."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise FrameError(
            f"{what!r} claims {width}x{height} pixels; expected 1 to {MAX_SIDE} a side and at most "
            f"{MAX_PIXELS // 10**6} megapixels, so shrink it first"
        )
