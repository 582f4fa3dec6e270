"""Video in, masks out: one lazy reader for every source, one background writer for every mask format."""

from mnemask.io.images import read_image
from mnemask.io.live import prefetch
from mnemask.io.pictures import ReaderEvents
from mnemask.io.reader import VideoReader
from mnemask.io.visualize import colors_of, contact_sheet, davis_palette, draw_overlay
from mnemask.io.writer import MASK_FORMATS, MaskFormat, MaskWriter

__all__ = [
    "MASK_FORMATS",
    "MaskFormat",
    "MaskWriter",
    "ReaderEvents",
    "VideoReader",
    "colors_of",
    "contact_sheet",
    "davis_palette",
    "draw_overlay",
    "prefetch",
    "read_image",
]
