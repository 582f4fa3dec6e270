"""`mnemask project`: the studio without a window: prompts at any frame, tracked both ways, corrections, replay."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Collection, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, locks_out
from mnemask.cli.inputs import ObjectOption
from mnemask.cli.options import ModelOption, PolicyOption, SizeOption, chosen_policy, with_given
from mnemask.cli.output import console, emit, errors

EXPORTED = (*choices.MASK_FORMAT_NAMES, *(name for name in choices.VIDEO_FORMAT_NAMES if name != "overlay"))
ProjectFormat = Enum("ProjectFormat", {name: name for name in EXPORTED})  # type: ignore[misc]


@command
@locks_out
@with_given
def project(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a project of the studio; created by --video with --at or --mask.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for masks/, cutout.mov and similar videos, and overlay.mp4.")
    ],
    video: Annotated[
        Path | None,
        typer.Option(
            "--video",
            help="Video of a new project; the new path of an existing project's video; or another video of the same "
            "size and length on which to repeat the project.",
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="FRAME[:ID]=MASK",
            help="Mark objects in a frame and track them both ways from there; in an existing project, correct the "
            "frame and track on. Repeatable.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            help="Folder of masks, or file of CVAT, COCO, Label Studio or labelme: masks that differ become "
            "corrections.",
        ),
    ] = None,
    object_: ObjectOption = None,
    policy: PolicyOption = choices.DEFAULT_POLICY,
    frames: Annotated[float, typer.Option("--frames", min=1, help="Memory budget of a new project, in frames.")] = 2.0,
    size: SizeOption = 480,
    model: ModelOption = "compact",
    stored: Annotated[
        bool, typer.Option("--stored", help="Write the stored masks, without computing them again.")
    ] = False,
    format: Annotated[
        ProjectFormat,
        typer.Option(
            help="`png` (indexed), `ffv1` (lossless video), `rgba` (cut-outs), `rle` (COCO JSON), `parquet` (one file "
            "per hour of video); or a video for editors: `prores`, `webm`, `matte` or `green`."
        ),
    ] = ProjectFormat["png"],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the repeated project in this folder. [default: it is deleted]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
    given: Collection[str] = (),
) -> None:
    """Repeat a project of the studio, or make one: masks in any frames, tracked both ways, corrected, exported.

    **Examples**

    `mnemask project cut --video camel.mp4 --at 40:1=camel.png -o out  # tracks forwards and backwards from frame 40`

    `mnemask project cut --at 70:1=better.png
    -o out --overwrite  # corrects frame 70 and tracks on; the project keeps the mask`

    `mnemask project cut --mask annotations.xml
    -o out --overwrite  # imports corrections made in CVAT, and tracks on`

    `mnemask project cut --stored --object 1=camel -o out
    --format rle  # names object 1, and writes COCO`

    `mnemask project mnemask-projects/camel -o out --format rle  # computes all masks again`

    `mnemask project mnemask-projects/camel -o out --stored  # writes the stored ones`
    """
    from mnemask.io.random_access import FrameAccess
    from mnemask.project import check_export, export_project, follow_video, replay, source_of, state_of
    from mnemask.project.corrections import correct, read_marks, set_corrections, set_marks
    from mnemask.prompts import parse_objects, refuse_unknown

    if (at or mask) and (stored or keep or (at and mask)):
        raise mm.InputError("--at and --mask compute new masks", "give one of them, without --stored and --keep")
    if stored and keep:
        raise mm.InputError("--stored computes nothing", "leave out --keep")
    infos = parse_objects(object_ or ())
    settings: dict[str, Any] = {"policy": chosen_policy(policy), "frames": frames, "size": size, "model": model}
    is_new = bool((at or mask) and video) and not (folder / "project.json").exists()
    state = None if is_new else state_of(folder)
    if state is not None:
        chosen = {name: value for name, value in settings.items() if name in given}
        _refuse_other(folder, video if at or mask or stored else None, chosen, state.settings)
    source = video or source_of(folder)
    if video is None and not source.exists() and not glob.has_magic(str(source)):
        raise mm.InputError(
            f"the project's video is no longer at {str(source)!r}", "give its new path with --video, or put it back"
        )
    # All checks run before anything is marked, computed or removed.
    with FrameAccess(source) as pictures:
        projects = [folder, *([keep] if keep else [])]
        check_export(pictures, source, out, projects, format.value, overlay=overlay, overwrite=overwrite)
        marks = read_marks(at or (), pictures, state)
    known = {*(state.objects if state else ()), *(mark.object_id for mark in marks)}
    if not mask:
        refuse_unknown(infos, known)

    def export(which: mm.Project) -> None:
        with which:
            which.name_objects(infos)
            paths = export_project(which, out, mask_format=format.value, overlay=overlay, overwrite=overwrite)
        for path in paths:
            console.print(str(path), markup=False, soft_wrap=True)
        emit("result", command="project", out=str(out), files=[str(path) for path in paths])

    if state is not None and video and (at or mask or stored) and not source_of(folder).exists():
        follow_video(folder, video.resolve())
    if at or mask:
        with errors.status("tracking …") as status:
            marked = mm.Project.create(folder, source, **settings) if is_new else mm.Project(folder)
            try:
                correct(
                    marked,
                    (lambda one: set_corrections(one, mask, infos)) if mask else (lambda one: set_marks(one, marks)),
                    on_frame=lambda frame: status.update(f"frame {frame.index}"),
                )
            except BaseException:
                marked.close()
                raise
        export(marked)
        return
    if stored:
        export(mm.Project(folder))
        return
    with tempfile.TemporaryDirectory(prefix="mnemask-") as scratch, errors.status("repeating …") as status:
        export(
            replay(
                folder,
                keep or Path(scratch) / "project",
                source=video,
                on_frame=lambda report, frame: status.update(f"pass {report.number}, frame {frame.index}"),
            )
        )


def _refuse_other(folder: Path, video: Path | None, chosen: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raises InputError for a video or a setting that differs from the project's own."""
    from mnemask.project import is_of

    if video is not None and not is_of(folder, video):
        raise mm.InputError(
            f"{str(folder)!r} is a project of another video than {str(video)!r}",
            "leave out --video, or give a folder for a new project",
        )
    for name, value in chosen.items():
        if value != (known := own.get(name)):
            raise mm.InputError(
                f"{str(folder)!r} has --{name} {known}, but {value} is given",
                f"leave out --{name}, or make a new project",
            )
