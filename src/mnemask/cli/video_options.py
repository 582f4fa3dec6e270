"""Options of the videos for editors, which `segment` and `render` share."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.parameters import P, in_panel, with_options

VideoFormat = Enum("VideoFormat", {name: name for name in choices.VIDEO_FORMAT_NAMES})  # type: ignore[misc]
VIDEOS: Any = None  # a command's placeholder default; `with_videos` passes the value made from the options
_PANEL = "Videos for editors"


def _video_option(kind: Any, *names: str, **more: Any) -> Any:
    return Annotated[kind, typer.Option(*names, rich_help_panel=_PANEL, **more)]


def _frames_per_second(text: str) -> float:
    """Returns the rate that the user gave, as a number or a fraction; raises BadParameter for anything else."""
    above, slash, below = text.partition("/")
    try:
        rate = float(above) / (float(below) if slash else 1)
    except (ValueError, ZeroDivisionError):
        rate = math.nan
    if not 0.01 <= rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a rate from 0.01 to 1000, such as 25, 29.97 or 30000/1001.")
    return rate


FpsOption = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="RATE",
        parser=_frames_per_second,
        help="Frames per second of videos of a folder of images, such as 24, 23.976 or 24000/1001. [default: that of "
        "the run, or 25]",
    ),
]
# By the name of the command's parameter; `video_outputs` turns them into VideoOutputs. docs/editors.md describes them.
VIDEO_OPTIONS: dict[str, tuple[Any, Any]] = {
    "as_": (
        _video_option(
            list[VideoFormat] | None,
            "--as",
            help="Also write a video, with the sound of the source: `prores` or `webm` (cut-outs with alpha), `matte` "
            "(black and white), `green` (green screen) or `overlay`. Repeatable.",
        ),
        None,
    ),
    "only": (
        _video_option(
            list[int] | None, "--only", metavar="ID", help="Cut out only this object. Repeatable. [default: all]"
        ),
        None,
    ),
    "background": (
        _video_option(str, "--background", metavar="COLOUR", help="Colour of the green screen: a name, or #RRGGBB."),
        "#00ff00",
    ),
    "smooth": (_video_option(int, "--smooth", metavar="N", help="Median over N frames: 3, 5, 7 or 9."), 1),
    "largest": (_video_option(bool, "--largest", help="Keep only the largest part of each object."), False),
    "fill_holes": (
        _video_option(str, "--fill-holes", metavar="PX|all", help="Fill holes of up to this many pixels."),
        "0",
    ),
    "grow": (_video_option(int, "--grow", min=0, metavar="PX", help="Grow objects by this many pixels."), 0),
    "shrink": (_video_option(int, "--shrink", min=0, metavar="PX", help="Shrink objects by this many pixels."), 0),
    "feather": (
        _video_option(float, "--feather", min=0, metavar="PX", help="Soften edges over this many pixels."),
        0.0,
    ),
    "fps": (in_panel(FpsOption, _PANEL), None),
}


def video_outputs(options: dict[str, Any]) -> Any:
    """Returns the VideoOutputs for these options; raises InputError for invalid values."""
    from PIL import ImageColor

    from mnemask.io.edges import ALL, Cutout, Edges
    from mnemask.pipeline import VideoOutputs

    try:
        background = ImageColor.getrgb(options["background"])[:3]
    except ValueError:
        raise mm.InputError(
            f"--background {options['background']!r} is not a colour", "expected a name, such as green, or #00ff00"
        ) from None
    holes = options["fill_holes"]
    if not (holes == "all" or holes.isdecimal()):
        raise mm.InputError(f"--fill-holes {holes!r} is not a size", "expected pixels, such as 200, or all")
    if options["grow"] and options["shrink"]:
        raise mm.InputError("--grow and --shrink are opposites", "give one of them")
    edges = Edges(
        options["smooth"],
        options["largest"],
        ALL if holes == "all" else int(holes),
        options["grow"] - options["shrink"],
        options["feather"],
    )
    kinds = tuple(dict.fromkeys(kind.value for kind in options["as_"] or ()))
    return VideoOutputs(kinds, Cutout(tuple(options["only"] or ()), background, edges), options["fps"])


def with_videos(function: Callable[P, None]) -> Callable[P, None]:
    """Replaces a command's parameter `videos` by the options of videos, from which its value is made."""
    return with_options("videos", VIDEO_OPTIONS, video_outputs)(function)
