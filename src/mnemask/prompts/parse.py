"""What is typed on the command line, as values."""

from pathlib import Path

from mnemask.errors import MaskError
from mnemask.prompts.sketch import Box


def parse_box(text: str) -> Box:
    """Returns the box of "x,y,width,height" in whole pixels; raises MaskError for anything else."""
    parts = text.split(",")
    try:
        box = Box(*map(int, parts))
    except (TypeError, ValueError):
        raise MaskError(f"box {text!r} is not x,y,width,height in whole pixels, such as 120,80,200,160") from None
    if box.width < 1 or box.height < 1:
        raise MaskError(f"box {text!r} is {box.width}x{box.height} pixels; width and height must be at least 1")
    return box


def parse_at(text: str) -> tuple[int, Path]:
    """Returns the frame number and the path of "FRAME=MASK"; raises MaskError for anything else."""
    frame, equals, path = text.partition("=")
    if not (frame.strip().isdecimal() and equals and path):
        raise MaskError(f"{text!r} is not FRAME=MASK, such as 240=dog.png; frames count from 0")
    return int(frame), Path(path)
