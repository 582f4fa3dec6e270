"""`mnemask bench`: how fast mnemask is on this machine, in seconds and relative to the machine's ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

import mnemask as mm
from mnemask.cli.app import command, console
from mnemask.cli.options import DeviceOption, SizeOption
from mnemask.cli.output import emit, say
from mnemask.cli.progress import progress

if TYPE_CHECKING:
    from mnemask.bench.run import BenchReport, Measured


@command
def bench(
    model: Annotated[str, typer.Option("--model", help="`compact`, `stcn`, or a checkpoint.")] = "compact",
    objects: Annotated[str, typer.Option("--objects", help="Numbers of objects to measure, such as 1,3.")] = "1,3",
    size: SizeOption = 480,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Times that each part is measured.")] = 15,
    quick: Annotated[bool, typer.Option("--quick", help="At most three rounds, and no bank of 100 frames.")] = False,
    device: DeviceOption = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file, or with `-` to standard output.")
    ] = None,
) -> None:
    """Measure the speed of the parts and of whole frames on synthetic video, and compare it with the machine's ceiling.

    Times are medians and quartiles of interleaved rounds.

    **Examples**

    `mnemask bench  # 1 and 3 objects at 480p, about ten minutes`

    `mnemask bench --quick --size 240  # three rounds of small frames`

    `mnemask bench --model stcn --objects 1,3 --json stcn.json  # all numbers in a file`
    """
    from mnemask.bench.run import measure_speed
    from mnemask.pipeline import refuse_other_report, write_report

    if json_file is not None:
        refuse_other_report(json_file, "machine")
    with progress() as show_progress:
        report = measure_speed(
            model,
            num_objects=parse_objects(objects),
            size=size,
            rounds=rounds,
            quick=quick,
            device=device,
            on_stage=lambda stage: show_progress(0, None, f"measuring {stage} …", stage),
        )
    emit("result", command="bench", **report.to_dict())
    show(report)
    if json_file is not None:
        write_report(json_file, report.to_dict())
        say(str(json_file))


def parse_objects(text: str) -> list[int]:
    """Returns the numbers in a list such as "1,3"; raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 3 for part in parts):
        raise mm.InputError(f"--objects {text[:40]!r} is not a list of numbers", "give a list such as 1,3")
    return list(dict.fromkeys(map(int, parts)))


def show(report: BenchReport) -> None:
    """Prints the tables."""
    from mnemask.errors import counted

    facts, settings = report.machine, report.settings
    say(
        f"{facts['processor']}, {facts['capability']}, {facts['threads']} threads, torch {facts['torch']}, "
        f"{facts['device']}; {settings['model']} in {settings['dtype']}, frames of "
        f"{settings['frame'][1]}×{settings['frame'][0]}"
    )
    table = new_table("What the machine can do", "ceiling", "precision", "threads", "reached")
    for ceiling in report.ceilings:
        unit = "GB/s" if ceiling.kind == "copy" else "GFLOP/s"
        table.add_row(ceiling.kind, ceiling.dtype, str(ceiling.threads), f"{ceiling.per_second / 1e9:.0f} {unit}")
    console.print(table)
    for number in dict.fromkeys(part.num_objects for part in report.parts):
        rows = [(part.name, part) for part in report.parts if part.num_objects == number]
        console.print(times_of(f"Parts of a frame, {counted(number, 'object')}", rows))
    console.print(times_of("Whole frames", [(counted(each.num_objects, "object"), each) for each in report.frames]))
    console.print(times_of("Files, per frame", [(file.name, file) for file in report.files]))
    say(f"start-up to the first computed mask: {report.start_up.median:.2f} s")
    if not settings["trained"]:
        say("the weights are random, as the package has none for this model: the times are valid, the masks are not")


def new_table(title: str, first: str, *others: str) -> Table:
    """Returns an empty table that fits into 80 columns."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def times_of(title: str, rows: Sequence[tuple[str, Measured]]) -> Table:
    """Returns a table of times, with operations, bytes and shares of the ceiling where they are known."""
    has_counts = any(row.share for _, row in rows)
    table = new_table(title, "", "ms", "quartiles", *(["GFLOP", "MB", "ceiling"] if has_counts else []))
    for name, row in rows:
        cells = [milliseconds(row.fast.median), f"{milliseconds(row.fast.low)}–{milliseconds(row.fast.high)}"]
        if row.share is not None:
            cells += [f"{row.flops / 1e9:.1f}", f"{row.bytes / 1e6:.0f}", f"{100 * row.share:.0f} %"]
        table.add_row(name, *cells)
    return table


def milliseconds(seconds: float) -> str:
    """Returns the time in milliseconds: one decimal, or none from 100 ms on."""
    return f"{1000 * seconds:.{0 if seconds >= 0.1 else 1}f}"
