"""Parsers for the values of command-line options."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from mnemask.errors import InputError, MaskError
from mnemask.prompts.mask_reading import Void
from mnemask.types import MAX_OBJECT_ID, ObjectInfo, check_object_id

# Python refuses to parse numbers of thousands of digits, and no frame number has ten.
_REMOVE = re.compile(r" *(\d{1,9}) *: *(\d{1,9}) *")
_OBJECT = re.compile(r" *(\d{1,9}) *= *(.*[^ :].*)")
_AT = re.compile(r" *(\d{1,9}) *(?:: *(\d{1,9}) *)?=(.+)", re.DOTALL)
_CLICK = re.compile(
    r" *(?:(\d{1,9}) *: *)?(\d{1,9}) *= *([+-]?\d{1,9}(?:\.\d{1,9})?) *, *([+-]?\d{1,9}(?:\.\d{1,9})?) *"
)


FIRST_READ = -1  # stands for the number of the first frame read until that frame arrives


def in_words(frame: int) -> str:
    """Returns a frame as messages name it."""
    return "the first frame" if frame == FIRST_READ else f"frame {frame}"


def typed(frame: int) -> str:
    """Returns a frame as it is written in --at: its number, or "FRAME" for the first frame read."""
    return "FRAME" if frame == FIRST_READ else str(frame)


class At(NamedTuple):
    """A mask for one frame: the frame's number, the id of its only object (None: as in the file), and the file."""

    frame: int
    object_id: int | None
    path: Path

    @property
    def where(self) -> str:
        """FRAME or FRAME:ID."""
        return f"{self.frame}" if self.object_id is None else f"{self.frame}:{self.object_id}"


def parse_at(text: str) -> At:
    """Returns the frame, id and file of "FRAME=MASK" or "FRAME:ID=MASK".

    Raises:
        MaskError: for anything else.
        ObjectIdError: if the id is not from 1 to 65535.
    """
    found = _AT.fullmatch(text)
    if found is None:
        raise MaskError(
            f"{text[:60]!r} is not FRAME=MASK or FRAME:ID=MASK, such as 240=dog.png or 240:2=dog.png",
            "count frames from 0",
        )
    frame, object_id, path = found.groups()
    return At(int(frame), None if object_id is None else check_object_id(int(object_id)), Path(path))


class ClickAt(NamedTuple):
    """A click on an object, or off it if `positive` is False, in pixels; frame None is the first frame read."""

    frame: int | None
    object_id: int
    x: float
    y: float
    positive: bool


def parse_click(text: str, positive: bool = True) -> ClickAt:
    """Returns the click of "ID=X,Y" (in the first frame) or "FRAME:ID=X,Y".

    Args:
        text: the value as typed.
        positive: whether the click is on the object.

    Raises:
        MaskError: for anything else.
        ObjectIdError: if the id is not from 1 to 65535.
    """
    found = _CLICK.fullmatch(text)
    if found is None:
        raise MaskError(
            f"click {text[:60]!r} is not ID=X,Y or FRAME:ID=X,Y",
            "write 1=320,200 for object 1 at 320 pixels from the left and 200 from the top",
        )
    frame, object_id, x, y = found.groups()
    return ClickAt(None if frame is None else int(frame), check_object_id(int(object_id)), float(x), float(y), positive)


def parse_remove(text: str) -> tuple[int, int]:
    """Returns frame and object id of "FRAME:ID".

    Raises:
        MaskError: for anything else.
        ObjectIdError: if the id is not from 1 to 65535.
    """
    found = _REMOVE.fullmatch(text)
    if found is None:
        raise MaskError(f"{text[:60]!r} is not FRAME:ID", "write 240:2 to remove object 2 from frame 240 on")
    return int(found[1]), check_object_id(int(found[2]))


def parse_objects(texts: Iterable[str]) -> dict[int, ObjectInfo]:
    """Returns the classes and names of objects by id, each from "ID=CLASS" or "ID=CLASS:NAME".

    Raises:
        InputError: for anything else, or an id given twice.
        ObjectIdError: if an id is not from 1 to 65535.
    """
    infos: dict[int, ObjectInfo] = {}
    for text in texts:
        found = _OBJECT.fullmatch(text)
        if found is None:
            raise InputError(
                f"object {text[:60]!r} is not ID=CLASS or ID=CLASS:NAME", "write 1=camel, or 1=camel:Bobby"
            )
        object_id = check_object_id(int(found[1]))
        if object_id in infos:
            raise InputError(
                f"object {object_id} is called both {str(infos[object_id])!r} and {found[2]!r}", "remove one of them"
            )
        infos[object_id] = ObjectInfo.parse(found[2])
    return infos


def refuse_unknown(named: Iterable[int], known: Collection[int]) -> None:
    """Raises InputError if a class is given for an object that has no prompt."""
    if unknown := sorted(set(named) - set(known)):
        there = ", ".join(map(str, sorted(known))) or "none"
        raise InputError(f"object {unknown[0]} has a class but no prompt", f"name objects with prompts ({there})")


def parse_void(text: str) -> Void:
    """Returns the void value of "auto", "none" or a number; raises MaskError for anything else."""
    if text == "auto":
        return "auto"
    if text == "none":
        return "none"
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_OBJECT_ID:
        raise MaskError(
            f"void {text[:60]!r} is not a value from 1 to {MAX_OBJECT_ID}, none or auto", "give a value such as 255"
        )
    return int(text)
