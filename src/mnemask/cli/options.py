"""Options that several commands share: what to track, with which network, and how much to remember."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mnemask as mm
from mnemask import choices

if TYPE_CHECKING:
    import torch

PolicyName = Enum("PolicyName", {name: name for name in choices.POLICY_NAMES})  # type: ignore[misc]
DEFAULT_POLICY = PolicyName[choices.DEFAULT_POLICY]

MaskOption = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="Image with the objects of the first frame: ids, colours, or black and white. Or a folder of masks of "
        "some frames, named as those are: later ones correct, bring new objects, or, empty, say that all are gone.",
    ),
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X,Y,W,H",
        help="Left, top, width and height in pixels of a box around an object of the first frame. Repeatable.",
    ),
]
ClickOption = Annotated[
    list[str] | None,
    typer.Option(
        "--click",
        metavar="[FRAME:]ID=X,Y",
        help="A place on object ID, in pixels, in the first frame unless another is named. Where a box or a mask shows "
        "the object already, clicks correct it. Repeatable.",
    ),
]
NotOption = Annotated[
    list[str] | None,
    typer.Option("--not", metavar="[FRAME:]ID=X,Y", help="A place outside object ID. Repeatable."),
]
BoxFormat = Enum("BoxFormat", {"xywh": "xywh", "xyxy": "xyxy"})
BoxFormatOption = Annotated[
    BoxFormat, typer.Option("--box-format", help="`xywh`, or `xyxy` for boxes of two corners: x1,y1,x2,y2.")
]
DEFAULT_BOX_FORMAT = BoxFormat["xywh"]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="FRAME[:ID]=MASK",
        help="Masks of a later frame: new ids are new objects, known ones are corrected, and an empty mask says that "
        "all, or the one with this ID, are gone. Frames count from 0; ID is for a file that shows one object, black "
        "and white being 1 without it. Repeatable.",
    ),
]
RemoveOption = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="FRAME:ID", help="Stop tracking an object from that frame on. Repeatable."),
]
VoidOption = Annotated[
    str,
    typer.Option(
        "--void",
        metavar="VALUE",
        help="Value of pixels in mask files that belong to no object, such as 255; `none`; or `auto`: a thin contour "
        "of 255 is void, a solid area is not.",
    ),
]
CleanOption = Annotated[
    bool, typer.Option("--clean-masks", help="Give blended edge pixels of id masks to the nearest object.")
]
ModelOption = Annotated[str, typer.Option("--model", help="`compact`, or a checkpoint of mnemask or STCN.")]
PolicyOption = Annotated[PolicyName, typer.Option("--policy", help="What to keep in memory.")]
FramesOption = Annotated[float | None, typer.Option("--frames", help="Memory budget in frames' worth of features.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", help="Memory budget in bytes, such as 64MiB, buffers included.")
]
WriteEveryOption = Annotated[
    int | None,
    typer.Option("--write-every", min=1, help="Write every N-th frame to memory. [default: the policy's, 5]"),
]
TopKOption = Annotated[int, typer.Option("--top-k", min=1, help="Tokens that each cell reads (top k).")]
KmnSigmaOption = Annotated[
    float | None,
    typer.Option(
        "--kmn-sigma",
        min=0,
        help="σ of the KMN kernel as a fraction of the short side; 0 disables it, as in STCN. "
        "[default: the model's, 0.2 of compact]",
    ),
]
SizeOption = Annotated[
    int, typer.Option("--size", min=32, help="Short side, in pixels, at which frames are processed.")
]
EngineName = Enum("EngineName", {name: name for name in choices.ENGINE_NAMES})  # type: ignore[misc]
EngineOption = Annotated[
    EngineName,
    typer.Option(
        "--engine", help="What runs the network: PyTorch, or a version compiled once for the size of the frames."
    ),
]
DEFAULT_ENGINE = EngineName["eager"]
SubsetOption = Annotated[
    str | None, typer.Option(help="Subset, such as val (DAVIS) or train (YouTube-VOS). [default: val, valid]")
]
SequenceOption = Annotated[list[str] | None, typer.Option(help="Only this one. Repeatable.")]
PalindromeOption = Annotated[
    int | None, typer.Option(min=1, help="Play each video forwards and backwards N times.", metavar="N")
]
SingleObjectOption = Annotated[
    bool, typer.Option("--single-object", help="For a folder: everything in a mask is one object.")
]
ProcessesOption = Annotated[int, typer.Option(min=1, help="Processes; 1 uses all threads, more use one thread each.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, mps. [default: cuda where there is one]")
]


def new_tracker(
    model: str,
    policy: PolicyName,
    *,
    frames: float | None,
    budget: str | None,
    write_every: int | None,
    top_k: int,
    kmn_sigma: float | None,
    size: int,
    device: str | None,
    dtype: torch.dtype | None = None,
    engine: EngineName = DEFAULT_ENGINE,
) -> mm.Tracker:
    """Returns a tracker of what these options say."""
    chosen = mm.POLICIES[policy.value]
    if write_every is not None:
        chosen = replace(chosen, write_every=write_every)
    limit = None if frames is None and budget is None else mm.Budget(frames=frames, bytes=budget)
    network = mm.load_model(model, device=device, dtype=dtype, engine=engine.value)
    return mm.Tracker(network, chosen, limit, top_k=top_k, kmn_sigma=kmn_sigma, short_side=size)
