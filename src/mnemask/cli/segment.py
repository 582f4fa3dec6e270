"""`mnemask segment`: from a video and the masks of its first frame to the masks of every frame."""

from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

import mnemask as mm
from mnemask.cli.app import command, console, progress_bar
from mnemask.cli.options import (
    DEFAULT_POLICY,
    AtOption,
    BoxOption,
    BudgetOption,
    CleanOption,
    DeviceOption,
    FramesOption,
    MaskOption,
    ModelOption,
    PolicyOption,
    SizeOption,
    TopKOption,
    WriteEveryOption,
    new_tracker,
)
from mnemask.cli.plan import PromptPlan

Format = Enum("Format", {name: name for name in mm.MASK_FORMATS if name != "overlay"})  # type: ignore[misc]
DTYPES = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Precision = Enum("Precision", {name: name for name in DTYPES})  # type: ignore[misc]


@command
def segment(
    video: Annotated[
        str, typer.Argument(help="A video file, a folder or glob of images, `camera:0`, `-` for a pipe, or an address.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for masks/, overlay.mp4 and report.json.")],
    mask: MaskOption = None,
    box: BoxOption = None,
    at: AtOption = None,
    clean_masks: CleanOption = False,
    model: ModelOption = "compact",
    policy: PolicyOption = DEFAULT_POLICY,
    frames: FramesOption = None,
    budget: BudgetOption = None,
    write_every: WriteEveryOption = None,
    top_k: TopKOption = 20,
    size: SizeOption = 480,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw the masks into OUT/overlay.mp4.")] = False,
    format: Annotated[
        Format, typer.Option(help="`png` indexed, `ffv1` lossless video, `rgba` cut-outs, `rle` COCO JSON.")
    ] = Format["png"],
    trace: Annotated[
        Path | None, typer.Option(help="File for a line of JSON per write: what was forgotten, and how it had served.")
    ] = None,
    device: DeviceOption = None,
    dtype: Annotated[Precision, typer.Option(help="Precision of the convolutions.")] = Precision["auto"],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a folder that holds a run, and over the trace.")
    ] = False,
) -> None:
    """Track objects through a video: give their masks where they first appear, get their masks in every frame.

    **Examples**

    `mnemask segment street.mp4 --mask first.png -o out --overlay`

    `mnemask segment street.mp4 --box 120,80,200,160 -o out` makes the first mask from a box.

    `mnemask segment frames/ --mask first.png --at 240=dog.png -o out` adds an object at frame 240.

    Something wrong with a file? `mnemask doctor FILE` says what.
    """
    plan = PromptPlan(mask, box or [], at or [], clean_masks)
    with ExitStack() as stack:
        reader = stack.enter_context(mm.VideoReader(video))
        tracker = new_tracker(
            model,
            policy,
            frames=frames,
            budget=budget,
            write_every=write_every,
            top_k=top_k,
            size=size,
            device=device,
            dtype=DTYPES[dtype.value],
        )
        if trace is not None:
            tracker.memory.trace = stack.enter_context(mm.TraceFile(trace, overwrite=overwrite))
        settings = {
            "video": video,
            "model": model,
            "policy": policy.value,
            "write_every": tracker.policy.write_every,
            "budget": str(tracker.memory.budget),
            "top_k": top_k,
            "size": size,
            "format": format.value,
            "device": str(tracker.model.device),
            "dtype": str(tracker.model.dtype).removeprefix("torch."),
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
    console.print(f"masks in {out / 'masks'}" + (f", overlay {out / 'overlay.mp4'}" if overlay else ""), markup=False)
