"""`mnemask inspect`: writes pictures of what is in memory, and of the tokens that a pixel was read from."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli import inputs
from mnemask.cli.app import command, locks_out
from mnemask.cli.inputs import PROMPTS, PromptOptions, with_prompts
from mnemask.cli.options import (
    CONFIG,
    DeviceOption,
    ModelOption,
    configured,
    in_panels,
)
from mnemask.cli.output import emit, say
from mnemask.cli.progress import progress


@command
@locks_out
@in_panels()
@with_prompts("object_")
@configured()
def inspect(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures and memory.json.")],
    video: Annotated[
        str | None, typer.Argument(help="A video file, or a folder or quoted glob of images; read twice.")
    ] = None,
    bank: Annotated[
        Path | None, typer.Option(help="Show the memory in a file of Tracker.save, on the frames of VIDEO if given.")
    ] = None,
    prompts: PromptOptions = PROMPTS,
    at_frame: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Show the memory after this frame. Repeatable. [default: the last]"),
    ] = None,
    pixel: Annotated[
        list[str] | None, typer.Option(help="x,y of a pixel in that frame: show what it was read from. Repeatable.")
    ] = None,
    model: ModelOption = "compact",
    config: mm.TrackerConfig = CONFIG,
    device: DeviceOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Overwrite an earlier inspection in the folder.")
    ] = False,
) -> None:
    """Show which past pixels are in memory, and from which of them a pixel was read.

    **Examples**

    `mnemask inspect street.mp4 --mask first.png --at-frame 120 --pixel 300,200 -o look`

    `mnemask inspect --bank street.bank -o look  # needs no video; with one, its frames are shown`
    """
    from mnemask.inspection import inspect_bank, inspect_video

    if bank is not None:
        if prompts.any or at_frame or pixel:
            raise mm.InputError(
                "a saved memory is shown as it is, without prompts",
                "leave out --mask, --box, --click, --not, --at, --remove, --at-frame and --pixel",
            )
        with nullcontext() if video is None else mm.VideoReader(video) as reader:
            written = inspect_bank(bank, out, reader, overwrite=overwrite)
    else:
        video = repeatable(video)
        pixels = [parse_pixel(text) for text in pixel or []]
        plan = prompts.plan(video)
        tracker = mm.Tracker(mm.load_model(model, device=device), config)
        plan.prepare(tracker.model)
        plan.say_notes()
        settings = {
            "video": inputs.of_video(video, growing=False),
            "model": model,
            **tracker.config.to_dict(),
        }
        with mm.VideoReader(video, masks=prompts.files()) as reader, progress() as show:
            written = inspect_video(
                reader,
                tracker,
                plan,
                out,
                at_frames=at_frame or (),
                pixels=pixels,
                overwrite=overwrite,
                settings=settings,
                on_frame=lambda frame: show(frame.index + 1, reader.num_frames, f"frame {frame.index}", unit="frames"),
            )
    emit("result", command="inspect", out=str(out), files=[str(path) for path in written])
    for path in written:
        say(str(path))


def repeatable(video: str | None) -> str:
    """Returns the video if it can be read twice; raises InputError for any other source, or if it is missing."""
    if video is None:
        raise mm.InputError("there is nothing to inspect", "give a VIDEO with --mask FIRST.png, or --bank FILE")
    if not inputs.is_repeatable(video):
        raise mm.InputError(
            f"{inputs.shown(video)} gives its frames only once, but they are needed again", "save it to a file"
        )
    return video


def parse_pixel(text: str) -> tuple[int, int]:
    """Returns x and y from "x,y"; raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise mm.InputError(
            f"pixel {text[:40]!r} is not x,y in whole pixels", "give x,y from the top left, such as 300,200"
        )
    return int(parts[0]), int(parts[1])
