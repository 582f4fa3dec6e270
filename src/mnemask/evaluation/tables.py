"""Results as tables (CSV and JSON with all digits, Markdown and LaTeX rounded as in papers) and as submissions."""

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from mnemask.errors import InputError, OutputError
from mnemask.evaluation.results import Result
from mnemask.io.atomic import make_folder, unfinished
from mnemask.io.written import Written
from mnemask.metrics import ObjectScore, Report
from mnemask.metrics.significance import holm, p_text, report_difference

GAIN = ("gain", "gain-Low", "gain-High", "p")
Row = dict[str, str | int | float | None]

DECIMALS = {"frames/s": 2, "frames held": 2, "most frames": 2, "MiB": 1}
_LATEX = {letter: "\\" + letter for letter in "&%_#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
}


def sequence_rows(results: Sequence[Result]) -> list[Row]:
    """Returns a row for each policy and sequence; scores are from 0 to 1, or None if there is none."""
    rows = []
    for result in results:
        row: Row = {"policy": result.policy, "sequence": result.sequence, "frames": result.num_frames}
        rows.append(row | _scores(result.report) | _costs([result]))
    return rows


def overall_rows(results: Sequence[Result]) -> list[Row]:
    """Returns a row for each policy: scores are means over objects, with the 95 % bootstrap interval of J&F.

    If there are several policies, `gain` is J&F minus that of the first one, paired by sequence, with its interval, and
    `p` its p-value, corrected for the number of policies (`mnemask.metrics.significance`).

    If objects are marked as of seen or unseen categories, J and F of both groups and the mean of these four are added,
    as in YouTube-VOS.
    """
    rows = []
    names = list(dict.fromkeys(result.policy for result in results))
    gains = _gains(results, names)
    for policy in names:
        mine = [result for result in results if result.policy == policy]
        reports = [result.report for result in mine if result.report is not None]
        row: Row = {"policy": policy, "sequences": len(mine)}
        if reports:
            report = Report.merged(reports)
            low, high = report.interval() if len(report.by_sequence) > 1 else (None, None)
            scores = _scores(report)
            row |= (
                {"J&F-Mean": scores.pop("J&F-Mean"), "J&F-Low": low, "J&F-High": high} | gains.get(policy, {}) | scores
            )
        rows.append(row | _groups(mine) | _costs(mine))
    return rows


def _gains(results: Sequence[Result], names: Sequence[str]) -> dict[str, Row]:
    """Returns the columns that compare each policy with the first one; empty if there is nothing to compare."""
    reports = {
        name: Report.merged(each)
        for name in names
        if (each := [result.report for result in results if result.policy == name and result.report])
    }
    first, *others = names
    if first not in reports or not others:
        return {}
    found = {name: report_difference(reports[name], reports[first]) for name in others if name in reports}
    known = {name: each for name, each in found.items() if each is not None}
    corrected = dict(zip(known, holm([each.p for each in known.values()]), strict=True))
    return {first: dict.fromkeys(GAIN)} | {
        name: dict(zip(GAIN, (each.gain, each.low, each.high, corrected[name]), strict=True))
        for name, each in known.items()
    }


def _scores(report: Report | None) -> Row:
    if report is None:
        return {}
    *_, overall = report.rows()
    return {name: None if math.isnan(value) else value for name, value in overall.items() if not isinstance(value, str)}


def _costs(results: Sequence[Result]) -> Row:
    """Returns the tracker's speed and memory over all frames; maxima are over all sequences."""
    held = [frames for result in results for frames in result.frame_memory]
    return {
        "frames/s": sum(result.num_frames for result in results) / sum(result.seconds for result in results),
        "frames held": fmean(held),
        "most frames": max(held),
        "MiB": max(result.most_bytes for result in results) / 2**20,
    }


def _groups(results: Sequence[Result]) -> Row:
    by_group: dict[str, list[ObjectScore]] = {"seen": [], "unseen": []}
    for result in results:
        for score in result.report.objects if result.report else ():
            if group := result.groups.get(score.object_id):
                by_group[group].append(score)
    if not any(by_group.values()):
        return {}
    row: Row = {}
    for letter, part in ("J", "region"), ("F", "boundary"):
        for group, scores in by_group.items():
            row[f"{letter}-{group}"] = fmean(getattr(score, part).mean for score in scores) if scores else None
    known = [value for value in row.values() if isinstance(value, float)]
    return row | {"G-Mean": fmean(known) if len(known) == len(row) else None}


def cells(rows: Sequence[Mapping[str, str | int | float | None]]) -> list[list[str]]:
    """Returns a header and the rows as text: scores in percent with one decimal, a dash for a missing value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [columns, *([_cell(name, row.get(name)) for name in columns] for row in rows)]


def _cell(name: str, value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    if name in ("p", "p-Holm"):
        return p_text(value)
    return f"{value:.{DECIMALS[name]}f}" if name in DECIMALS else f"{100 * value:.1f}"


def to_csv(rows: Sequence[Row]) -> str:
    """Returns comma-separated values."""
    text = io.StringIO()
    writer = csv.DictWriter(text, cells(rows)[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_json(rows: Sequence[Row]) -> str:
    """Returns a list of objects."""
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def to_markdown(rows: Sequence[Row]) -> str:
    """Returns a table with a line for each row."""
    header, *body = cells(rows)
    lines = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def to_latex(rows: Sequence[Row]) -> str:
    r"""Returns a tabular for \usepackage{booktabs}."""
    header, *body = ([_latex(cell) for cell in line] for line in cells(rows))
    first = rows[0]
    columns = "".join("l" if isinstance(first.get(name), str) else "r" for name in cells(rows)[0])
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex(cell: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in cell)


FORMATS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "csv": to_csv,
    "json": to_json,
    "md": to_markdown,
    "tex": to_latex,
}


TABLES = ("overall", "sequences")


def check_tables(folder: Path) -> None:
    """Raises OutputError if a file with the name of a table is not an earlier table."""
    Written(folder).refuse_foreign(*(folder / f"{name}.{suffix}" for name in TABLES for suffix in FORMATS))


def write_tables(results: Sequence[Result], folder: Path | str) -> list[Row]:
    """Writes two tables and returns the first, the one of `overall_rows`.

    `overall` has a row for each policy, `sequences` one for each policy and sequence; both are written as .csv, .json,
    .md and .tex.

    Raises:
        InputError: there are no results.
        OutputError: the folder cannot be written to, or a file with the name of a table is not an earlier table.
    """
    if not results:
        raise InputError("there are no results to make tables of", "evaluate a policy on a sequence first")
    folder = make_folder(Path(folder))
    overall, written = overall_rows(results), Written(folder)
    for name, rows in zip(TABLES, (overall, sequence_rows(results)), strict=True):
        for suffix, text_of in FORMATS.items():
            written.write(folder / f"{name}.{suffix}", text_of(rows))
    return overall


def write_submission(masks: Path, sequences: Iterable[str], target: Path, top: str = "Annotations") -> None:
    """Writes a zip of TOP/SEQUENCE/FRAME.png, completely or not at all.

    Args:
        masks: the folder that holds a folder of PNG masks for each sequence.
        sequences: the sequences' names.
        target: the zip file.
        top: the top folder in the zip, "" for none; YouTube-VOS expects "Annotations", DAVIS none.

    Raises:
        InputError: a sequence has no masks there.
        OutputError: the zip cannot be written, or `target` is a file that is not an earlier submission.
    """
    make_folder(target.parent)
    try:
        with unfinished(target) as partial:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:  # PNG is compressed already
                for name in sequences:
                    files = sorted((masks / name).glob("*.png"))
                    if not files:
                        raise InputError(f"there are no masks in {masks / name}", "evaluate this sequence first")
                    for path in files:
                        archive.write(path, str(Path(top, name, path.name).as_posix()))
            Written(target.parent).publish(partial, target)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(target)!r} ({error.strerror})", "make room or give another place"
        ) from error
