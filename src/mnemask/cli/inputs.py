"""The video and the prompts of a run: their options, how they are read and checked, and checksums of their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnemask.cli.parameters import P, with_options

if TYPE_CHECKING:
    from mnemask.prompts import PromptPlan


def is_repeatable(video: str) -> bool:
    """Returns whether reading the video again gives the same frames."""
    from mnemask.io.sources import is_broadcast

    return not (video == "-" or video.startswith("camera:") or is_broadcast(video) or Path(video).is_fifo())


def shown(video: str) -> str:
    """Returns the name of a video for messages; an address, which may hold a password, is not shown."""
    return "the address" if "://" in video else repr(video)


def of_video(video: str, *, growing: bool) -> str:
    """Returns the name and checksum of a video.

    The checksum is of a file's size, start and end, of a folder's names, sizes and samples, or of an address.

    Args:
        video: the video as given by the user.
        growing: whether it is still being written, so that only its name identifies it.
    """
    if "://" in video:  # which may hold a password
        return f"address, sha256 {_short(video.encode())}"
    path = Path(video)
    if growing or not video or not is_repeatable(video):
        return path.name
    from mnemask.io.sources import digest_of_video

    name, digest = path.resolve().name if path.is_dir() else path.name, digest_of_video(path)
    return name if digest is None else f"{name}, sha256 {digest}"


def of_files(*paths: Path | None) -> list[str]:
    """Returns the name and checksum of each file given, and only the name of a missing file.

    A label map inside a file, such as `masks.mkv/00012`, has its own name and that file's checksum.
    """
    from mnemask.io.label_files import file_of
    from mnemask.io.sources import of_content

    named = []
    for path in paths:
        if path:
            file = file_of(path)
            known = of_content(file) if file.is_file() else file.name
            named.append(known if file == path else f"{path.name} of {known}")
    return named


def of_masks(path: Path | None) -> list[str]:
    """Returns the name and checksum of a mask file, or of a folder and all mask files that are read in it."""
    if path is None or not path.is_dir():
        return of_files(path)
    from mnemask.io.sources import of_content
    from mnemask.prompts.mask_folder import mask_files

    files = mask_files(path)
    listing = "\n".join(f"{file.relative_to(path).parent.as_posix()} {of_content(file)}" for file in files)
    return [f"{path.name}, sha256 {_short(os.fsencode(listing))}"]


def of_model(name: str) -> str:
    """Returns the name and checksum of the weights."""
    from mnemask.model.checkpoints import packaged_weights

    return of_files(packaged_weights(name) or Path(name))[0]


def of_later(later: Sequence[str]) -> list[str]:
    """Returns the frame, the id if given, the name and the checksum of each mask for a later frame."""
    from mnemask.prompts import parse_at

    return [f"{at.where}={of_files(at.path)[0]}" for at in map(parse_at, later)]


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


_MASK = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="Image with the objects of the first frame: ids, colours, or black and white. Or a folder of masks of "
        "some frames, with the frames' names: later masks correct objects, add new ones, or, if empty, mark all as "
        "gone.",
    ),
]
_BOX = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X,Y,W,H",
        help="Left, top, width and height in pixels of a box around an object of the first frame. Repeatable.",
    ),
]
_CLICK = Annotated[
    list[str] | None,
    typer.Option(
        "--click",
        metavar="[FRAME:]ID=X,Y",
        help="A point on object ID, in pixels, in the first frame unless FRAME is given. If the object also has a box "
        "or a mask, clicks correct that. Repeatable.",
    ),
]
_NOT = Annotated[
    list[str] | None,
    typer.Option("--not", metavar="[FRAME:]ID=X,Y", help="A point outside object ID. Repeatable."),
]
BoxFormat = Enum("BoxFormat", {"xywh": "xywh", "xyxy": "xyxy"})
_BOX_FORMAT = Annotated[
    BoxFormat, typer.Option("--box-format", help="`xywh`, or `xyxy` for boxes given by two corners: x1,y1,x2,y2.")
]
_AT = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="FRAME[:ID]=MASK",
        help="Masks of a later frame: new ids are new objects, known ones are corrected, and an empty mask marks all "
        "objects, or the one with this ID, as gone. Frames count from 0; ID is for a file with a single object; "
        "without it, the object of a black and white mask is 1. Repeatable.",
    ),
]
_REMOVE = Annotated[
    list[str] | None,
    typer.Option("--remove", metavar="FRAME:ID", help="Stop tracking an object from that frame on. Repeatable."),
]
ObjectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--object",
        metavar="ID=CLASS[:NAME]",
        help="Class of an object, such as `1=camel`, or class and name, such as `1=camel:Bobby`, for reports and "
        "exports. Repeatable.",
    ),
]
_VOID = Annotated[
    str,
    typer.Option(
        "--void",
        metavar="VALUE",
        help="Value in mask files of pixels that belong to no object, such as 255; `none`; or `auto`: a thin contour "
        "of 255 is void, a solid area is not.",
    ),
]
_CLEAN = Annotated[
    bool, typer.Option("--clean-masks", help="Give blended edge pixels of id masks to the nearest object.")
]
# By the name of the command's parameter; `PromptOptions` is made from them.
_PROMPT_OPTIONS: dict[str, tuple[Any, Any]] = {
    "mask": (_MASK, None),
    "box": (_BOX, None),
    "box_format": (_BOX_FORMAT, BoxFormat["xywh"]),
    "click": (_CLICK, None),
    "not_": (_NOT, None),
    "at": (_AT, None),
    "remove": (_REMOVE, None),
    "object_": (ObjectOption, None),
    "void": (_VOID, "auto"),
    "clean_masks": (_CLEAN, False),
}


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """The prompts as given by the user to segment, compare or inspect."""

    mask: Path | None
    boxes: Sequence[str] = ()
    later: Sequence[str] = ()
    clean: bool = False
    removed: Sequence[str] = ()
    box_format: str = "xywh"
    void: str = "auto"
    clicks: Sequence[str] = ()
    not_clicks: Sequence[str] = ()
    objects: Sequence[str] = ()

    @property
    def any(self) -> bool:
        """Whether any mask, box, click or removal was given."""
        return bool(self.mask or self.boxes or self.later or self.removed or self.clicks or self.not_clicks)

    def plan(
        self, video: str, *, growing: bool = False, known: Collection[int] = (), begins_later: bool = False
    ) -> PromptPlan:
        """Returns the plan of all prompts of a run, read and checked.

        Args:
            video: the video of the prompts.
            growing: whether the video is still being written and will have more frames.
            known: the ids of objects that are tracked before the first frame.
            begins_later: whether reading begins after the video's first frame.
        """
        from mnemask.prompts import PromptPlan, parse_void

        names = frame_names(video, self.files())
        return PromptPlan(
            self.mask,
            self.boxes,
            self.later,
            self.clean,
            clicks=self.clicks,
            not_clicks=self.not_clicks,
            removed=self.removed,
            box_format="xyxy" if self.box_format == "xyxy" else "xywh",
            void=parse_void(self.void),
            names=names,
            num_frames=None if names is None or growing else len(names),
            known=known,
            objects=self.objects,
            begins_later=begins_later,
        )

    def settings(self) -> dict[str, Any]:
        """Returns the settings that must not change when the run is resumed."""
        return {
            "mask": of_masks(self.mask),
            "boxes": list(self.boxes),
            "box_format": self.box_format,
            "at": of_later(self.later),
            "removed": list(self.removed),
            "clicks": list(self.clicks),
            "not_clicks": list(self.not_clicks),
            "clean_masks": self.clean,
            "void": self.void,
            **({"objects": sorted(self.objects)} if self.objects else {}),
        }

    def files(self) -> list[Path]:
        """Returns the mask files and folders."""
        from mnemask.prompts import parse_at

        return [path for path in (self.mask, *(parse_at(text).path for text in self.later)) if path]


def _prompts(options: dict[str, Any]) -> PromptOptions:
    return PromptOptions(
        mask=options["mask"],
        boxes=options["box"] or (),
        later=options["at"] or (),
        clean=options["clean_masks"],
        removed=options["remove"] or (),
        box_format=options["box_format"].value,
        void=options["void"],
        clicks=options["click"] or (),
        not_clicks=options["not_"] or (),
        objects=options.get("object_") or (),
    )


PROMPTS: Any = None  # a command's placeholder default; `with_prompts` passes the value made from the options


def with_prompts(*left_out: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Replaces a command's parameter `prompts` by the options of prompts, from which its value is made.

    Args:
        *left_out: names of options that the command does not have.
    """
    options = {name: option for name, option in _PROMPT_OPTIONS.items() if name not in left_out}
    return with_options("prompts", options, _prompts)


def frame_names(video: str, masks: Collection[Path] = ()) -> list[str] | None:
    """Returns the frames' file names without extensions if the video is a folder or glob of images, else None."""
    path = Path(video)
    if "://" in video or path.is_file() or not (has_magic(video) or path.is_dir()):
        return None
    from mnemask.io.frame_files import find_frames
    from mnemask.io.image_stacks import page_count

    images = find_frames(path, masks).paths
    return None if len(images) == 1 and page_count(images[0]) > 1 else [image.stem for image in images]
