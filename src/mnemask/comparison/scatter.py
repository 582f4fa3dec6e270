"""Named points in a plane, as SVG that fits any width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from mnemask.comparison.line_chart import percent, value_range

WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 30, 40
TEXT_HEIGHT, LETTER = 14, 6.6
MIN_Y = 0.02  # lest a difference of nothing look like one


@dataclass(frozen=True, slots=True)
class Point:
    """A named place in a plane; `best` says that no other point is better in both."""

    name: str
    x: float
    y: float
    color: str
    best: bool


def scatter(title: str, x_name: str, y_name: str, points: Sequence[Point], log_x: bool = False) -> str:
    """Returns a figure with named points; those that nothing dominates are filled and joined by a line.

    Args:
        title: what is shown.
        x_name: of the axis, with its unit.
        y_name: of the axis, from 0 to 1, written in percent.
        points: one or more.
        log_x: whether the axis is logarithmic; all x must then be positive.
    """
    scale: Callable[[float], float] = math.log10 if log_x else float
    x_low, x_high = _spread([scale(point.x) for point in points])
    y_low, y_high = _at_least(MIN_Y, *value_range([point.y for point in points]))

    def place(point: Point) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (scale(point.x) - x_low) / (x_high - x_low)
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (y_high - point.y) / (y_high - y_low)

    marks = [_axes(x_name, y_name, (x_low, x_high), (y_low, y_high), log_x)]
    front = sorted(place(point) for point in points if point.best)
    marks.append(f'<path class="front" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in front)}"/>')
    for point, (x, y), (text_x, text_y, anchor) in _labelled(points, place):
        fill = point.color if point.best else "none"
        tip = f"{escape(point.name)}: {escape(x_name)} {point.x:.4g}, {escape(y_name)} {percent(point.y)}"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="{fill}" stroke="{point.color}">'
            f"<title>{tip}</title></circle>"
            f'<text x="{text_x:.1f}" y="{text_y:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'
        )
    return (
        f'<figure class="scatter"><figcaption><b>{escape(title)}</b></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(marks)}</svg></figure>'
    )


def _at_least(extent: float, low: float, high: float) -> tuple[float, float]:
    """Returns a range of this extent or more, from 0 to 1, around another."""
    if high - low >= extent:
        return low, high
    low = min(max((low + high - extent) / 2, 0.0), 1.0 - extent)
    return low, low + extent


def _spread(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.12 * (high - low) or 0.3 * (abs(high) or 1.0)
    return low - pad, high + pad


def _axes(x_name: str, y_name: str, x: tuple[float, float], y: tuple[float, float], log_x: bool) -> str:
    marks = []
    for part in (0.0, 0.5, 1.0):
        row = TOP + (HEIGHT - TOP - BOTTOM) * part
        marks.append(f'<path class="grid" d="M{LEFT} {row}H{WIDTH - RIGHT}"/>')
        marks.append(
            f'<text x="{LEFT - 6}" y="{row + 4}" text-anchor="end">{percent(y[1] + part * (y[0] - y[1]))}</text>'
        )
    for part in (0.1, 0.5, 0.9):
        value = x[0] + part * (x[1] - x[0])
        column = LEFT + (WIDTH - LEFT - RIGHT) * part
        shown = 10**value if log_x else value
        marks.append(f'<path class="grid" d="M{column} {TOP}V{HEIGHT - BOTTOM}"/>')
        marks.append(f'<text x="{column}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{shown:.3g}</text>')
    marks.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_name)} →</text>')
    marks.append(f'<text class="axis" x="4" y="14">↑ {escape(y_name)}</text>')
    return "".join(marks)


def _labelled(
    points: Sequence[Point], place: Callable[[Point], tuple[float, float]]
) -> list[tuple[Point, tuple[float, float], tuple[float, float, str]]]:
    """Returns each point, its place, and place and anchor of its name, moved down or up where names would overlap."""
    taken: list[tuple[float, float, float]] = []
    labelled = []
    for point in sorted(points, key=lambda point: place(point)[1]):
        x, y = place(point)
        length = LETTER * len(point.name)
        right = x + 10 + length <= WIDTH
        begin = x + 10 if right else x - 10 - length
        text_y = y + 4
        while any(
            abs(text_y - row) < TEXT_HEIGHT and begin < end and start < begin + length for row, start, end in taken
        ):
            text_y += 2
        taken.append((text_y, begin, begin + length))
        labelled.append((point, (x, y), (x + 10 if right else x - 10, text_y, "start" if right else "end")))
    return labelled
