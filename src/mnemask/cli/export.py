"""`mnemask export`: the network as files that run without PyTorch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import mnemask as mm
from mnemask.cli.app import command, console, errors
from mnemask.cli.options import CONFIG, ModelOption, configured
from mnemask.cli.output import emit


@command
@configured("policy", "budget", "write_every", "write_below_iou", "write_above_certainty", "tta", "size")
def export(
    onnx: Annotated[Path, typer.Option("--onnx", help="Folder for the ONNX files and network.json.")],
    size: Annotated[
        str, typer.Option(help="Height and width of the frames, in pixels.", metavar="HEIGHTxWIDTH")
    ] = "480x854",
    objects: Annotated[int, typer.Option(min=1, help="Objects, all given in the first frame.")] = 1,
    config: mm.TrackerConfig = CONFIG,
    model: ModelOption = "compact",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that holds a network.")] = False,
) -> None:
    """Write the network and a memory of fixed room as ONNX files, to be run without PyTorch.

    What each takes and gives back is in docs/speed.md; examples/onnx_clip.py runs a clip with them.
    """
    from mnemask.export import export_onnx

    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    if match is None:
        raise mm.InputError(f"--size {size!r} is no size", "write the height, an x and the width, such as 480x854")
    import torch

    network = mm.load_model(model, device="cpu", dtype=torch.float32)
    with errors.status("exporting …"):
        written = export_onnx(
            network,
            onnx,
            config,
            size=(int(match[1]), int(match[2])),
            num_objects=objects,
            overwrite=overwrite,
        )
    emit("result", command="export", files=[str(path) for path in written])
    for path in written:
        console.print(f"{path}  {path.stat().st_size / 2**20:.1f} MiB", markup=False)
