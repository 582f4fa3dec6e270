"""`mnemask export`: writes masks as files of other tools, and the network as files that run without PyTorch."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

import mnemask as mm
from mnemask import choices
from mnemask.cli.app import command, console, errors
from mnemask.cli.options import CONFIG, ModelOption, configured, in_panels
from mnemask.cli.output import emit, say

ExportTo = Enum("ExportTo", {name: name for name in choices.EXPORT_FORMAT_NAMES})  # type: ignore[misc]
_ONNX = "With --onnx"


@command
@in_panels({_ONNX: ("frames", "top_k", "kmn_sigma", "model")})
@configured("policy", "budget", "write_every", "write_on_growth", "write_above_certainty", "tta", "size")
def export(
    masks: Annotated[
        str | None,
        typer.Argument(help="Folder or address written by `segment` or `batch`, in any format, or a project."),
    ] = None,
    to: Annotated[ExportTo | None, typer.Option("--to", help="Tool or format to write (docs/formats.md).")] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder to write to. [default: MASKS/export/FORMAT]")
    ] = None,
    video: Annotated[
        str | None, typer.Option("--video", help="Video of the masks: write its frames where the tool looks.")
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Of a batch: write the frames of its videos where the tool looks."),
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0, help="Pixels that outlines may deviate, for fewer vertices; 0 is exact."),
    ] = 0.0,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", help="Folder for the ONNX files and network.json.", rich_help_panel=_ONNX)
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="Height and width of the frames, in pixels.", metavar="HEIGHTxWIDTH", rich_help_panel=_ONNX),
    ] = "480x854",
    objects: Annotated[
        int, typer.Option(min=1, help="Number of objects, all given in the first frame.", rich_help_panel=_ONNX)
    ] = 1,
    config: mm.TrackerConfig = CONFIG,
    model: ModelOption = "compact",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in the folder.")] = False,
) -> None:
    """Write masks as files of another tool, or the network as ONNX files.

    **Examples**

    `mnemask export out --to coco  # writes out/export/coco/annotations.json: classes, track ids, run lengths`

    `mnemask export out --to yolo --video street.mp4 -o dataset  # writes frames and labels`

    `mnemask export batch-out --to yolo --pictures  # makes one data set of all clips of a batch`

    `mnemask export out --to cvat-video --tolerance 1  # gives CVAT a track of outlines for each object`

    `mnemask export s3://bucket/run --to coco -o dataset  # exports a batch whose results are on shared storage`

    `mnemask export --onnx network/ --size 480x854  # writes the network; docs/speed.md describes the files`
    """
    if onnx is not None:
        if masks is not None or to is not None:
            raise mm.InputError("--onnx exports the network, and --to exports masks", "give one of them")
        _network(onnx, size, objects, config, model, overwrite)
        return
    if to is None and masks is not None:
        raise mm.InputError(
            "--to is missing: the tool or format to write", f"add it, as in: mnemask export {masks} --to coco"
        )
    if masks is None or to is None:
        raise mm.InputError(
            "there is nothing to export",
            "give a folder of masks and --to FORMAT, as in: mnemask export out --to coco; or --onnx FOLDER",
        )
    from mnemask.errors import counted
    from mnemask.export import export_masks
    from mnemask.io.storage import fetched, is_address

    if is_address(masks) and out is None:
        raise mm.InputError("an export from remote storage needs a local folder", "name one (-o FOLDER)")
    with errors.status("exporting …") as status, TemporaryDirectory(prefix="mnemask-") as scratch:
        place = Path(fetched(masks, Path(scratch)) if is_address(masks) else masks)
        done = export_masks(
            place,
            to.value,
            out or place / "export" / to.value,
            video=video,
            pictures=pictures,
            tolerance=tolerance,
            overwrite=overwrite,
            on_frame=lambda index: status.update(f"frame {index}"),
        )
    emit("result", command="export", out=str(done.folder), frames=done.frames, files=[str(path) for path in done.files])
    held = f"{counted(done.frames, 'frame')} in {counted(len(done.files), 'file')}"
    say(f"{held} in {done.folder}")


def _network(onnx: Path, size: str, objects: int, config: mm.TrackerConfig, model: str, overwrite: bool) -> None:
    from mnemask.export import export_onnx

    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    if match is None:
        raise mm.InputError(f"--size {size!r} is not a size", "give HEIGHTxWIDTH, such as 480x854")
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
