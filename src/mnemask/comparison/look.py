"""What a tracker has in memory, and from which tokens the cells of a frame were read, small enough for a page."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from mnemask.inspection.canvas import heat_of
from mnemask.inspection.sheets import mean_weight
from mnemask.memory.introspection import Explanation, Provenance
from mnemask.memory.tokens import CellGrid
from mnemask.tracker import Tracker

MOST_TILES = 4
MOST_CLICKS = 240
MOST_VOTERS = 8
# A character for each cell: not in memory, in memory with a heat from 0 to 9, or the same and pinned.
ABSENT, HEAT, PINNED = ".", "0123456789", "abcdefghij"


def look_into(tracker: Tracker, index: int) -> dict[str, Any] | None:
    """Returns the state of the memory as values that JSON can hold; None if nothing was read for the last frame.

    ::

        frame     the frame after which this was the memory
        objects   the ids of the objects, in the order of the votes
        cells     number of cells in memory
        sources   [[frame, number of cells], …] for each source frame
        tiles     [{frame, heat, topk_count, pinned}, …] for those with the most cells; a character of heat per cell
        clicks    [{cell, votes, from}, …] for a coarse grid of cells; votes by object from 0 to 1,
                  from is [[source frame, cell, weight from 0 to 1], …], the heaviest first

    Args:
        tracker: the tracker, directly after a step.
        index: the index of that step's frame.
    """
    if tracker.memory.last_read is None:
        return None
    memory = tracker.memory.provenance()
    frames, counts = np.unique(memory.frame, return_counts=True)
    shown = sorted(frames[np.argsort(-counts, kind="stable")[:MOST_TILES]].tolist())
    explained = [tracker.explain(y, x) for y, x in pixels_to_explain(memory.grid)]
    return {
        "frame": index,
        "objects": list(explained[0].object_ids),
        "cells": len(memory),
        "sources": [list(pair) for pair in zip(frames.tolist(), counts.tolist(), strict=True)],
        "tiles": [_tile(memory, frame) for frame in shown],
        "clicks": [_click(each) for each in explained],
    }


def pixels_to_explain(grid: CellGrid) -> list[tuple[int, int]]:
    """Returns y and x of pixels in the middle of evenly spaced cells: at most MOST_CLICKS, at least one."""
    rows, columns = grid.shape
    step = 1
    while -(-rows // step) * -(-columns // step) > MOST_CLICKS:
        step += 1
    row, column = np.mgrid[step // 2 : rows : step, step // 2 : columns : step]
    boxes = grid.boxes((row * columns + column).ravel())
    boxes = boxes[(boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)]  # not in the padding
    left, top, right, bottom = boxes.T
    middle = np.stack([(top + bottom) / 2, (left + right) / 2], 1).astype(int)
    return [(int(y), int(x)) for y, x in middle] or [(grid.size[0] // 2, grid.size[1] // 2)]


def cell_edges(grid: CellGrid) -> dict[str, list[float]]:
    """Returns the edges of the cells' columns ("x") and rows ("y"), as fractions of the frame from 0 to 1."""
    rows, columns = grid.shape
    across = grid.boxes(np.arange(columns))
    down = grid.boxes(np.arange(rows) * columns)
    x = np.array([across[0, 0], *across[:, 2]]) / grid.size[1]
    y = np.array([down[0, 1], *down[:, 3]]) / grid.size[0]
    return {"x": x.round(5).tolist(), "y": y.round(5).tolist()}


def _tile(memory: Provenance, frame: int) -> dict[str, Any]:
    here: Bool[np.ndarray, " N"] = memory.frame == frame
    heat: Float[np.ndarray, " M"] = heat_of(memory.topk_count[here], int(memory.topk_count.max(initial=1)))
    level: Int64[np.ndarray, " M"] = np.clip(heat * 10, 0, 9).astype(np.int64)
    marks = [ABSENT] * memory.grid.num_cells
    for cell, place, pinned in zip(memory.cell[here], level, memory.pinned[here], strict=True):
        marks[cell] = (PINNED if pinned else HEAT)[place]
    return {
        "frame": int(frame),
        "heat": "".join(marks),
        "topk_count": int(memory.topk_count[here].sum()),
        "pinned": int(memory.pinned[here].sum()),
    }


def _click(explanation: Explanation) -> dict[str, Any]:
    weight = mean_weight(explanation)[:MOST_VOTERS].astype(float).round(3).tolist()
    voters = zip(explanation.frame.tolist(), explanation.cell.tolist(), weight, strict=False)
    return {
        "cell": explanation.query,
        "votes": explanation.votes.astype(float).round(3).tolist(),
        "from": [list(voter) for voter in voters],
    }
