"""Lines over the frames of a video, as HTML and SVG that fit any width; their colours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito 2008: apart for all kinds of colour vision, and in grey. Blue, vermilion, green, purple, orange, sky.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
COLORS = (*OKABE_ITO, "#8c6bb1", "#7f7f7f")  # of lines; text beside them is in the colour of text
DASHES = ("none", "6 4", "2 3", "9 3 2 3")


def style_of(number: int) -> tuple[str, str]:
    """Returns the colour and the dashes of the line with this number, from 0; the first 32 differ."""
    return COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]


@dataclass(frozen=True, slots=True)
class Line:
    """A value for each frame; None where there is none."""

    name: str
    values: Sequence[float | None]


def percent(value: float) -> str:
    """Returns a part of 1 as people read it."""
    return f"{100 * value:.1f}"


def line_chart(key: str, title: str, hint: str, lines: Sequence[Line], write: Callable[[float], str]) -> str:
    """Returns a figure with a line for each of these, a legend that switches them, and room for a cursor.

    Args:
        key: names the figure in the page.
        title: what is shown, in a few words.
        hint: how to read it.
        lines: all of one length.
        write: makes text of a value.
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
    """Returns where an axis begins and ends: a little beyond the values, but not beyond 0 and 1 where they are not."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    pad = 0.08 * (high - low) or 0.05 * (abs(high) or 1.0)
    start = max(low - pad, 0.0) if low >= 0 else low - pad
    return start, min(high + pad, 1.0) if low >= 0 and high <= 1 else high + pad


def _path(values: Sequence[float | None], low: float, high: float) -> str:
    """Returns an SVG path through the values; it breaks where there is none."""
    step = 1000 / max(len(values) - 1, 1)
    parts, begins = [], True
    for number, value in enumerate(values):
        if value is not None:
            place = f"{number * step:.1f} {1000 * (high - value) / (high - low):.1f}"
            # A lone point has no length; with a line of none, round caps draw it all the same.
            parts.append(f"M{place}h0" if begins else f"L{place}")
        begins = value is None
    return "".join(parts)
