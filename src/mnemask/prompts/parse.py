"""What is typed on the command line, as values."""

import re
from pathlib import Path
from typing import NamedTuple

from mnemask.errors import MaskError
from mnemask.prompts.sketch import Box
from mnemask.types import check_object_id

# Python refuses to read numbers of thousands of digits, and no frame or pixel has ten.
_WHOLE = re.compile(r" *[+-]?\d{1,9} *")
_AT = re.compile(r" *(\d{1,9}) *(?:: *(\d{1,9}) *)?=(.+)", re.DOTALL)


class At(NamedTuple):
    """A mask for one frame: its number, the one object it shows (None: the file says), and the file."""

    frame: int
    object_id: int | None
    path: Path

    @property
    def where(self) -> str:
        """FRAME or FRAME:ID."""
        return f"{self.frame}" if self.object_id is None else f"{self.frame}:{self.object_id}"


def parse_box(text: str) -> Box:
    """Returns the box of "x,y,width,height" in whole pixels; raises MaskError for anything else."""
    parts = text.split(",")
    if len(parts) != 4 or not all(_WHOLE.fullmatch(part) for part in parts):
        raise MaskError(f"box {text[:60]!r} is not x,y,width,height in whole pixels, such as 120,80,200,160")
    box = Box(*map(int, parts))
    if box.width < 1 or box.height < 1:
        raise MaskError(f"box {text!r} is {box.width}x{box.height} pixels; width and height must be at least 1")
    return box


def parse_at(text: str) -> At:
    """Returns what "FRAME=MASK" or "FRAME:ID=MASK" says.

    Raises:
        MaskError: for anything else.
        ObjectIdError: if the id is not from 1 to 65535.
    """
    found = _AT.fullmatch(text)
    if found is None:
        raise MaskError(
            f"{text[:60]!r} is not FRAME=MASK or FRAME:ID=MASK, such as 240=dog.png or 240:2=dog.png; frames count "
            "from 0"
        )
    frame, object_id, path = found.groups()
    return At(int(frame), None if object_id is None else check_object_id(int(object_id)), Path(path))
