"""`mnemask project`: what the studio does without a window: prompts at any frame, both ways, corrections, replay."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command
from mnemask.cli.inputs import ObjectOption
from mnemask.cli.options import ModelOption, PolicyOption, SizeOption, chosen_policy
from mnemask.cli.output import console, emit, errors

EXPORTED = (*choices.MASK_FORMAT_NAMES, *(name for name in choices.VIDEO_FORMAT_NAMES if name != "overlay"))
ProjectFormat = Enum("ProjectFormat", {name: name for name in EXPORTED})  # type: ignore[misc]


@command
def project(
    folder: Annotated[
        Path, typer.Argument(help="Folder of one project, as the studio leaves it; made by --video with --at.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for masks/ (cutout.mov and the like too) and overlay.mp4.")
    ],
    video: Annotated[
        Path | None,
        typer.Option(
            "--video", help="Video of a new project, or another one of the same size and length to repeat on."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="FRAME[:ID]=MASK",
            help="Mark objects in a frame and track from there both ways; in a project that exists, correct it and go "
            "on. Repeatable.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            help="Folder of masks, or the file of CVAT, COCO, Label Studio or labelme: what it changes is corrected.",
        ),
    ] = None,
    object_: ObjectOption = None,
    policy: PolicyOption = choices.DEFAULT_POLICY,
    frames: Annotated[float, typer.Option("--frames", min=1, help="Memory budget of a new project, in frames.")] = 2.0,
    size: SizeOption = 480,
    model: ModelOption = "compact",
    stored: Annotated[
        bool, typer.Option("--stored", help="Write the masks that are stored, without computing them again.")
    ] = False,
    format: Annotated[
        ProjectFormat,
        typer.Option(
            help="`png` indexed, `ffv1` lossless video, `rgba` cut-outs, `rle` COCO JSON, `parquet` a file an hour; "
            "`prores`, `webm`, `matte`, `green` videos for editors."
        ),
    ] = ProjectFormat["png"],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Keep the replayed project in this folder; by default it is deleted.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in OUT.")] = False,
) -> None:
    """Repeat a session of the studio, or make one: masks in any frames, tracked both ways, corrected, exported.

    **Examples**

    `mnemask project cut --video camel.mp4 --at 40:1=camel.png -o out  # tracks forwards and backwards from frame 40`

    `mnemask project cut --at 70:1=better.png
    -o out --overwrite  # corrects frame 70 and goes on; the mask is remembered`

    `mnemask project cut --mask annotations.xml
    -o out --overwrite  # takes back what was corrected in CVAT, and goes on`

    `mnemask project cut --stored --object 1=camel -o out
    --format rle  # says what object 1 is, and writes COCO with it`

    `mnemask project mnemask-projects/camel -o out --format rle  # computes all masks again`

    `mnemask project mnemask-projects/camel -o out --stored  # writes those that the session left`
    """
    from mnemask.project import export_project, replay, set_corrections
    from mnemask.prompts import parse_objects

    infos = parse_objects(object_ or ())

    def export(which: mm.Project) -> None:
        with which:
            which.name_objects(infos)
            paths = export_project(which, out, mask_format=format.value, overlay=overlay, overwrite=overwrite)
        for path in paths:
            console.print(str(path), markup=False, soft_wrap=True)
        emit("result", command="project", out=str(out), files=[str(path) for path in paths])

    if (out / "masks").exists() and not overwrite:  # before anything is computed
        raise mm.InputError(
            f"{str(out / 'masks')!r} exists already", "give another folder, or overwrite it (--overwrite)"
        )
    if at or mask:
        if stored or keep or (at and mask):
            raise mm.InputError("--at and --mask compute new masks", "give one of them, without --stored and --keep")
        settings = {"policy": chosen_policy(policy), "frames": frames, "size": size, "model": model}
        with errors.status("tracking …") as status:
            marked = _opened(folder, video, settings)
            try:
                if at:
                    _mark_and_track(marked, at, lambda frame: status.update(f"frame {frame.index}"))
                elif mask and (changed := set_corrections(marked, mask)):
                    _track(marked, changed, lambda frame: status.update(f"frame {frame.index}"))
            except BaseException:
                marked.close()
                raise
        export(marked)
        return
    if stored:
        if video or keep:
            raise mm.InputError("--stored computes nothing", "leave out --video and --keep")
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


def _opened(folder: Path, video: Path | None, settings: dict[str, Any]) -> mm.Project:
    """Returns the project in a folder, made of a video where there is none."""
    if (folder / "project.json").exists() or video is None:
        return mm.Project(folder)
    return mm.Project.create(folder, video, **settings)


def _mark_and_track(project: mm.Project, at: Sequence[str], on_frame: Callable[[mm.Frame], None]) -> None:
    """Sets the masks of frames, and tracks from them both ways."""
    from mnemask.prompts import parse_at

    marks = [parse_at(text) for text in at]
    found = [(mark, mm.read_mask(mark.path, project.frames.size)) for mark in marks]
    for mark, masks in found:
        if mark.object_id is not None and len(masks) > 1:
            raise mm.InputError(f"mask {mark.path} marks {len(masks)} objects, and one id is given", "leave the id out")
        for object_id, mask in masks.items():
            number = mark.object_id or object_id
            if number not in project.state.objects:
                project.add_object(object_id=number)
            project.set_key(mark.frame, number, mask)
    _track(project, (mark.frame for mark in marks), on_frame)


def _track(project: mm.Project, marked: Iterable[int], on_frame: Callable[[mm.Frame], None]) -> None:
    """Tracks from the first of the marked frames to the end, then backwards from each that shows an object first."""
    first, *later = sorted(set(marked))
    project.track(first, on_frame=lambda report, frame: on_frame(frame))
    keys = project.state.keys
    begins: dict[int, int] = {}
    for at, object_id in sorted(keys):
        begins.setdefault(object_id, at)
    for start in (first, *sorted(set(begins.values()).intersection(later))):
        shown = project.labels(start).unique().tolist()
        ids = [i for i in project.state.keys_at(start) if i in shown and (start - 1, i) not in keys]
        if start > first:  # what was marked earlier has been tracked up to here
            ids = [i for i in ids if begins[i] == start]
        if ids and start and not project.state.is_accepted(start - 1):
            project.track(start, "backward", to="key", objects=ids, on_frame=lambda report, frame: on_frame(frame))
