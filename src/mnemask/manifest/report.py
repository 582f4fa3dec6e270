"""The final report of a batch: report.json, a self-contained page, and the frames to check.

A frame is doubtful if the network was unsure, or if a mask jumped or fell apart.
"""

import base64
import csv
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np

from mnemask.errors import MnemaskError, counted
from mnemask.io import VideoReader, draw_overlay
from mnemask.io.label_files import read_labels
from mnemask.io.storage import without_password
from mnemask.io.table import TABLE
from mnemask.io.visualize import encode_image
from mnemask.manifest.lines import Manifest
from mnemask.manifest.schedule import Outcome
from mnemask.pipeline import render
from mnemask.version import __version__

MOST, MOST_OF_ALL = 3, 10
"""Maximum number of doubtful frames reported for a clip, and for all clips together."""
APART = 24
"""Minimum distance in frames between two of them, as neighbours look the same."""
WORTH = 0.1
"""Minimum doubt of a doubtful frame."""
_WIDTH = 320
_QUALITY = 78

STATES = ("done", "complete", "failed", "stopped")
_WORDS = {"done": "done", "complete": "complete before", "failed": "failed", "stopped": "not finished"}
_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--bad:#c0392b}
body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}td,th{padding:.3rem .6rem;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}.failed,.stopped{color:var(--bad)}
.moments{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}
figure{margin:0;background:var(--soft);padding:.5rem;border-radius:.4rem}img{width:100%;display:block}
figcaption{font-size:.85rem}.wrap{overflow-x:auto}small{opacity:.75}
"""
_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title><style>$style</style></head><body>
<h1>$title</h1><p>$summary</p>
$failures
<h2>Where to look first</h2>$moments
<h2>Clips</h2><div class="wrap"><table><thead>
<tr><th>clip<th>line<th>state<th>frames<th>seconds<th>frames/s<th>doubt<th>remarks</thead><tbody>$rows</tbody></table></div>
<p><small>mnemask $version, $when</small></p></body></html>
""")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """The report of a batch.

    Attributes:
        facts: everything but pictures, as in report.json.
        moments: the most doubtful frames of all clips, each as the clip's name and the frame with its picture.
    """

    facts: Mapping[str, Any]
    moments: list[tuple[str, dict[str, Any]]]

    def to_json(self) -> str:
        """Returns the text of report.json."""
        return json.dumps(self.facts, indent=2) + "\n"


def report_of(read: Manifest, outcomes: Mapping[str, Outcome], seconds: float, stopped_by: str | None) -> BatchReport:
    """Returns the report of a batch.

    Args:
        read: the batch's manifest.
        outcomes: outcomes of all clips, by name.
        seconds: time that this run of the batch took.
        stopped_by: the signal that ended it early, or None.
    """
    moments = _most_doubtful({name: outcome.facts.get("moments", ()) for name, outcome in outcomes.items()})
    counts: Counter[str] = Counter(outcome.state for outcome in outcomes.values())
    clips = []
    for clip in read.clips:
        outcome = outcomes[clip.name]
        its = [_without_picture(each) for each in outcome.facts.get("moments", ())]
        clips.append(
            {
                "name": clip.name,
                "line": clip.line,
                "video": without_password(str(clip.options["video"])),
                "state": outcome.state,
                "problem": outcome.problem or None,
                "remedy": outcome.remedy or None,
                "attempts": outcome.attempts,
                **{key: value for key, value in outcome.facts.items() if key != "moments"},
                "moments": its,
                **({"notes": dict(clip.notes)} if clip.notes else {}),
            }
        )
    facts = {
        "mnemask": __version__,
        "manifest": read.path.name,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "stopped_by": stopped_by,
        "seconds": round(seconds, 3),
        "frames": sum(int(each.get("frames") or 0) for each in clips if each["state"] == "done"),
        "counts": {state: counts[state] for state in STATES},
        "most_doubtful": [{"clip": name, **_without_picture(moment)} for name, moment in moments],
        "clips": clips,
    }
    return BatchReport(facts, moments)


def _without_picture(moment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in moment.items() if key != "picture"}


def page_of(report: BatchReport) -> str:
    """Returns the HTML of a report: it loads no other files, and names of files are escaped."""
    facts = report.facts
    counts = ", ".join(f"{number} {_WORDS[state]}" for state, number in facts["counts"].items() if number)
    summary = f"{counted(len(facts['clips']), 'clip')}: {counts}. "
    summary += f"{counted(facts['frames'], 'frame')} in {facts['seconds']:,.0f} s."
    if facts["stopped_by"]:
        summary += " Stopped early: run the same command again to continue."
    failed = [clip for clip in facts["clips"] if clip["state"] == "failed"]
    return _PAGE.substitute(
        title=escape(f"Batch {facts['manifest']}"),
        style=_STYLE,
        summary=escape(summary),
        failures="".join(["<h2>Failures</h2><ul>", *map(_failure, failed), "</ul>"]) if failed else "",
        moments=f'<div class="moments">{"".join(_figure(*each) for each in report.moments)}</div>'
        if report.moments
        else "<p>No frame of any clip is doubtful.</p>",
        rows="".join(map(_row, facts["clips"])),
        version=escape(__version__),
        when=escape(str(facts["ended"])),
    )


def _failure(clip: Mapping[str, Any]) -> str:
    told = "; ".join(filter(None, (clip["problem"], clip["remedy"])))
    return f'<li class="failed"><b>{escape(clip["name"])}</b> (line {clip["line"]}): {escape(told)}</li>'


def _figure(name: str, moment: Mapping[str, Any]) -> str:
    picture = f'<img alt="" src="data:image/jpeg;base64,{escape(moment["picture"])}">' if moment.get("picture") else ""
    lines = (
        f"<b>{escape(name)}</b>, frame {moment['frame']}, object {moment['object_id']}",
        f"doubt {moment['doubt']:.2f}, certainty {moment['certainty']:.2f}",
        f"{moment['area']:,} pixels (frame before: {moment['area_before']:,}), {moment['specks']} specks",
    )
    return f"<figure>{picture}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _row(clip: Mapping[str, Any]) -> str:
    link, doubt = escape(clip["name"]), None
    if clip["state"] in ("done", "complete"):
        link = f'<a href="{quote(clip["name"])}/">{link}</a>'
        doubt = max((moment["doubt"] for moment in clip["moments"]), default=0.0)
    numbers = (clip.get("frames"), clip.get("seconds"), clip.get("frames_per_second"), doubt)
    cells = "".join(f'<td class="n">{_number(value)}</td>' for value in numbers)
    remarks = [clip["problem"], *clip.get("warnings", ()), *(f"{k[1:]}: {v}" for k, v in clip.get("notes", {}).items())]
    if clip["attempts"] > 1:
        remarks.append(f"started {clip['attempts']} times")
    told = escape("; ".join(filter(None, remarks)))
    state = clip["state"]
    return f'<tr><td>{link}<td class="n">{clip["line"]}<td class="{state}">{_WORDS[state]}{cells}<td>{told}</tr>'


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


@dataclass(frozen=True, slots=True)
class DoubtfulFrame:
    """A frame to check.

    Attributes:
        frame: the frame's number.
        object_id: the object that is doubtful there.
        doubt: doubt from 0 to 1, see `io/table.py`.
        certainty: mean probability of the mask's pixels.
        area: number of pixels of the mask.
        area_before: the same in the frame before.
        specks: number of small pieces of the mask.
        name: name of the frame's files.
        picture: JPEG with the masks drawn in, in base64; empty if the frame cannot be read again.
    """

    frame: int
    object_id: int
    doubt: float
    certainty: float
    area: int
    area_before: int
    specks: int
    name: str = ""
    picture: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the frame in JSON types."""
        return asdict(self)


def doubtful_frames(folder: Path, video: str) -> list[DoubtfulFrame]:
    """Returns the most doubtful frames of a run, the most doubtful first, from its table.

    Args:
        folder: the run's folder.
        video: the video that it tracked, for the pictures.
    """
    kept: list[DoubtfulFrame] = []
    for found in _doubtful(folder / TABLE):
        near = [each for each in kept if abs(each.frame - found.frame) < APART]
        if all(each.doubt < found.doubt for each in near):
            rest = [each for each in kept if each not in near]
            kept = sorted([*rest, found], key=lambda each: -each.doubt)[:MOST]
    masks = render.masks_among(video, render.report_of(folder)) if kept else []
    return [_with_picture(each, folder, video, masks) for each in kept]


def _doubtful(table: Path) -> Iterator[DoubtfulFrame]:
    """Yields the doubtful frames of a table, except the first of each object, where its mask was given."""
    if not table.is_file():
        return
    areas: dict[int, int] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            object_id, area, doubt = int(row["object"]), int(row["area"]), float(row["doubt"])
            before, areas[object_id] = areas.get(object_id), area
            if before is not None and doubt >= WORTH:
                certainty, specks = float(row["certainty"]), int(row["specks"])
                yield DoubtfulFrame(int(row["frame"]), object_id, doubt, certainty, area, before, specks, row["name"])


def _with_picture(found: DoubtfulFrame, folder: Path, video: str, given: Collection[Path]) -> DoubtfulFrame:
    """Returns a frame with its picture; masks are drawn in if each frame has a label file.

    Args:
        found: the frame.
        folder: the run's folder.
        video: the video that it tracked.
        given: files in the video's folder that are masks, not frames.
    """
    try:
        with VideoReader(video, start=found.frame, stop=found.frame + 1, masks=given) as reader:
            image = next(iter(reader)).image.permute(1, 2, 0).numpy()
        width = min(_WIDTH, image.shape[1])
        size = width, max(1, round(image.shape[0] * width / image.shape[1]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        masks = folder / "masks" / f"{found.name}.png"
        if masks.is_file():
            labels = cv2.resize(read_labels(masks), size, interpolation=cv2.INTER_NEAREST)
            small = draw_overlay(small, labels.astype(np.int32))
    except (MnemaskError, StopIteration):
        return found
    return replace(found, picture=base64.b64encode(encode_image(small, ".jpg", _QUALITY)).decode())


def _most_doubtful(by_clip: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Returns the most doubtful frames of all clips with the clips' names, the most doubtful first."""
    found = [(clip, dict(moment)) for clip, moments in by_clip.items() for moment in moments]
    return sorted(found, key=lambda each: -float(each[1]["doubt"]))[:MOST_OF_ALL]
