"""A video of any length with true masks from a short one, played forwards and backwards.

The scene returns to where it was: what a tracker has lost since is drift, and what a frame costs more is growth.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.copy_paste import to_and_fro
from mnemask.errors import InputError


def ping_pong(video: AnnotatedVideo, times: int) -> AnnotatedVideo:
    """Returns the video played forwards and backwards `times` times, with the masks it has in both directions.

    It begins and ends with the first frame, shows no frame twice in a row, and so has 2 · times · (frames - 1) + 1
    frames. No list of them is made.

    Raises:
        InputError: less than once, or a video of one frame.
    """
    if times < 1:
        raise InputError(f"{video.name} cannot be played forwards and backwards {times} times", "give 1 or more")
    if len(video.frames) < 2:
        raise InputError(f"{video.name} has {len(video.frames)} frame, so there is no way back", "give two or more")
    length = 2 * times * (len(video.frames) - 1) + 1
    return replace(
        video,
        frames=FoldedFrames(video.frames, length),
        masks=FoldedMasks(video.masks, len(video.frames), length),
    )


@dataclass(frozen=True, slots=True)
class FoldedFrames(Sequence[Path]):
    """The files of `once`, to and fro, up to a length."""

    once: Sequence[Path]
    length: int

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        places = range(self.length)[index]
        if isinstance(places, range):
            return tuple(self[place] for place in places)
        return self.once[to_and_fro(places, len(self.once))]

    def __len__(self) -> int:
        return self.length


@dataclass(frozen=True, slots=True, eq=False)
class FoldedMasks(Mapping[int, Path]):
    """The masks of `once`, a video of `num_frames`, wherever their frames are shown."""

    once: Mapping[int, Path]
    num_frames: int
    length: int

    def __getitem__(self, index: int) -> Path:
        if index not in range(self.length):
            raise KeyError(index)
        return self.once[to_and_fro(index, self.num_frames)]

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self.length) if to_and_fro(index, self.num_frames) in self.once)

    def __len__(self) -> int:
        period = 2 * (self.num_frames - 1)
        # A frame is passed on the way to the end and on the way back; at both ends these are one.
        ways = {(index, way) for index in self.once for way in (index, (period - index) % period)}
        return sum(len(range(way, self.length, period)) for _, way in ways)
