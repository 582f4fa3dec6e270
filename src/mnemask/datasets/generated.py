"""What all generated video has in common: it is as long as asked for, and each moment follows from its number alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

from mnemask.errors import InputError
from mnemask.video.limits import MAX_PIXELS, MAX_SIDE

FRAMES_PER_SECOND = 25

Moment = TypeVar("Moment")


class GeneratedVideo(ABC, Generic[Moment]):
    """Moments, `video[i]`, each drawn when it is asked for.

    Args:
        num_frames: the length.
        size: height and width, at least 48 each; at most 16384 each, and 67 megapixels.
        num_objects: 1 to `max_objects`.
        seed: 0 or more.

    Raises:
        InputError: a size, length, seed or number of objects that cannot be drawn.
    """

    max_objects: int

    def __init__(self, num_frames: int, size: tuple[int, int], num_objects: int, seed: int) -> None:
        if num_frames < 1:
            raise InputError(f"a video of {num_frames} frames cannot be drawn; give at least 1")
        if min(size) < 48:
            raise InputError(f"a video of {size[1]}x{size[0]} pixels is too small for objects; give at least 48 a side")
        if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
            raise InputError(
                f"a video of {size[1]}x{size[0]} pixels is too large to draw; give at most {MAX_SIDE} a side and "
                f"{MAX_PIXELS // 10**6} megapixels"
            )
        if not 1 <= num_objects <= self.max_objects:
            raise InputError(f"{num_objects} objects cannot be drawn; give 1 to {self.max_objects}")
        if seed < 0:
            raise InputError(f"seed {seed} is negative; give 0 or more")
        self.num_frames, self.size, self.num_objects = num_frames, size, num_objects

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> Moment:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a video of {self.num_frames}")
        return self.draw(index)

    def __iter__(self) -> Iterator[Moment]:
        return (self[index] for index in range(self.num_frames))

    @abstractmethod
    def draw(self, index: int) -> Moment:
        """Returns the moment of a frame that the video has."""
