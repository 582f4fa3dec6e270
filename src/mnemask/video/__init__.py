"""Video in, masks out: one lazy reader for every source, one background writer for every mask format."""

from mnemask.video.events import ReaderEvents
from mnemask.video.frame_files import list_images
from mnemask.video.images import read_image
from mnemask.video.overlay import contact_sheet, draw_overlay
from mnemask.video.palette import colors_of, davis_palette
from mnemask.video.prefetch import prefetch
from mnemask.video.reader import VideoReader
from mnemask.video.writer import MASK_FORMATS, MaskFormat, MaskWriter

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
    "list_images",
    "prefetch",
    "read_image",
]
