"""Pictures of a project's memory at a frame, and of the tokens that gave a pixel its label."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from mnemask.errors import InputError, counted
from mnemask.inspection import explained_sheet, memory_sheet
from mnemask.inspection.sheets import frames_to_show, sources_of
from mnemask.io.visualize import draw_overlay
from mnemask.project.project import Project

Pixels = UInt8[np.ndarray, "h w 3"]


def picture_memory(project: Project, frame: int, *, stop: Callable[[], bool] = lambda: False) -> Pixels:
    """Returns a picture of the memory just before a frame is tracked forwards: source frames and their stored cells.

    `stop` is called as in `Project.tracker_before`.
    """
    tracker = project.tracker_before(frame, stop)
    if not tracker.object_ids:
        raise _empty(frame)
    memory, stats = tracker.memory.provenance(), tracker.memory.stats()
    sources = {index: _pixels(project, index) for index in frames_to_show(memory)}
    frames = counted(len(np.unique(memory.frame)), "frame")
    facts = (
        f"{counted(stats.tokens, 'token')} of {frames}  ·  {stats.bank_bytes / 2**20:.1f} MiB  ·  "
        f"{stats.pinned:,} pinned  ·  {type(tracker.policy).__name__}, budget {tracker.memory.budget}"
    )
    return memory_sheet(
        memory,
        sources,
        title=f"Memory before frame {frame}",
        facts=facts,
        last_frame=max(frame, int(memory.frame.max(initial=0))),
        now=draw_overlay(_pixels(project, frame), project.labels(frame)),
        now_frame=frame,
    )


def picture_reason(project: Project, frame: int, x: int, y: int, *, stop: Callable[[], bool] = lambda: False) -> Pixels:
    """Returns a picture of the tokens that decide the label of a pixel when its frame is tracked forwards.

    `stop` is called as in `Project.tracker_before`.
    """
    tracker = project.tracker_before(frame, stop)
    if not tracker.object_ids:
        raise _empty(frame)
    shown = tracker.step(project.frames.held(frame))
    explanation = tracker.explain(y, x)
    sources = {index: _pixels(project, index) for index in sources_of(explanation)}
    return explained_sheet(explanation, draw_overlay(_pixels(project, frame), shown.labels), sources)


def _empty(frame: int) -> InputError:
    remedy = "mark an object in this frame or an earlier one" if frame else "choose a later frame"
    return InputError(f"the memory before frame {frame} is empty", remedy)


def _pixels(project: Project, index: int) -> Pixels:
    pixels: Pixels = project.frames.held(index).image.permute(1, 2, 0).cpu().numpy()
    return pixels
