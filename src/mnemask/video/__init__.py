"""Video in, masks out: one lazy reader for every source, writers for every use."""

from mnemask.video.images import read_image
from mnemask.video.palette import davis_palette
from mnemask.video.prefetch import prefetch
from mnemask.video.reader import VideoReader

__all__ = ["VideoReader", "davis_palette", "prefetch", "read_image"]
