"""The end report of a batch: report.json, and a page that is complete in itself."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from string import Template
from typing import Any
from urllib.parse import quote

from mnemask.io.storage import without_password
from mnemask.manifest.lines import Manifest
from mnemask.manifest.moments import most_doubtful
from mnemask.manifest.schedule import Outcome
from mnemask.version import __version__

STATES = ("done", "complete", "failed", "stopped")
_WORDS = {"done": "done", "complete": "complete before", "failed": "failed", "stopped": "not ended"}
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
    """What became of a batch.

    Attributes:
        facts: all of it but pictures, as report.json holds it.
        moments: clip, and moment with its picture, of the most doubtful ones of all.
    """

    facts: Mapping[str, Any]
    moments: list[tuple[str, dict[str, Any]]]

    def to_json(self) -> str:
        """Returns the text of report.json."""
        return json.dumps(self.facts, indent=2) + "\n"


def report_of(read: Manifest, outcomes: Mapping[str, Outcome], seconds: float, stopped_by: str | None) -> BatchReport:
    """Returns the report of a batch.

    Args:
        read: its manifest.
        outcomes: of all clips, by name.
        seconds: that it took this time.
        stopped_by: the signal that ended it early.
    """
    moments = most_doubtful({name: outcome.facts.get("moments", ()) for name, outcome in outcomes.items()})
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
    """Returns the HTML of a report: nothing in it is fetched, and nothing of what files are called is markup."""
    facts = report.facts
    counts = ", ".join(f"{number} {_WORDS[state]}" for state, number in facts["counts"].items() if number)
    summary = f"{len(facts['clips'])} clips: {counts}. {facts['frames']:,} frames in {facts['seconds']:,.0f} s."
    if facts["stopped_by"]:
        summary += " Stopped early: the same command goes on with it."
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
        remarks.append(f"begun {clip['attempts']} times")
    told = escape("; ".join(filter(None, remarks)))
    state = clip["state"]
    return f'<tr><td>{link}<td class="n">{clip["line"]}<td class="{state}">{_WORDS[state]}{cells}<td>{told}</tr>'


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
