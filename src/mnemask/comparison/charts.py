"""Line charts and scatter plots of the offline page, as HTML and SVG that fit any width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito 2008: distinct for all kinds of colour vision, and in grey. Blue, vermilion, green, purple, orange, sky.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
COLORS = (*OKABE_ITO, "#8c6bb1", "#7f7f7f")  # of lines; labels have the text colour
DASHES = ("none", "6 4", "2 3", "9 3 2 3")


def style_of(number: int) -> tuple[str, str]:
    """Returns the colour and the dash pattern of a line by its number, from 0; the first 32 differ."""
    return COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]


@dataclass(frozen=True, slots=True)
class Line:
    """A named value for each frame; None for a missing value."""

    name: str
    values: Sequence[float | None]


def percent(value: float) -> str:
    """Returns a fraction in percent, with one decimal."""
    return f"{100 * value:.1f}"


def line_chart(key: str, title: str, hint: str, lines: Sequence[Line], write: Callable[[float], str]) -> str:
    """Returns a figure with these lines, a legend that switches them on and off, and an element for the cursor.

    Args:
        key: the figure's key in the page.
        title: the title.
        hint: a sentence on how to read the chart.
        lines: the lines, all of the same length.
        write: returns the text of a value.
    """
    known = [value for line in lines for value in line.values if value is not None]
    low, high = value_range(known)
    drawn, legend = [], []
    for number, line in enumerate(lines):
        color, dash = style_of(number)
        mark = f'stroke="{color}" stroke-dasharray="{dash}"'
        drawn.append(f'<path data-line="{number}" {mark} d="{_path(line.values, low, high)}"/>')
        legend.append(
            f'<label><input type="checkbox" checked data-line="{number}">'
            f'<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><path {mark} d="M0 4H24"/></svg>'
            f'{escape(line.name)} <output data-line="{number}"></output></label>'
        )
    grid = "".join(f'<path class="grid" d="M0 {y}H1000"/>' for y in (0, 250, 500, 750, 1000))
    ticks = "".join(f"<span>{escape(write(value))}</span>" for value in (high, (low + high) / 2, low))
    last = max(len(line.values) for line in lines) - 1
    return (
        f'<figure class="chart" data-chart="{escape(key)}">'
        f"<figcaption><b>{escape(title)}</b> {escape(hint)}</figcaption>"
        f'<div class="axes"><div class="y">{ticks}</div>'
        f'<div class="plot"><svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}">{grid}{"".join(drawn)}</svg><div class="cursor"></div></div>'
        f'<div class="x"><span>frame 0</span><span>{last}</span></div></div>'
        f'<div class="legend">{"".join(legend)}</div></figure>'
    )


def value_range(values: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of an axis, a little beyond the values.

    They are not below 0 if no value is, nor above 1 if all values are from 0 to 1.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
    start = max(low - pad, 0.0) if low >= 0 else low - pad
    return start, min(high + pad, 1.0) if low >= 0 and high <= 1 else high + pad


def _path(values: Sequence[float | None], low: float, high: float) -> str:
    """Returns an SVG path through the values, interrupted at missing values."""
    step = 1000 / max(len(values) - 1, 1)
    parts, begins = [], True
    for number, value in enumerate(values):
        if value is not None:
            place = f"{number * step:.1f} {1000 * (high - value) / (high - low):.1f}"
            # A single point has no length; with a segment of length 0, round caps draw it anyway.
            parts.append(f"M{place}h0" if begins else f"L{place}")
        begins = value is None
    return "".join(parts)


WIDTH, HEIGHT = 380, 270
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 30, 40
TEXT_HEIGHT, LETTER = 14, 6.6
MIN_Y = 0.02  # smallest extent of the y axis, so that noise does not fill the chart


@dataclass(frozen=True, slots=True)
class Point:
    """A named point of a scatter plot; `best` is whether it is Pareto-optimal."""

    name: str
    x: float
    y: float
    color: str
    best: bool


def scatter(title: str, x_name: str, y_name: str, points: Sequence[Point], log_x: bool = False) -> str:
    """Returns a figure with named points; Pareto-optimal ones are filled and joined by a line.

    Args:
        title: the title.
        x_name: the name of the x axis, with its unit.
        y_name: the name of the y axis; values from 0 to 1 are written in percent.
        points: the points, one or more.
        log_x: whether the x axis is logarithmic; all x must then be positive.
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
    """Returns a range within 0 and 1 that contains the given one and has at least this extent."""
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
    """Returns each point, its place, and its name's place and anchor; names that would overlap are moved down."""
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
