"""`mnemask doctor`: what is wrong with a video, a mask or the installation, and how to fix it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mnemask.cli.app import command
from mnemask.cli.output import console, emit, literal

SIGNS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "problem": "[bold red]problem[/]"}


@command
def doctor(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Videos, folders of frames, or mask images; none: the installation.", metavar="[FILE…]"),
    ] = None,
) -> None:
    """Say what is wrong with a video, a mask or the installation, and how to fix it.

    Without a file it lists versions, and decodes and segments a tiny video that the package carries.
    Exits with 1 if a problem was found.
    """
    from mnemask.doctor import diagnose, diagnose_installation

    counts: Counter[str] = Counter()
    for file in files or (None,):
        console.print(f"[bold]{literal('installation' if file is None else str(file))}[/]", soft_wrap=True)
        for finding in diagnose_installation() if file is None else diagnose(file):
            counts[finding.severity] += 1
            emit("finding", file=None if file is None else str(file), **asdict(finding))
            console.print(f"  {SIGNS[finding.severity]}: {literal(finding.what)}", soft_wrap=True)
            if finding.remedy:
                console.print(f"      → {literal(finding.remedy)}", soft_wrap=True)
    emit("result", command="doctor", ok=not counts["problem"], problems=counts["problem"], warnings=counts["warning"])
    if counts["problem"]:
        raise typer.Exit(1)
