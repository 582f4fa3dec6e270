"""`mnemask bench`: how fast it is on this machine, against the plain way and against what the machine can do."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import mnemask as mm
from mnemask.cli.app import command, console, errors
from mnemask.cli.options import DeviceOption, SizeOption


@command
def bench(
    model: Annotated[str, typer.Option("--model", help="`compact`, `paper`, or a checkpoint.")] = "compact",
    objects: Annotated[str, typer.Option("--objects", help="How many to follow, such as 1,3.")] = "1,3",
    size: SizeOption = 480,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often each part is timed.")] = 15,
    quick: Annotated[bool, typer.Option("--quick", help="Three rounds, and no bank of 100 frames.")] = False,
    device: DeviceOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all numbers to this file.")] = None,
) -> None:
    """Measure the speed of each part and of the whole, on drawn frames, against the plain way to compute the same.

    Times are medians of interleaved rounds with their quartiles. The plain way computes in float32, with every object's
    input written out and the dense affinity matrix, as STCN's original evaluation does, with the same weights.
    """
    with errors.status("loading …") as status:
        report = mm.measure_speed(
            model,
            num_objects=parse_objects(objects),
            size=size,
            rounds=rounds,
            quick=quick,
            device=device,
            on_stage=lambda stage: status.update(f"measuring {stage} …"),
        )
    show(report)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
        except OSError as error:
            raise mm.InputError(f"cannot write {str(json_file)!r} ({error.strerror}); give another place") from error
        console.print(str(json_file), markup=False, soft_wrap=True)


def parse_objects(text: str) -> list[int]:
    """Returns the numbers of "1,3"; raises InputError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) < 3 for part in parts):
        raise mm.InputError(f"--objects {text[:40]!r} is no list of numbers, such as 1,3")
    return [int(part) for part in parts]


def show(report: mm.BenchReport) -> None:
    """Prints the tables."""
    facts = report.machine
    console.print(
        f"{facts['processor']}, {facts['capability']}, {facts['threads']} threads, torch {facts['torch']}, "
        f"{facts['device']}; {report.settings['model']} in {report.settings['dtype']}, frames of "
        f"{report.settings['frame'][1]}×{report.settings['frame'][0]}",
        markup=False,
    )
    table = Table("ceiling", "precision", "threads", "reached", title="What the machine can do", title_justify="left")
    for ceiling in report.ceilings:
        unit = "GB/s" if ceiling.kind == "copy" else "GFLOP/s"
        table.add_row(ceiling.kind, ceiling.dtype, str(ceiling.threads), f"{ceiling.per_second / 1e9:.0f} {unit}")
    console.print(table)
    console.print(table_of("Parts of a frame", report.parts))
    console.print(table_of("Whole frames, memory of two frames, per frame", report.frames))
    console.print(table_of("Files, per frame", report.files))
    console.print(f"start-up to the first computed mask: {report.start_up.median:.2f} s")
    for alike in report.agreement:
        console.print(
            f"{alike.num_objects} objects, {alike.num_frames} drawn frames: masks overlap the plain path's by "
            f"{alike.iou:.4f}, probabilities differ by at most {alike.largest_difference:.2g}"
        )
    if not report.settings["trained"]:
        console.print("the weights are random, since the package has none of this model: masks say nothing, times do")


def table_of(title: str, rows: tuple[mm.Measured, ...]) -> Table:
    """Returns a table of times: median, quartiles, the plain path's, and the share of the ceiling."""
    columns = ("part", "objects", "ms", "quartiles", "plain ms", "ratio", "GFLOP", "MB", "of ceiling")
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "part" else "right")
    for row in rows:
        table.add_row(
            row.name,
            str(row.num_objects),
            f"{1000 * row.fast.median:.1f}",
            f"{1000 * row.fast.low:.1f}–{1000 * row.fast.high:.1f}",
            "–" if row.plain is None else f"{1000 * row.plain.median:.1f}",
            "–" if row.ratio is None else f"{row.ratio:.1f}×",
            f"{row.flops / 1e9:.1f}" if row.flops else "–",
            f"{row.bytes / 1e6:.0f}" if row.bytes else "–",
            "–" if row.share is None else f"{100 * row.share:.0f} %",
        )
    return table
