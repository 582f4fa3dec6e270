"""`mnemask significance`: whether one policy is better than others, or chance."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mnemask.cli.app import command, console
from mnemask.cli.output import emit


class Form(StrEnum):
    """How a table is printed."""

    text = "text"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"
    json = "json"


SUFFIXES = {"markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}
LEFT_OUT = ("A", "gain-Low", "gain-High", "A-Mean", "B-Mean", "wins", "ties", "losses")  # others say it, or A is one


@command
def significance(
    out: Annotated[
        list[Path],
        typer.Argument(help="Folder of `mnemask evaluate`. Several, or a folder of them, are runs, such as seeds."),
    ],
    a: Annotated[
        str,
        typer.Option("--a", metavar="POLICY", help="A policy, or results elsewhere: OUT/results/POLICY, a glob."),
    ],
    b: Annotated[
        list[str] | None,
        typer.Option("--b", metavar="POLICY", help="What to compare it with. Repeatable. [default: all others]"),
    ] = None,
    measure: Annotated[str, typer.Option(help="J&F, J or F.")] = "J&F",
    power: Annotated[
        float, typer.Option(metavar="POINTS", help="Say how many sequences a difference of so many points needs.")
    ] = 1.0,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    per_sequence: Annotated[bool, typer.Option("--per-sequence", help="A row for each sequence instead.")] = False,
    form: Annotated[Form, typer.Option("--format", help="How to print the table.")] = Form.text,
) -> None:
    """Say whether a policy is better than others or chance: paired by sequence, with intervals and p-values.

    **Examples**

    `mnemask significance davis --a diverse --b lfu`

    `mnemask significance seed0 seed1 seed2 --a newest:Newest --format latex` compares with all others over three runs.

    `mnemask significance davis --a new/results/lfu --b lfu` compares the same policy with other weights.

    Intervals are bootstraps of sequences and of objects within; p-values come of exchanging both within sequences,
    corrected by Holm where there are several.
    """
    from mnemask.evaluation.significance import compared
    from mnemask.evaluation.tables import FORMATS, cells

    comparisons = compared(out, a, b or (), measure, level)
    rows = [each.row(power) for each in comparisons]
    if per_sequence:
        rows = [row for each in comparisons for row in each.sequence_rows()]
    notes = [note for each in comparisons for note in each.sentences(measure, power)]
    emit("result", command="significance", rows=rows, notes=notes)
    if form.value != "text":
        console.print(FORMATS[SUFFIXES[form.value]](rows), markup=False, end="", soft_wrap=True)
        return
    header, *body = cells(rows)
    shown = [place for place, name in enumerate(header) if per_sequence or name not in LEFT_OUT]
    table = Table(*(header[place] for place in shown), box=SIMPLE_HEAD)
    for line in body:
        table.add_row(*(line[place] for place in shown))
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
