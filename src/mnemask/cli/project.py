"""`mnemask project`: the studio without a window: prompts at any frame, tracked both ways, corrections, replay."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, locks_out
from mnemask.cli.inputs import ObjectOption, of_masks
from mnemask.cli.options import ModelOption, PolicyOption, SizeOption, chosen_policy
from mnemask.cli.output import emit, errors, say
from mnemask.cli.parameters import with_given
from mnemask.cli.video_options import FpsOption

if TYPE_CHECKING:
    from mnemask.project import State
    from mnemask.project.corrections import Mark
    from mnemask.types import ObjectInfo

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
    fps: FpsOption = None,
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
    from mnemask.prompts import parse_objects

    if (at or mask) and (stored or keep or (at and mask)):
        raise mm.InputError("--at and --mask compute new masks", "give one of them, without --stored and --keep")
    if stored and keep:
        raise mm.InputError("--stored computes nothing", "leave out --keep")
    request = _Request(
        folder=folder,
        out=out,
        video=video,
        at=at or (),
        mask=mask,
        infos=parse_objects(object_ or ()),
        settings={"policy": chosen_policy(policy), "frames": frames, "size": size, "model": model},
        given=given,
        stored=stored,
        mask_format=format.value,
        overlay=overlay,
        fps=fps,
        keep=keep,
        overwrite=overwrite,
    )
    # All checks run before anything is marked, computed or removed.
    state = request.known_state()
    marks = request.checked_marks(state)
    if state is not None:
        request.follow_moved_video()
    if request.corrects:
        request.export(request.corrected(marks, is_new=state is None))
    elif stored:
        request.export(mm.Project(folder))
    else:
        request.export_repeated()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The options of one call.

    Attributes:
        infos: classes and names of objects, by id.
        settings: the settings for a new project.
        given: the names of the options set on the command line.
    """

    folder: Path
    out: Path
    video: Path | None
    at: Sequence[str]
    mask: Path | None
    infos: Mapping[int, ObjectInfo]
    settings: Mapping[str, Any]
    given: Collection[str]
    stored: bool
    mask_format: str
    overlay: bool
    fps: float | None
    keep: Path | None
    overwrite: bool

    @property
    def corrects(self) -> bool:
        """Whether masks are given, so that the project changes."""
        return bool(self.at or self.mask)

    def known_state(self) -> State | None:
        """Returns the state of the project, None if it is to be made; raises InputError if other settings are given."""
        from mnemask.project import state_of

        if self.corrects and self.video and not (self.folder / "project.json").exists():
            return None
        state = state_of(self.folder)
        chosen = {name: value for name, value in self.settings.items() if name in self.given}
        _refuse_other(self.folder, self.video if self.corrects or self.stored else None, chosen, state.settings)
        return state

    def checked_marks(self, state: State | None) -> list[Mark]:
        """Returns the masks of --at, after checks of the video, the place of the export, and the objects."""
        from mnemask.io.random_access import FrameAccess
        from mnemask.project import check_export, source_of
        from mnemask.project.corrections import read_marks
        from mnemask.prompts import refuse_unknown

        source = self.video or source_of(self.folder)
        if self.video is None and not source.exists() and not glob.has_magic(str(source)):
            raise mm.InputError(
                f"the project's video is no longer at {str(source)!r}", "give its new path with --video, or put it back"
            )
        with FrameAccess(source) as pictures:
            projects = [self.folder, *([self.keep] if self.keep else [])]
            check_export(
                *(pictures, source, self.out, projects, self.mask_format),
                overlay=self.overlay,
                overwrite=self.overwrite,
                frames_per_second=self.fps,
            )
            marks = read_marks(self.at, pictures, state)
        known = {*(state.objects if state else ()), *(mark.object_id for mark in marks)}
        if not self.mask:
            refuse_unknown(self.infos, known)
        return marks

    def follow_moved_video(self) -> None:
        """Makes an existing project remember where its video is now, unless --video is one to repeat it on."""
        from mnemask.project import follow_video, source_of

        if self.video and (self.corrects or self.stored) and not source_of(self.folder).exists():
            follow_video(self.folder, self.video.resolve())

    def corrected(self, marks: list[Mark], *, is_new: bool) -> mm.Project:
        """Returns the project, made if it is new, after setting the given masks and tracking from them."""
        from mnemask.project.corrections import correct, set_corrections, set_marks

        def set_keys(project: mm.Project) -> list[int]:
            return set_corrections(project, self.mask, self.infos) if self.mask else set_marks(project, marks)

        with errors.status("tracking …") as status:
            made = mm.Project.create(self.folder, self.video, **self.settings) if is_new and self.video else None
            project = made or mm.Project(self.folder)
            try:
                given = ", ".join(of_masks(self.mask))
                correct(project, set_keys, lambda frame: status.update(f"frame {frame.index}"), given)
            except BaseException:
                project.close()
                raise
        return project

    def export_repeated(self) -> None:
        """Repeats the project in the folder of --keep or in a temporary one, and exports that."""
        from mnemask.project import replay

        with tempfile.TemporaryDirectory(prefix="mnemask-") as scratch, errors.status("repeating …") as status:
            self.export(
                replay(
                    self.folder,
                    self.keep or Path(scratch) / "project",
                    source=self.video,
                    on_frame=lambda report, frame: status.update(f"pass {report.number}, frame {frame.index}"),
                )
            )

    def export(self, project: mm.Project) -> None:
        """Names the objects of a project, writes its masks, says which files were written, and closes it."""
        from mnemask.project import export_project

        with project:
            project.name_objects(self.infos)
            paths = export_project(
                project,
                self.out,
                mask_format=self.mask_format,
                overlay=self.overlay,
                overwrite=self.overwrite,
                frames_per_second=self.fps,
            )
        for path in paths:
            say(str(path))
        emit("result", command="project", out=str(self.out), files=[str(path) for path in paths])


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
