"""`mnemask doctor`: finds faults in a video, a mask or the installation, and how to fix them."""

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
        typer.Argument(
            help="Videos, folders of frames, or mask images; without any, the installation.", metavar="[FILE…]"
        ),
    ] = None,
) -> None:
    """Find out what is wrong with a video, a mask or the installation, and how to fix it.

    Masks given together with a video are also checked against it: their size and their frames.
    Without a file, it lists versions, and decodes and segments a tiny video from the package.
    The exit code is 1 if a problem was found.

    **Examples**

    `mnemask doctor  # checks the installation`

    `mnemask doctor street.mp4 first.png  # checks a video, and whether the mask fits it`

    `mnemask doctor frames/ masks/  # checks folders of both`
    """
    from mnemask.doctor import diagnose_all, diagnose_installation

    counts: Counter[str] = Counter()
    found = diagnose_all(files) if files else [(None, diagnose_installation())]
    for about, findings in found:
        console.print(f"[bold]{literal(about or 'installation')}[/]", soft_wrap=True)
        for finding in findings:
            counts[finding.severity] += 1
            emit("finding", file=about, **asdict(finding))
            console.print(f"  {SIGNS[finding.severity]}: {literal(finding.what)}", soft_wrap=True)
            if finding.remedy:
                console.print(f"      → {literal(finding.remedy)}", soft_wrap=True)
    emit("result", command="doctor", ok=not counts["problem"], problems=counts["problem"], warnings=counts["warning"])
    if counts["problem"]:
        raise typer.Exit(1)
