"""Whether the disk has room for a run, estimated before its first frame."""

import os
from pathlib import Path

from mnemask.errors import OutputError
from mnemask.types import describe

# Fewer bytes a pixel than masks of real objects and overlays of real video take: what is refused is surely too much.
_PER_PIXEL = {"png": 1 / 400, "ffv1": 1 / 800, "rle": 1 / 4000, "rgba": 1 / 60, "overlay": 1 / 100}
_FILES_A_FRAME = ("png", "rgba")


def refuse_without_room(
    out: Path, mask_format: str, overlay: bool, size: tuple[int, int], num_frames: int, num_objects: int, freed: int
) -> None:
    """Raises OutputError if the disk is clearly too small, with the figures.

    Args:
        out: a folder on the disk.
        mask_format: of the masks.
        overlay: whether there is an overlay.
        size: height and width of the frames.
        num_frames: still to be written.
        num_objects: known to be tracked.
        freed: bytes that the run will free before it writes.
    """
    if not hasattr(os, "statvfs"):
        return
    disk = os.statvfs(out)
    masks = max(num_objects, 1) if mask_format in ("rgba", "rle") else 1
    pixels = size[0] * size[1]
    file_bytes = pixels * _PER_PIXEL[mask_format]
    if mask_format in _FILES_A_FRAME:
        file_bytes = max(file_bytes, disk.f_frsize)
        needed_files = num_frames * masks
        if disk.f_files and needed_files > disk.f_favail + freed // max(disk.f_frsize, 1):
            raise OutputError(
                f"{needed_files} files of masks would be written to {str(out)!r}, whose disk takes {disk.f_favail} "
                "more",
                "make room, give another folder, or write one file (--format ffv1)",
            )
    needed = int(num_frames * (masks * file_bytes + overlay * pixels * _PER_PIXEL["overlay"]))
    free = disk.f_frsize * disk.f_bavail + freed
    if needed > free:
        raise OutputError(
            f"{num_frames} frames of {describe(size)} with {num_objects} objects take {_mib(needed)} or more in "
            f"{str(out)!r}, and its disk has {_mib(free)} free",
            "make room, give another folder, or write less (--format ffv1 or rle, no --overlay)",
        )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB"
