"""`mnemask project`: a session of the studio repeated without a window, or its masks written as other programs want."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, console, errors

ProjectFormat = Enum("ProjectFormat", {name: name for name in choices.MASK_FORMAT_NAMES})  # type: ignore[misc]


@command
def project(
    folder: Annotated[Path, typer.Argument(help="Folder of one project, as the studio or mm.Project leaves it.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for masks/ and overlay.mp4.")],
    video: Annotated[
        Path | None, typer.Option("--video", help="Another video of the same size and length. [default: the same]")
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Write the masks that are stored, without computing them again.")
    ] = False,
    format: Annotated[
        ProjectFormat, typer.Option(help="`png` indexed, `ffv1` lossless video, `rgba` cut-outs, `rle` COCO JSON.")
    ] = ProjectFormat["png"],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Folder for the repeated project; without, it is thrown away.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Repeat a session: every key, pass of tracking and correction, in the order in which they were made.

    **Examples**

    `mnemask project mnemask-projects/camel -o out --format rle` computes all masks again.

    `mnemask project mnemask-projects/camel -o out --stored` writes those that the session left.
    """

    def export(which: mm.Project) -> None:
        with which:
            for path in mm.export_project(which, out, mask_format=format.value, overlay=overlay, overwrite=overwrite):
                console.print(str(path), markup=False, soft_wrap=True)

    if stored:
        if video or keep:
            raise mm.InputError("--stored computes nothing", "leave out --video and --keep")
        export(mm.Project(folder))
        return
    with tempfile.TemporaryDirectory(prefix="mnemask-") as scratch, errors.status("repeating …") as status:
        export(
            mm.replay(
                folder,
                keep or Path(scratch) / "project",
                source=video,
                on_frame=lambda report, frame: status.update(f"pass {report.number}, frame {frame.index}"),
            )
        )
