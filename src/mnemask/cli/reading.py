"""Options of reading a video, which commands that track share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnemask as mm
from mnemask.cli.parameters import P, with_options

if TYPE_CHECKING:
    from mnemask.prompts import PromptPlan

OnCorrupt = Enum("OnCorrupt", {"stop": "stop", "skip": "skip", "hold": "hold"})
# By the name of the command's parameter; `VideoReading` is made from them.
READING_OPTIONS: dict[str, tuple[Any, Any]] = {
    "live": (Annotated[bool, typer.Option("--live", help="Drop frames to keep up with a camera.")], False),
    "follow": (Annotated[bool, typer.Option("--follow", help="The file or folder is still being written.")], False),
    "on_corrupt": (
        Annotated[OnCorrupt, typer.Option(help="At a damaged frame: stop, skip it, or hold the previous frame.")],
        OnCorrupt["stop"],
    ),
    "reconnect": (
        Annotated[
            float, typer.Option(min=0, help="Seconds to keep trying when the connection to a camera or address breaks.")
        ],
        0.0,
    ),
    "start": (
        Annotated[
            str,
            typer.Option(
                help="First frame to read, and the frame of the --mask image: a number from 0, or a time (12.5s, "
                "00:01:30)."
            ),
        ],
        "0",
    ),
    "stop": (
        Annotated[str | None, typer.Option(help="Frame or time to stop before. Frames keep their numbers.")],
        None,
    ),
}


@dataclass(frozen=True, slots=True)
class VideoReading:
    """How a video is read, as given by the user."""

    live: bool
    follow: bool
    on_corrupt: str
    reconnect: float
    start: str
    stop: str | None

    @property
    def begins_later(self) -> bool:
        """Whether reading begins after the first frame of the video."""
        return self.start != "0"

    def open(self, video: str, start: int | None, masks: Sequence[Path], originals: bool) -> mm.VideoReader:
        """Opens the video.

        Args:
            video: the video as given by the user.
            start: the first frame to read, overriding the user's; None keeps that one.
            masks: files and folders that hold masks, not frames.
            originals: whether frames are needed as they are stored.
        """
        return mm.VideoReader(
            video,
            start=self.start if start is None else start,
            stop=self.stop,
            live=self.live,
            follow=self.follow,
            on_corrupt=self.on_corrupt,
            reconnect=self.reconnect,
            masks=masks,
            originals=originals,
        )

    def check(self, plan: PromptPlan, video: str, masks: Sequence[Path]) -> None:
        """Raises InputError if masks or clicks do not fit the video; a fault of the video itself is left to the run."""
        from mnemask.errors import FrameError
        from mnemask.io.storage import is_address
        from mnemask.pipeline.expected import Expected

        self.refuse_beyond(plan)
        if is_address(video):
            return
        try:
            with self.open(video, 0, masks, originals=False) as reader:
                expected, frame = Expected.of(reader), next(iter(reader), None)
        except FrameError:
            return
        expected.refuse_beyond(plan.to_come)
        if frame is not None:
            plan.check_sizes(frame)

    def refuse_beyond(self, plan: PromptPlan) -> None:
        """Raises InputError if masks are given for frames from --stop on; not checked if --stop is a time."""
        from mnemask.io.reader import Position
        from mnemask.prompts.plan import beyond_the_end

        end = None if self.stop is None else Position.of(self.stop).frame
        if end is not None and (beyond := [frame for frame in plan.to_come if frame >= end]):
            raise beyond_the_end(min(beyond), end, stop=self.stop)


def _reading(options: dict[str, Any]) -> VideoReading:
    return VideoReading(**{**options, "on_corrupt": options["on_corrupt"].value})


READING: Any = None  # a command's placeholder default; `with_reading` passes the value made from the options


def with_reading(function: Callable[P, None]) -> Callable[P, None]:
    """Replaces a command's parameter `reading` by the options of reading, from which its value is made."""
    return with_options("reading", READING_OPTIONS, _reading)(function)
