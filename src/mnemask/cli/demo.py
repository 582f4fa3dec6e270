"""`mnemask demo`: segments a synthetic video and scores the result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, locks_out
from mnemask.cli.output import console, emit, literal
from mnemask.cli.progress import progress, show_frames


@command
@locks_out
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the pictures.")] = Path("demo"),
    frames: Annotated[int, typer.Option(min=12, help="Length of the clip.")] = 72,
    objects: Annotated[int, typer.Option(min=1, max=8, help="Number of objects.")] = 2,
    seed: Annotated[int, typer.Option(help="Another seed draws another clip.")] = 0,
    model: Annotated[str, typer.Option(help="`compact`, or the path of a checkpoint.")] = "compact",
) -> None:
    """Draw a video with exact masks, segment it with the included model, score the masks, and write pictures.

    **Examples**

    `mnemask demo  # demo/contact-sheet.png and demo/overlay.mp4`

    `mnemask demo -o demo3 --objects 3 --seed 1  # another clip, of three objects`
    """
    from mnemask.demo import run_demo

    video = mm.DrawnVideo(frames, num_objects=objects, seed=seed)
    tracker = mm.Tracker(mm.load_model(model))
    with progress() as show:
        run, report = run_demo(
            tracker, out, video, on_frame=lambda run, masks: show_frames(show, run, frames, "segmenting")
        )
    held = run.memory
    assert held is not None, "the clip has frames"
    files = {name: str(out / name) for name in ("contact-sheet.png", "overlay.mp4", "masks", "clip.mp4", "first.png")}
    emit(
        "result",
        command="demo",
        frames=run.frames,
        seconds=round(run.seconds, 3),
        j=report.region.mean,
        f=report.boundary.mean,
        j_and_f=report.j_and_f,
        files=files,
    )
    console.print(
        f"tracked {objects} objects through {run.frames} frames in {run.seconds:.1f} s with {held.tokens} "
        f"tokens ({held.bank_bytes / 2**20:.1f} MiB) of memory"
    )
    console.print(
        f"J {100 * report.region.mean:.1f}  F {100 * report.boundary.mean:.1f}  "
        f"[bold]J&F {100 * report.j_and_f:.1f}[/] against the exact masks"
    )
    console.print(
        f"look at [bold]{literal(files['contact-sheet.png'])}[/] and [bold]{literal(files['overlay.mp4'])}[/]; "
        f"the masks are in {literal(files['masks'])}",
        soft_wrap=True,
    )
    console.print(
        f"to repeat it: mnemask segment {literal(files['clip.mp4'])} --mask {literal(files['first.png'])} "
        "-o OUT --overlay",
        soft_wrap=True,
    )
    console.print(f"or click on objects in the browser: mnemask studio {literal(files['clip.mp4'])}", soft_wrap=True)
