"""`mnemask score`: J and F of masks against the truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import mnemask as mm
from mnemask.cli.app import command, console
from mnemask.cli.output import emit


class Protocol(StrEnum):
    """How DAVIS counts."""

    davis2016 = "davis2016"
    davis2017 = "davis2017"


@command
def score(
    gt: Annotated[Path, typer.Option(help="Folder of the true masks: SEQUENCE/*.png, or one sequence's *.png.")],
    pred: Annotated[Path, typer.Option(help="Folder of the masks to score, named alike.")],
    protocol: Annotated[
        Protocol, typer.Option(help="davis2016: everything marked is one object. davis2017: ids are kept apart.")
    ] = Protocol.davis2017,
    per: Annotated[str, typer.Option(help="A row for each `sequence` or each `object`.")] = "sequence",
    official_decay: Annotated[
        bool, typer.Option("--official-decay", help="Repeat the official tool's decay, wrong past 256 frames.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all scores to this file; `-`: to standard output.")
    ] = None,
) -> None:
    """Score masks by the DAVIS measures: J (overlap), F (boundary), their mean, recall and decay.

    The first and the last frame are not scored, as in the official semi-supervised protocol.
    """
    from mnemask.evaluation.score import format_table, score_folder
    from mnemask.pipeline import write_report

    if per not in ("sequence", "object"):
        raise mm.InputError(f"--per {per!r} is unknown", "use sequence or object")
    report = score_folder(gt, pred, protocol=protocol.value, official_decay=official_decay)
    emit("result", command="score", **report.to_dict(frames=True))
    rows = format_table(report, "object" if per == "object" else "sequence")
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row, style="bold" if row is rows[-1] else None)
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    if json_file is not None and str(json_file) != "-":
        write_report(json_file, report.to_dict(frames=True))
        console.print(f"scores in {json_file}", markup=False)
