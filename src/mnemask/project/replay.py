"""Repeats a session without a browser: every mark and every pass."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mnemask.model.stcn import STCN
from mnemask.project.about import check_frames, source_of
from mnemask.project.journal import Line, read_journal
from mnemask.project.project import JOURNAL, Project
from mnemask.project.results import Mask, read_key_mask
from mnemask.project.tracking import PassReport
from mnemask.types import Frame

OnFrame = Callable[[PassReport, Frame], None]
MaskOf = Callable[[Project, Line], Mask | None]


def replay(
    folder: str | Path,
    target: str | Path,
    *,
    source: str | Path | None = None,
    model: STCN | None = None,
    mask_of: MaskOf = lambda project, line: None,
    on_frame: OnFrame = lambda report, frame: None,
) -> Project:
    """Repeats every action of a project, including its tracking passes, in a new project and returns that.

    With the same video, weights and machine the masks are the same, bit for bit on a CPU.

    Args:
        folder: the folder of the project to repeat.
        target: the folder of the new project.
        source: another video of the same size and length; by default the same one.
        model: the network; by default the one named in the settings.
        mask_of: returns a new mask for a key, given the new project so far and the journal line that sets the key; None
            keeps the stored mask.
        on_frame: called after each frame that the tracker processes.
    """
    lines = list(read_journal(Path(folder) / JOURNAL))
    first: dict[str, Any] = next((line["settings"] for line in lines if line["do"] == "settings"), {})
    ends = {line["pass"]: line for line in lines if line["do"] == "tracked"}
    project = Project.create(target, source or source_of(Path(folder)), model, **first)
    for line in lines:
        _repeat(project, line, Path(folder), ends, mask_of, on_frame)
    return project


def _repeat(
    project: Project,
    line: Line,
    folder: Path,
    ends: Mapping[int, Line],
    mask_of: MaskOf,
    on_frame: OnFrame,
) -> None:
    """Repeats one action of another project."""
    kind = line["do"]
    if kind == "undo":
        project.undo()
    elif kind == "redo":
        project.redo()
    elif kind == "set_key":
        mask = mask_of(project, line)
        mask = read_key_mask(folder / line["mask"]) if mask is None else mask
        frame, object_id = line["frame"], line["object"]
        # Not whether it was accepted: earlier versions may have missed that.
        check_frames(frame, frame, project.num_frames)
        name = project._masks.add(frame, object_id, mask)
        project._history.do(
            {"do": kind, "frame": frame, "object": object_id, "mask": name, "how": line.get("how") or {}}
        )
    elif kind == "track":
        end = ends.get(line["pass"])
        if end is not None and end["reached"] is not None:
            _track_again(project, line, end, on_frame)
    elif kind == "settings":
        project.change_settings(**line["settings"])
    elif kind != "tracked":
        project._history.do({name: value for name, value in line.items() if name != "at"})


def _track_again(project: Project, line: Line, end: Line, on_frame: OnFrame) -> None:
    """Tracks as far as a pass of the other project got, and writes the frames that it wrote."""
    reached: int | None = None
    kept = end.get("kept")

    def note(report: PassReport, frame: Frame) -> None:
        nonlocal reached
        reached = report.reached
        on_frame(report, frame)

    def may_change(frame: int) -> bool:
        if kept is None:  # of an earlier version
            return not project.state.is_accepted(frame)
        return not any(first <= frame <= last for first, last in kept)

    project._passes.track(
        line["start"],
        line["direction"],
        line["to"],
        line["objects"],
        may_change,
        stop=lambda: reached == end["reached"],
        on_frame=note,
    )
