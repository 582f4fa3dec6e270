"""The Long-time Video set (Liang et al. 2020): minutes of video with masks of about twenty frames each.

::

    ROOT/JPEGImages/VIDEO/*.jpg
    ROOT/Annotations/VIDEO/*.png      of the first frame and of some later ones
"""

from pathlib import Path

from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.listing import incomplete, names_in, open_video
from mnemask.errors import InputError
from mnemask.video.raster import IMAGE_SUFFIXES

PUBLISHED = "https://github.com/xmlyqing00/AFB-URR"


def open_long_video(root: Path | str) -> list[AnnotatedVideo]:
    """Returns the videos of the set, or of another one with its layout, by name.

    Raises:
        InputError: something of it is missing; the message says what was expected where.
    """
    frames, masks = Path(root) / "JPEGImages", Path(root) / "Annotations"
    names, with_frames = names_in(masks), frozenset(names_in(frames))
    if not names:
        raise InputError(
            f"there are no long videos in {root}; expected {frames}/VIDEO/*.jpg and {masks}/VIDEO/*.png, as from "
            f"{PUBLISHED}"
        )
    if missing := [frames / name for name in names if name not in with_frames]:
        raise incomplete("the set of long videos", missing, len(names), PUBLISHED)
    return [open_video(name, frames / name, masks / name, False, IMAGE_SUFFIXES, published=PUBLISHED) for name in names]
