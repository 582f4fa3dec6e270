"""How large what is given may be: checked in headers, before anything is decoded or allocated."""

from mnemask.errors import FrameError

MAX_SIDE = 16_384
# 8192 x 8192, twice 8K video; below the size at which Pillow starts to warn.
MAX_PIXELS = 2**26
# 9 hours at 30 frames/s.
MAX_IMAGES = 1_000_000
# Objects in one mask file, and the bytes of their masks, one a pixel and object.
MAX_OBJECTS = 1000
MAX_MASK_BYTES = 2**31
# Frames that a report names for each kind of event; the count goes on.
MAX_NOTED = 100


def check_size(width: int, height: int, what: str) -> None:
    """Raises FrameError for a size that a header can claim but no video has."""
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise FrameError(
            f"{what!r} claims {width}x{height} pixels; expected 1 to {MAX_SIDE} a side and at most "
            f"{MAX_PIXELS // 10**6} megapixels, so shrink it first"
        )
