"""The whole memory on one sheet: now, when it comes from, and its source frames."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64, UInt8

from mnemask.inspection.canvas import FAINT, INK, MARGIN, PANEL, Canvas, fitted, heat_color, heat_colors
from mnemask.inspection.heat import DIM, draw_remembered, heat_of
from mnemask.memory.provenance import Provenance

WIDTH, TOP = 1280, 100
MOST_TILES = 12
MOST_HEIGHT = 520  # of a tile
CAPTION = 26


def frames_to_show(memory: Provenance) -> list[int]:
    """Returns the source frames that get a tile, in order of time: those with the most remembered cells."""
    frames, cells = np.unique(memory.frame, return_counts=True)
    best = np.argsort(-cells, kind="stable")[:MOST_TILES]
    return sorted(frames[best].tolist())


def memory_sheet(
    memory: Provenance,
    sources: Mapping[int, UInt8[np.ndarray, "H W 3"]],
    *,
    title: str,
    facts: str,
    last_frame: int,
    now: UInt8[np.ndarray, "H W 3"] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture of a memory, 1280 pixels wide.

    Args:
        memory: what is remembered.
        sources: source frames by index, RGB; a missing one is drawn as plain grey.
        title: what the sheet shows.
        facts: a line below the title.
        last_frame: where the time line ends.
        now: the frame at hand, such as with its masks drawn; shown beside the time line.
    """
    columns, tile_width, tile_height = _layout(memory.grid.size)
    rows = -(-len(frames_to_show(memory)) // columns)
    below = TOP + max(190, 0 if now is None else tile_height) + CAPTION + MARGIN
    canvas = Canvas(WIDTH, below + CAPTION + rows * (tile_height + CAPTION + MARGIN) + MARGIN)
    canvas.text(MARGIN, 20, title, 30)
    canvas.text(MARGIN, 60, facts, 16, FAINT)
    left = MARGIN
    if now is not None:
        canvas.paste(MARGIN, TOP, fitted(now, tile_width))
        canvas.text(MARGIN, TOP + tile_height + 5, f"frame {last_frame} and its masks", 15, FAINT)
        left += tile_width + MARGIN
    _time_line(canvas, memory, last_frame, left, TOP)
    _legend(canvas, memory, left, TOP + 148)
    _tiles(canvas, memory, sources, below)
    return canvas.picture()


def _layout(size: tuple[int, int]) -> tuple[int, int, int]:
    """Returns the number of columns, and width and height of a tile, for frames of a height and width."""
    columns = 3 if size[1] > size[0] else 4
    width = max(1, min((WIDTH - (columns + 1) * MARGIN) // columns, MOST_HEIGHT * size[1] // size[0]))
    return columns, width, max(1, round(width * size[0] / size[1]))


def _tiles(canvas: Canvas, memory: Provenance, sources: Mapping[int, UInt8[np.ndarray, "H W 3"]], top: int) -> None:
    """Draws the source frames with their remembered cells."""
    shown = frames_to_show(memory)
    others = len(np.unique(memory.frame)) - len(shown)
    rest = f"  (and {others} more, with fewer cells)" if others else ""
    canvas.text(MARGIN, top - 6, f"The frames it comes from{rest}" if shown else "Nothing yet", 18)
    columns, width, height = _layout(memory.grid.size)
    for number, frame in enumerate(shown):
        left = MARGIN + number % columns * (width + MARGIN)
        above = top + CAPTION + number // columns * (height + CAPTION + MARGIN)
        canvas.paste(left, above, draw_remembered(sources.get(frame), memory, frame, width=width))
        canvas.text(left, above + height + 4, _caption(memory, frame), 15, INK)


def _caption(memory: Provenance, frame: int) -> str:
    here = memory.frame == frame
    pinned = ", pinned" if memory.pinned[here].all() else f", {memory.pinned[here].sum()} pinned"
    return (
        f"frame {frame}: {here.sum():,} of {memory.grid.num_cells:,} cells, {memory.hits[here].sum():,} hits"
        f"{pinned if memory.pinned[here].any() else ''}"
    )


def _time_line(canvas: Canvas, memory: Provenance, last_frame: int, left: int, top: int) -> None:
    """Draws a bar for each source frame where it lies in time, as high as it has cells, in the colour of their hits."""
    width, height = WIDTH - MARGIN - left, 96
    canvas.fill(left, top, width, height, PANEL)
    frames, cells = np.unique(memory.frame, return_counts=True)
    step = width / (last_frame + 1)
    most = int(memory.hits.max(initial=1))
    for frame, count in zip(frames.tolist(), cells.tolist(), strict=True):
        mean: Int64[np.ndarray, " 1"] = np.array([memory.hits[memory.frame == frame].mean()], np.int64)
        bar = height * min(count / memory.grid.num_cells, 1)
        color = heat_color(float(heat_of(mean, most)[0]))
        canvas.fill(left + frame * step, top + height - bar, max(step - 1, 3), bar, color)
    canvas.text(left, top + height + 5, "frame 0", 14, FAINT)
    canvas.text(left + width / 2 - 120, top + height + 5, "cells remembered of each frame", 14, FAINT)
    end = f"frame {last_frame}"
    canvas.text(left + width - 8 * len(end), top + height + 5, end, 14, FAINT)


def _legend(canvas: Canvas, memory: Provenance, left: int, top: int) -> None:
    ramp = np.repeat(heat_colors(np.linspace(0, 1, 220))[None], 16, 0)
    canvas.text(left, top - 2, "hits", 15)
    canvas.paste(left + 42, top, ramp)
    canvas.text(left + 42, top + 20, "0", 14, FAINT)
    most = f"{int(memory.hits.max(initial=0)):,}"
    canvas.text(left + 262 - 8 * len(most), top + 20, most, 14, FAINT)
    canvas.text(left + 130, top + 20, "log", 14, FAINT)
    canvas.fill(left + 300, top, 16, 16, INK)
    canvas.fill(left + 302, top + 2, 12, 12, PANEL)
    canvas.text(left + 324, top - 2, "pinned", 15)
    grey = round(160 * DIM)
    canvas.fill(left + 400, top, 16, 16, (grey, grey, grey))
    canvas.text(left + 424, top - 2, "not remembered", 15)
    canvas.text(left, top + 44, "A hit: a cell of a later frame chose this one among its most alike.", 14, FAINT)
