"""`mnemask doctor`: what is wrong with a video or a mask, and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, console, literal

SIGNS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[bold red]problem[/]"}


@command
def doctor(
    files: Annotated[list[Path], typer.Argument(help="Videos, folders of frames, or mask images.", metavar="FILE…")],
) -> None:
    """Say in plain words what is wrong with a video or a mask, and how to mend it.

    Exits with 1 if a problem was found.
    """
    sick = False
    for file in files:
        console.print(f"[bold]{literal(str(file))}[/]")
        for finding in mm.diagnose(file):
            sick = sick or finding.severity == "problem"
            console.print(f"  {SIGNS[finding.severity]}: {literal(finding.what)}")
            if finding.remedy:
                console.print(f"      → {literal(finding.remedy)}")
    if sick:
        raise typer.Exit(1)
