"""`mnemask segment`: from a video and the masks of its first frame to the masks of every frame."""

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

import mnemask as mm
from mnemask.cli.app import command, console, progress_bar
from mnemask.cli.plan import PromptPlan

PolicyName = Enum("PolicyName", {name: name for name in mm.POLICIES})  # type: ignore[misc]
Format = Enum("Format", {name: name for name in mm.MASK_FORMATS if name != "overlay"})  # type: ignore[misc]
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Precision = Enum("Precision", {name: name for name in DTYPES})  # type: ignore[misc]


@command
def segment(
    video: Annotated[
        str, typer.Argument(help="A video file, a folder or glob of images, `camera:0`, `-` for a pipe, or an address.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for masks/, overlay.mp4 and report.json.")],
    mask: Annotated[
        Path | None,
        typer.Option(help="Image with the objects of the first frame: ids, colours, or black and white."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(help="x,y,w,h in pixels around an object of the first frame. May be repeated.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="FRAME=MASK: objects that appear later, or corrections; frames count from 0. Repeatable."),
    ] = None,
    clean_masks: Annotated[
        bool, typer.Option("--clean-masks", help="Give blended edge pixels of id masks to the nearest object.")
    ] = False,
    model: Annotated[str, typer.Option(help="`compact`, or a checkpoint of mnemask or STCN.")] = "compact",
    policy: Annotated[PolicyName, typer.Option(help="What to keep in memory.")] = PolicyName[mm.DEFAULT_POLICY],
    frames: Annotated[float | None, typer.Option(help="Memory budget in frames' worth of features.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Memory budget in bytes, such as 64MiB; buffers are counted.")
    ] = None,
    write_every: Annotated[
        int | None, typer.Option(min=1, help="Remember each N-th frame. [default: the policy's, 5]")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Memories that each cell reads.")] = 20,
    size: Annotated[int, typer.Option(min=32, help="Short side, in pixels, at which frames are processed.")] = 480,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    format: Annotated[
        Format, typer.Option(help="`png` indexed, `ffv1` lossless video, `rgba` cut-outs, `rle` COCO JSON.")
    ] = Format["png"],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps. [default: cuda where there is one]")] = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the convolutions.")] = Precision["auto"],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds a run.")] = False,
) -> None:
    """Track objects through a video: give their masks where they first appear, get their masks in every frame.

    **Examples**

    `mnemask segment street.mp4 --mask first.png -o out --overlay`

    `mnemask segment street.mp4 --box 120,80,200,160 -o out` makes the first mask from a box.

    `mnemask segment frames/ --mask first.png --at 240=dog.png -o out` adds an object at frame 240.

    Something wrong with a file? `mnemask doctor FILE` says what.
    """
    plan = PromptPlan(mask, box or [], at or [], clean_masks)
    chosen = mm.POLICIES[policy.value]
    if write_every is not None:
        chosen = replace(chosen, write_every=write_every)
    limit = None if frames is None and budget is None else mm.Budget(frames=frames, bytes=budget)
    with mm.VideoReader(video) as reader:
        network = mm.load_model(model, device=device, dtype=DTYPES[dtype.value])
        tracker = mm.Tracker(network, chosen, limit, top_k=top_k, short_side=size)
        settings = {
            "video": video,
            "model": model,
            "policy": policy.value,
            "write_every": chosen.write_every,
            "budget": str(tracker.memory.budget),
            "top_k": top_k,
            "size": size,
            "format": format.value,
            "device": str(network.device),
            "dtype": str(network.dtype).removeprefix("torch."),
            "torch": torch.__version__,
        }
        with progress_bar(reader.num_frames) as show:
            progress = mm.segment(
                reader,
                tracker,
                out,
                plan,
                mask_format=format.value,
                overlay=overlay,
                overwrite=overwrite,
                settings=settings,
                on_frame=lambda progress, masks: show(progress),
            )
    plan.check_all_given(progress.frames)
    held = progress.memory
    assert held is not None, "a video that yields no frame is an error of the reader"
    console.print(
        f"{progress.frames} frames, objects {', '.join(map(str, tracker.object_ids))} in {progress.seconds:.1f} s "
        f"({progress.frames_per_second:.2f} frames/s); memory {held.tokens} tokens "
        f"({held.frames:.2f} frames, {held.bank_bytes / 2**20:.1f} MiB), {held.evictions} evicted"
    )
    console.print(f"masks in {out / 'masks'}" + (f", overlay {out / 'overlay.mp4'}" if overlay else ""))
