"""The HTML page: everything is inlined, nothing is fetched, and file names are never taken for markup."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np

from mnemask.comparison.charts import Line, Point, line_chart, percent, scatter, style_of
from mnemask.comparison.frames import FrameStore, display_size, outlines, picture_data
from mnemask.comparison.measure import Comparison, Truth, undominated
from mnemask.comparison.track import PolicyFolder
from mnemask.errors import counted
from mnemask.inspection.canvas import heat_colors
from mnemask.io import colors_of
from mnemask.io.atomic import safe_name
from mnemask.version import __version__

MOST_SHOWN = 200  # frames that the slider shows
MOST_SOURCES = 60  # further frames that tokens come from
DEFAULT_RATE = 25.0
SCRIPTS = ("draw.js", "player.js", "memory.js")


def page_of(
    comparison: Comparison,
    folders: Mapping[str, PolicyFolder],
    store: FrameStore,
    truth: Truth | None,
    frames_per_second: float | None,
) -> str:
    """Returns the HTML of a comparison, which is self-contained except for links to the overlay videos next to it.

    Args:
        comparison: the numbers.
        folders: the folders with the masks of each policy.
        store: the frames.
        truth: the true masks, or None.
        frames_per_second: the video's frame rate, at which the page plays it; None for 25.
    """
    template = files("mnemask.comparison") / "template"
    script = "".join((template / name).read_text(encoding="utf-8") for name in SCRIPTS)
    data = _data(comparison, folders, store, truth, frames_per_second or DEFAULT_RATE)
    parts = {
        "title": escape(comparison.video),
        "security": _security(script),
        "style": (template / "page.css").read_text(encoding="utf-8"),
        "facts": escape(_facts(comparison, len(data["shown"]))),
        "table": _table(comparison),
        "meaning": (template / f"meaning-{_kind(comparison)}.html").read_text(encoding="utf-8"),
        "charts": _charts(comparison),
        "planes": _planes(comparison),
        "settings": _settings(comparison),
        "version": escape(__version__),
        "data": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "script": script,
    }
    return Template((template / "page.html").read_text(encoding="utf-8")).substitute(parts)


def _kind(comparison: Comparison) -> str:
    return {"J&F": "truth", "consistency": "consistency", None: "none"}[comparison.measure]


def _security(script: str) -> str:
    """Returns the content security policy, which forbids fetching anything and running any script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    )


def shown_frames(num_frames: int, extra_frames: Iterable[int]) -> list[int]:
    """Returns the frames to show: these and evenly spaced ones, with the first and the last; MOST_SHOWN at most."""
    extra = set(extra_frames)
    evenly = np.linspace(0, num_frames - 1, min(num_frames, max(MOST_SHOWN - len(extra), 2)))
    return sorted({*evenly.round().astype(int).tolist(), *extra})


def source_frames(comparison: Comparison, shown: Sequence[int]) -> list[int]:
    """Returns the frames that tokens come from and that are not shown anyway, the most frequent ones first."""
    named: Counter[int] = Counter()
    for run in comparison.runs.values():
        for look in run.looks:
            named.update({tile["frame"]: 10_000 for tile in look["tiles"]})  # a tile is useless without its picture
            named.update(frame for click in look["clicks"] for frame, _, _ in click["from"])
    return [frame for frame, _ in named.most_common() if frame not in set(shown)][:MOST_SOURCES]


def _data(
    comparison: Comparison,
    folders: Mapping[str, PolicyFolder],
    store: FrameStore,
    truth: Truth | None,
    frames_per_second: float,
) -> dict[str, Any]:
    """Returns the data that the script draws."""
    size, clip = display_size(comparison.clip.size), comparison.clip
    looked = [look["frame"] for run in comparison.runs.values() for look in run.looks]
    parted = [index for index, _ in comparison.moments]
    shown = shown_frames(len(clip), [*looked, *parted])
    paths = {
        policy: {index: outlines(folder.labels(clip.names[index]), size) for index in shown}
        for policy, folder in folders.items()
    }
    true = None
    if truth is not None:
        marked = [index for index in shown if index in truth.files]
        true = {index: outlines(truth.labels(index, comparison.object_ids), size) for index in marked}
    ids = sorted({int(i) for each in [*paths.values(), true or {}] for found in each.values() for i in found})
    return {
        "size": size,
        "frames": len(clip),
        "rate": frames_per_second,
        "seconds": [clip.seconds[index] for index in shown],
        "shown": shown,
        "images": {
            index: picture_data(store.image(index), size) for index in [*shown, *source_frames(comparison, shown)]
        },
        "policies": [{"name": name, "color": style_of(n)[0]} for n, name in enumerate(comparison.runs)],
        "colors": {object_id: _color(object_id) for object_id in ids},
        "outlines": paths,
        "truth": true,
        "moments": [{"frame": index, "agreement": round(value, 4)} for index, value in comparison.moments],
        "edges": next(iter(comparison.runs.values())).edges,
        "looks": {policy: run.looks for policy, run in comparison.runs.items()},
        "heat": [f"rgb({r},{g},{b})" for r, g, b in heat_colors(np.linspace(0.05, 1, 10)).tolist()],
        "charts": {key: [_rounded(line.values) for line in lines] for key, _, _, lines in _curves(comparison)},
    }


def _color(object_id: int) -> str:
    red, green, blue = colors_of(np.array(object_id)).tolist()
    return f"rgb({red},{green},{blue})"


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else round(value, 3) for value in values]


def _facts(comparison: Comparison, num_shown: int) -> str:
    height, width = comparison.clip.size
    objects, policies = len(comparison.object_ids), len(comparison.runs)
    some = "" if num_shown == len(comparison.clip) else f", {num_shown} of them on this page"
    return (
        f"{counted(len(comparison.clip), 'frame')} of {width}×{height} pixels{some} · {counted(objects, 'object')} · "
        f"{counted(policies, 'policy', 'policies')}"
    )


def _table(comparison: Comparison) -> str:
    """Returns a table with a row for each policy; the best of a column is bold."""
    rows = comparison.rows()
    columns = [name for name in ("J&F", "J", "F", "consistency", "agreement") if rows[0].get(name) is not None]
    columns += ["frames/s", "frames held", "most bytes"]
    best = {name: (min if name in ("frames held", "most bytes") else max)(_numbers(rows, name)) for name in columns}
    lines = []
    for number, row in enumerate(rows):
        cells = [_cell(name, row.get(name), row.get(name) == best[name] and len(rows) > 1) for name in columns]
        name, folder = escape(str(row["policy"])), quote(safe_name(str(row["policy"])))
        pace = f"{row['write every']} or sooner" if row["write on growth"] else str(row["write every"])
        lines.append(
            f'<tr><th scope="row"><i class="dot" style="background:{style_of(number)[0]}"></i>{name}</th>'
            f"{''.join(cells)}<td>{escape(str(row['budget']))}</td><td>{pace}</td>"
            f'<td><a href="policies/{folder}/overlay.mp4">whole video</a></td></tr>'
        )
    heads = [
        "policy",
        *("most MiB" if name == "most bytes" else name for name in columns),
        "budget",
        "write interval",
        "",
    ]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name) is not None]


def _cell(name: str, value: Any, best: bool) -> str:
    if value is None:
        return "<td>–</td>"
    if name in ("frames/s", "frames held"):
        text = f"{value:.2f}"
    else:
        text = f"{value / 2**20:.1f}" if name == "most bytes" else percent(value)
    return f"<td>{f'<b>{text}</b>' if best else text}</td>"


def _curves(comparison: Comparison) -> list[tuple[str, str, str, list[Line]]]:
    """Returns key, title, hint and lines of each chart."""
    curves = []
    if comparison.agreement:
        lines = [Line(f"{one} · {other}", values) for (one, other), values in comparison.agreement.items()]
        curves.append(("agreement", "Agreement", "Overlap (J) of two policies' masks, in percent.", lines))
    if comparison.curves:
        lines = [Line(policy, values) for policy, values in comparison.curves.items()]
        curves.append(("score", "J&F", "J&F of each frame against the true masks, in percent.", lines))
    if comparison.ways_back:
        lines = [Line(policy, comparison.way_back_curve(policy)) for policy in comparison.ways_back]
        hint = "Overlap (J) of the masks of the forward and the backward pass, in percent; read it from the right."
        curves.append(("back", "Forward and backward", hint, lines))
    held = [Line(policy, [n / 2**20 for n in run.bank_bytes]) for policy, run in comparison.runs.items()]
    curves.append(("bytes", "Memory held", "MiB of keys, values and bookkeeping after each frame.", held))
    return curves


def _charts(comparison: Comparison) -> str:
    return "".join(
        line_chart(key, title, hint, lines, (lambda value: f"{value:.1f}") if key == "bytes" else percent)
        for key, title, hint, lines in _curves(comparison)
    )


def _planes(comparison: Comparison) -> str:
    """Returns the charts of quality over bytes and over speed; empty without a measure of quality."""
    measured = [
        (run, quality, style_of(number)[0])
        for number, run in enumerate(comparison.runs.values())
        if (quality := comparison.quality(run.policy)) is not None
    ]
    if not measured:
        return ""
    measure = f"{comparison.measure}, %"
    sizes = [max(run.bank_bytes) / 2**20 for run, _, _ in measured]
    rates = [run.frames_per_second for run, _, _ in measured]
    best_size = undominated([(size, quality) for size, (_, quality, _) in zip(sizes, measured, strict=True)])
    best_rate = undominated([(-rate, quality) for rate, (_, quality, _) in zip(rates, measured, strict=True)])

    def points(xs: Sequence[float], best: Sequence[bool]) -> list[Point]:
        each = zip(measured, xs, best, strict=True)
        return [Point(run.policy, x, quality, color, good) for (run, quality, color), x, good in each]

    return scatter(
        f"{comparison.measure} and memory", "most MiB", measure, points(sizes, best_size), log_x=True
    ) + scatter(f"{comparison.measure} and speed", "frames/s", measure, points(rates, best_rate))


def _settings(comparison: Comparison) -> str:
    pairs = [(name, _words(value)) for name, value in comparison.settings.items()]
    pairs += [(run.policy, run.description) for run in comparison.runs.values()]
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "the policy's own" if value is None else str(value) or "none"
