"""Two sheets: the whole memory with its source frames, and a pixel with the tokens that it was read from."""

from collections.abc import Mapping

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8

from mnemask.errors import counted
from mnemask.inspection.canvas import (
    DIM,
    FAINT,
    INK,
    MARGIN,
    PANEL,
    Canvas,
    Color,
    draw_remembered,
    fitted,
    ground,
    heat_color,
    heat_colors,
    heat_of,
    outlined,
    tinted,
    width_within,
)
from mnemask.io import colors_of
from mnemask.memory.introspection import Explanation, Provenance

WIDTH = 1280
QUERY_WIDTH, QUERY_HEIGHT = 608, 480
TILE_WIDTH, TILE_HEIGHT = (WIDTH - QUERY_WIDTH - 4 * MARGIN) // 2, 250
MOST_FRAMES = 4
MOST_CROPS = 8
CROP_CELLS = 5
MARK = (255, 80, 160)


def sources_of(explanation: Explanation) -> list[int]:
    """Returns the source frames that get a tile or a crop, those with the most weight first."""
    frames = heaviest_frames(explanation)[:MOST_FRAMES]
    heaviest = (frame for frame in explanation.frame[:MOST_CROPS].tolist() if frame >= 0)
    return list(dict.fromkeys([*frames, *heaviest]))


def heaviest_frames(explanation: Explanation) -> list[int]:
    """Returns all source frames in this video, those with the most weight first; ties are in order of time."""
    frames, place = np.unique(explanation.frame, return_inverse=True)
    weight = np.bincount(place, mean_weight(explanation), len(frames))
    order = np.argsort(-weight, kind="stable")
    return [int(frame) for frame in frames[order] if frame >= 0]


def mean_weight(explanation: Explanation) -> Float[np.ndarray, " M"]:
    """Returns the weight of each token, averaged over the objects that read anything."""
    reading = explanation.weight.any(1)
    mean: Float[np.ndarray, " M"] = explanation.weight.sum(0) / max(int(reading.sum()), 1)
    return mean


def explained_sheet(
    explanation: Explanation,
    now: UInt8[np.ndarray, "H W 3"],
    sources: Mapping[int, UInt8[np.ndarray, "H W 3"]],
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture of a pixel (left) and the tokens that it was read from (right and below), 1280 pixels wide.

    Args:
        explanation: from `Tracker.explain`.
        now: the pixel's frame, for example with its masks drawn.
        sources: the source frames, RGB by index; a missing one is drawn as plain grey.
    """
    query = _query(explanation, now)
    tile_width = width_within(TILE_WIDTH, TILE_HEIGHT, now)
    tile_height = max(1, round(tile_width * now.shape[0] / now.shape[1]))
    crop = (WIDTH - 2 * MARGIN - (MOST_CROPS - 1) * 12) // MOST_CROPS
    below = 100 + max(query.shape[0] + 40 + 30 * (1 + len(explanation.object_ids)), 2 * (tile_height + 34)) + MARGIN
    canvas = Canvas(WIDTH, below + crop + 90)
    canvas.text(MARGIN, 20, f"Pixel x {explanation.x}, y {explanation.y} of frame {explanation.index}", 30)
    canvas.text(MARGIN, 60, _summary(explanation), 16, FAINT)
    canvas.paste(MARGIN, 100, query)
    _votes(canvas, explanation, 100 + query.shape[0] + 14)
    _frame_tiles(canvas, explanation, sources, (tile_width, tile_height))
    _crops(canvas, explanation, sources, below, crop)
    return canvas.picture()


def _summary(explanation: Explanation) -> str:
    frames = counted(len(np.unique(explanation.frame)), "frame")
    tokens = f"{counted(len(explanation.frame), 'token')} of {frames}"
    return f"Its cell, pink, was read from {tokens}. The yellower a token, the more it weighs."


def _query(explanation: Explanation, now: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the frame with the pixel's cell outlined, and lines that lead to it."""
    tile = fitted(now, width_within(QUERY_WIDTH, QUERY_HEIGHT, now))
    scale = tile.shape[1] / now.shape[1]
    left, top, right, bottom = (round(edge) for edge in (explanation.query_box * scale).tolist())
    y, x = round((explanation.y + 0.5) * scale), round((explanation.x + 0.5) * scale)
    height, width = tile.shape[:2]
    for start, end in (((0, y), (left, y)), ((right, y), (width, y)), ((x, 0), (x, top)), ((x, bottom), (x, height))):
        cv2.line(tile, start, end, MARK, 1)
    chosen = np.zeros(explanation.grid.num_cells, bool)
    chosen[explanation.query] = True
    return outlined(tile, explanation.grid, chosen, MARK)


def _votes(canvas: Canvas, explanation: Explanation, top: int) -> None:
    """Draws the share of each object in the readout of the pixel's cell, and that of the background."""
    canvas.text(MARGIN, top, "Share of each object in the readout", 18)
    bars: list[tuple[str, float, Color]] = []
    for object_id, vote in zip(explanation.object_ids, explanation.votes.tolist(), strict=True):
        red, green, blue = colors_of(np.array(object_id)).tolist()
        bars.append((f"object {object_id}", vote, (red, green, blue)))
    bars.append(("background", 1 - sum(vote for _, vote, _ in bars), FAINT))
    for number, (name, vote, color) in enumerate(bars, 1):
        canvas.text(MARGIN, top + 30 * number, name, 15)
        canvas.bar(MARGIN + 110, top + 30 * number, QUERY_WIDTH - 170, 18, max(vote, 0), color)
        canvas.text(MARGIN + QUERY_WIDTH - 50, top + 30 * number, f"{max(vote, 0):.0%}", 15)


def _frame_tiles(
    canvas: Canvas, explanation: Explanation, sources: Mapping[int, UInt8[np.ndarray, "H W 3"]], size: tuple[int, int]
) -> None:
    """Draws the source frames with the most weight, at a width and height, with the cells that were read."""
    weight = mean_weight(explanation)
    for number, frame in enumerate(heaviest_frames(explanation)[:MOST_FRAMES]):
        here = explanation.frame == frame
        heat = np.full(explanation.grid.num_cells, -1.0)
        heat[explanation.cell[here]] = np.sqrt(weight[here] / max(weight.max(), 1e-9))
        tile = tinted(ground(sources.get(frame), explanation.grid, size[0]), explanation.grid, heat)
        tile = outlined(tile, explanation.grid, heat >= 0, INK, 1)
        left = 2 * MARGIN + QUERY_WIDTH + number % 2 * (TILE_WIDTH + MARGIN)
        top = 100 + number // 2 * (size[1] + 34)
        canvas.paste(left, top, tile)
        tokens = counted(int(here.sum()), "token")
        canvas.text(left, top + size[1] + 4, f"frame {frame}: {weight[here].sum():.0%} in {tokens}", 15)


def _crops(
    canvas: Canvas, explanation: Explanation, sources: Mapping[int, UInt8[np.ndarray, "H W 3"]], top: int, side: int
) -> None:
    """Draws the heaviest tokens one by one, each in the middle of its surroundings."""
    weight = mean_weight(explanation)
    canvas.text(MARGIN, top, "The heaviest tokens, one by one", 18)
    for number, frame in enumerate(explanation.frame[:MOST_CROPS].tolist()):
        left = MARGIN + number * (side + 12)
        crop = _crop(sources.get(frame), explanation.box[number], side)
        canvas.paste(left, top + 30, crop)
        part = float(weight[number])
        canvas.bar(left, top + 34 + side, side, 6, part / max(float(weight.max()), 1e-9), heat_color(0.9))
        canvas.text(left, top + 44 + side, f"{part:.0%}  frame {frame}", 15)


def _crop(
    image: UInt8[np.ndarray, "H W 3"] | None, box: Float[np.ndarray, " 4"], side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Returns a square of the image around a cell, with the cell outlined."""
    if image is None:
        return np.full((side, side, 3), PANEL, np.uint8)
    left, top, right, bottom = box.tolist()
    extent = CROP_CELLS * max(right - left, bottom - top)
    scale = side / extent
    x, y = (left + right) / 2 - extent / 2, (top + bottom) / 2 - extent / 2
    move = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    crop: UInt8[np.ndarray, "side side 3"] = cv2.warpAffine(image, move, (side, side), borderValue=PANEL)
    corners = [round((edge - start) * scale) for edge, start in ((left, x), (top, y), (right, x), (bottom, y))]
    cv2.rectangle(crop, corners[:2], corners[2:], MARK, 2)
    return crop


TOP = 100
MOST_TILES = 12
MOST_HEIGHT = 520  # of a tile
CAPTION = 26


def frames_to_show(memory: Provenance) -> list[int]:
    """Returns the source frames that get a tile, those with the most tokens, in order of time."""
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
    now_frame: int | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture of a memory, 1280 pixels wide.

    Args:
        memory: the tokens in memory.
        sources: source frames by index, RGB; a missing one is drawn as plain grey.
        title: the sheet's title.
        facts: a line below the title.
        last_frame: the last frame of the time line.
        now: the current frame, for example with its masks drawn; shown beside the time line.
        now_frame: its number, if that is not `last_frame`.
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
        shown = last_frame if now_frame is None else now_frame
        canvas.text(MARGIN, TOP + tile_height + 5, f"frame {shown} and its masks", 15, FAINT)
        left += tile_width + MARGIN
    _time_line(canvas, memory, last_frame, left, TOP)
    _legend(canvas, memory, left, TOP + 148)
    _tiles(canvas, memory, sources, below)
    return canvas.picture()


def _layout(size: tuple[int, int]) -> tuple[int, int, int]:
    """Returns the number of columns and a tile's width and height, for frames of this height and width."""
    columns = 3 if size[1] > size[0] else 4
    width = max(1, min((WIDTH - (columns + 1) * MARGIN) // columns, MOST_HEIGHT * size[1] // size[0]))
    return columns, width, max(1, round(width * size[0] / size[1]))


def _tiles(canvas: Canvas, memory: Provenance, sources: Mapping[int, UInt8[np.ndarray, "H W 3"]], top: int) -> None:
    """Draws the source frames with their stored cells."""
    shown = frames_to_show(memory)
    others = len(np.unique(memory.frame)) - len(shown)
    rest = f"  (and {others} more, with fewer tokens)" if others else ""
    canvas.text(MARGIN, top - 6, f"Source frames{rest}" if shown else "Nothing yet", 18)
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
        f"frame {frame}: {here.sum():,} tokens{pinned if memory.pinned[here].any() else ''}, "
        f"top-k count {memory.topk_count[here].sum():,}"
    )


def _time_line(canvas: Canvas, memory: Provenance, last_frame: int, left: int, top: int) -> None:
    """Draws a bar for each source frame at its time; height is the number of tokens, colour their top-k count."""
    width, height = WIDTH - MARGIN - left, 96
    canvas.fill(left, top, width, height, PANEL)
    frames, cells = np.unique(memory.frame, return_counts=True)
    step = width / (last_frame + 1)
    most = int(memory.topk_count.max(initial=1))
    for frame, count in zip(frames.tolist(), cells.tolist(), strict=True):
        mean: Int64[np.ndarray, " 1"] = np.array([memory.topk_count[memory.frame == frame].mean()], np.int64)
        bar = height * min(count / memory.grid.num_cells, 1)
        color = heat_color(float(heat_of(mean, most)[0]))
        canvas.fill(left + frame * step, top + height - bar, max(step - 1, 3), bar, color)
    canvas.text(left, top + height + 5, "frame 0", 14, FAINT)
    canvas.text(left + width / 2 - 90, top + height + 5, "tokens stored per frame", 14, FAINT)
    end = f"frame {last_frame}"
    canvas.text(left + width - 8 * len(end), top + height + 5, end, 14, FAINT)


def _legend(canvas: Canvas, memory: Provenance, left: int, top: int) -> None:
    ramp = np.repeat(heat_colors(np.linspace(0, 1, 220))[None], 16, 0)
    canvas.text(left, top - 2, "top-k count", 15)
    first, left = left, left + 56
    canvas.paste(left + 42, top, ramp)
    canvas.text(left + 42, top + 20, "0", 14, FAINT)
    most = f"{int(memory.topk_count.max(initial=0)):,}"
    canvas.text(left + 262 - 8 * len(most), top + 20, most, 14, FAINT)
    canvas.text(left + 130, top + 20, "log", 14, FAINT)
    canvas.fill(left + 300, top, 16, 16, INK)
    canvas.fill(left + 302, top + 2, 12, 12, PANEL)
    canvas.text(left + 324, top - 2, "pinned", 15)
    grey = round(160 * DIM)
    canvas.fill(left + 400, top, 16, 16, (grey, grey, grey))
    canvas.text(left + 424, top - 2, "not stored", 15)
    canvas.text(
        first,
        top + 44,
        "How often cells of later frames read the token. Usage is this count divided by the token's age.",
        14,
        FAINT,
    )
