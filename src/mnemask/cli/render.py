"""`mnemask render`: writes videos for editors from the masks of an earlier run, without tracking again."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

import mnemask as mm
from mnemask.cli.app import command, console, locks_out
from mnemask.cli.output import emit, say
from mnemask.cli.progress import progress as shown_progress
from mnemask.cli.video_options import VIDEOS, with_videos

logger = logging.getLogger(__name__)


@command
@locks_out
@with_videos
def render(
    video: Annotated[str, typer.Argument(help="The video, or folder of images, that was segmented.")],
    out: Annotated[Path, typer.Argument(help="The folder that `segment` wrote to; masks are read from OUT/masks.")],
    videos: Any = VIDEOS,
    start: Annotated[str | None, typer.Option(help="First frame or time to write. [default: as in the run]")] = None,
    stop: Annotated[str | None, typer.Option(help="Frame or time to stop before. [default: as in the run]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing videos in OUT.")] = False,
) -> None:
    """Write videos for editing programs from existing masks: cut-outs with alpha, mattes, green screens.

    **Examples**

    `mnemask render street.mp4 out --as prores  # writes out/cutout.mov`

    `mnemask render street.mp4 out --as webm --only 2 --grow 1 --feather 3  # cuts out object 2 with a soft edge`

    `mnemask render frames/ out --as matte --fps 24 --largest --fill-holes all  # makes a matte from a folder of images`
    """
    from mnemask.io.stop_signals import StopSignals
    from mnemask.pipeline.render import masks_among, report_of, settings_of
    from mnemask.pipeline.render import render as write_videos
    from mnemask.pipeline.run import StopError

    report, count = report_of(out), 0
    settings = settings_of(report)
    with ExitStack() as stack:
        reader = stack.enter_context(
            mm.VideoReader(
                video,
                start=start or str(settings.get("start") or "0"),
                stop=stop or settings.get("stop"),
                on_corrupt=settings.get("on_corrupt", "stop"),
                masks=masks_among(video, report),
                originals=videos.originals,
            )
        )
        videos.refuse_idle("", reader.facts.timed)
        if not reader.facts.timed:
            videos = videos.at_rate_of(settings)
        asked = stack.enter_context(StopSignals(reader.interrupt))
        show = stack.enter_context(shown_progress())
        total = reader.num_frames
        of = "" if total is None else f"/{total}"

        def on_frame(number: int) -> None:
            nonlocal count
            count = number
            show(number, total, f"{number}{of} frames", unit="frames")

        try:
            written = write_videos(
                reader,
                out,
                videos,
                overwrite=overwrite,
                inputs=(Path(video),) if Path(video).is_file() else (),
                stop=asked,
                on_frame=on_frame,
            )
        except StopError as stopped:
            emit("result", command="render", out=str(out), files={}, complete=False, stopped_by=str(stopped))
            console.print(f"stopped by {stopped}; the part written so far is playable as NAME.partial")
            raise typer.Exit(asked.exit_code) from None
    tracked = report.get("frames")
    if start is None and stop is None and isinstance(tracked, int) and count < tracked:
        logger.warning("%s has %d frames, but the run in %s had %d: is it the same video?", video, count, out, tracked)
    files = {kind: str(path) for kind, path in written.items()}
    emit("result", command="render", out=str(out), files=files, complete=True)
    for path in written.values():
        say(f"{path}  {path.stat().st_size / 2**20:.1f} MiB")
