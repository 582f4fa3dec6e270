"""What is typed on the command line, as values."""

import re
from pathlib import Path

from mnemask.errors import MaskError
from mnemask.prompts.sketch import Box

# Python refuses to read numbers of thousands of digits, and no frame or pixel has ten.
_WHOLE = re.compile(r" *[+-]?\d{1,9} *")


def parse_box(text: str) -> Box:
    """Returns the box of "x,y,width,height" in whole pixels; raises MaskError for anything else."""
    parts = text.split(",")
    if len(parts) != 4 or not all(_WHOLE.fullmatch(part) for part in parts):
        raise MaskError(f"box {text[:60]!r} is not x,y,width,height in whole pixels, such as 120,80,200,160")
    box = Box(*map(int, parts))
    if box.width < 1 or box.height < 1:
        raise MaskError(f"box {text!r} is {box.width}x{box.height} pixels; width and height must be at least 1")
    return box


def parse_at(text: str) -> tuple[int, Path]:
    """Returns the frame number and the path of "FRAME=MASK"; raises MaskError for anything else."""
    frame, equals, path = text.partition("=")
    if not (_WHOLE.fullmatch(frame) and int(frame) >= 0 and equals and path):
        raise MaskError(f"{text[:60]!r} is not FRAME=MASK, such as 240=dog.png; frames count from 0")
    return int(frame), Path(path)
