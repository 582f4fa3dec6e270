"""`mnemask demo`: the main job on a clip that needs no file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, console, literal, progress_bar
from mnemask.cli.lock import locks_out


@command
@locks_out
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("demo"),
    frames: Annotated[int, typer.Option(min=12, help="Length of the clip.")] = 72,
    objects: Annotated[int, typer.Option(min=1, max=8, help="Objects in it.")] = 2,
    seed: Annotated[int, typer.Option(help="Another seed draws another clip.")] = 0,
    model: Annotated[str, typer.Option(help="`compact` or the path of a checkpoint.")] = "compact",
) -> None:
    """Draw a clip with exact masks, segment it with the embedded model, score it, and leave pictures to look at."""
    video = mm.DrawnVideo(frames, num_objects=objects, seed=seed)
    tracker = mm.Tracker(mm.load_model(model))
    with progress_bar(frames) as show:
        progress, report = mm.run_demo(tracker, out, video, on_frame=lambda progress, masks: show(progress))
    held = progress.memory
    assert held is not None, "the clip has frames"
    console.print(
        f"tracked {objects} objects through {progress.frames} frames in {progress.seconds:.1f} s with {held.tokens} "
        f"tokens ({held.bank_bytes / 2**20:.1f} MiB) of memory"
    )
    console.print(
        f"J {100 * report.region.mean:.1f}  F {100 * report.boundary.mean:.1f}  "
        f"[bold]J&F {100 * report.j_and_f:.1f}[/] against the exact masks"
    )
    console.print(
        f"look at [bold]{literal(str(out / 'contact-sheet.png'))}[/] and [bold]{literal(str(out / 'overlay.mp4'))}[/]"
    )
