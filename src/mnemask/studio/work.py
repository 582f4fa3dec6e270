"""The work of the studio's jobs: tracking passes and exports."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Literal

import mnemask as mm
from mnemask.errors import OutputError
from mnemask.project import NoFrameLeftError, PassReport
from mnemask.studio.exports import EXPORTS, UNFINISHED, Write, files_of, main_files, remove_unfinished
from mnemask.studio.jobs import Event, Job, warnings_heard


class _StoppedError(Exception):
    """An export was stopped by the user, or by a change of the masks."""


def track(
    project: mm.Project,
    job: Job,
    changed: Callable[[], object],
    start: int,
    direction: str,
    to: Any,
    objects: list[int] | None,
) -> Event:
    """Tracks forwards, backwards or both ways, and returns the job's last event; see `Project.track`.

    Args:
        project: the open project.
        job: the job whose work this is.
        changed: called when masks have changed.
        start: the first frame.
        direction: "forward", "backward" or "both".
        to: the last frame; None for the video's end forwards, and for the next key backwards.
        objects: the ids to track; None for those that have a key.
    """
    ways: list[Literal["forward", "backward"]]
    ways = ["forward", "backward"] if direction == "both" else [direction]  # type: ignore[list-item]
    result: Event = {}
    nothing: NoFrameLeftError | None = None

    def on_frame(report: PassReport, frame: mm.Frame) -> None:
        job.tell({**_progress(report), "passing": None if report.frames else frame.index})

    try:
        with warnings_heard() as warnings:
            for way in ways:
                if job.stopping():
                    break
                until: Any = to if to is not None else "end" if way == "forward" else "key"
                try:
                    report = project.track(start, way, to=until, objects=objects, stop=job.stopping, on_frame=on_frame)
                except NoFrameLeftError as error:  # in this direction; there may be one in the other
                    nothing = error
                else:
                    result = {**_progress(report), "complete": report.complete}
    finally:
        changed()
    if nothing is not None and not result:
        raise nothing
    return {**result, "passing": None, "warnings": warnings}


def export(project: mm.Project, job: Job, changed: Callable[[], object], kind: str, write: Write) -> Event:
    """Writes an export, whole or not at all, and returns the job's last event.

    Args:
        project: the open project.
        job: the job whose work this is.
        changed: called when there is a new export.
        kind: the name of the format, and of the export if that is free.
        write: writes it.
    """
    folder, total = project.folder / EXPORTS, project.num_frames

    def on_frame(index: int) -> None:
        job.tell({"frame": index, "done": index + 1, "total": total})
        if job.stopping():
            raise _StoppedError

    unfinished = folder / UNFINISHED  # a partial export could be mistaken for a complete one
    try:
        with warnings_heard() as warnings:
            write(project, unfinished, on_frame)
        taken = {path.name for path in folder.iterdir()}
        name = next(n for n in (kind, *(f"{kind}-{k}" for k in range(2, 10_000))) if n not in taken)
        done = unfinished.rename(folder / name)
    except BaseException as error:
        remove_unfinished(folder)
        if isinstance(error, _StoppedError):
            return {"stopped": True}
        if isinstance(error, OutputError):
            raise OutputError(error.problem, "nothing was kept, so make room and export again") from error
        raise
    files = list(files_of(done))
    changed()
    return {
        "export": name,
        "folder": str(done),
        "written": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "files": [path.relative_to(folder).as_posix() for path in main_files(done, files)],
        "warnings": warnings,
    }


def _progress(report: PassReport) -> Event:
    speed = report.frames / report.seconds if report.seconds else 0.0
    return {
        **{name: value for name, value in asdict(report).items() if name != "confidence"},
        "frame": report.reached,
        "fps": round(speed, 2),
        "confidence": {object_id: list(each) for object_id, each in report.confidence.items()},
    }
