"""What is wrong with a video, a mask or the installation, and how to fix it."""

from pathlib import Path

from mnemask.doctor.installation import diagnose_installation
from mnemask.doctor.mask import diagnose_mask, diagnose_masks
from mnemask.doctor.video import Finding, diagnose_folder, diagnose_video
from mnemask.io.image_sequences import page_count
from mnemask.io.images import IMAGE_SUFFIXES

__all__ = [
    "Finding",
    "diagnose",
    "diagnose_folder",
    "diagnose_installation",
    "diagnose_mask",
    "diagnose_masks",
    "diagnose_video",
]


def diagnose(path: str | Path) -> list[Finding]:
    """Returns the findings about a mask image, a video file, or a folder of frames or masks; raises nothing.

    Everything is read to its end, so a long video takes a while.
    """
    path = Path(path)
    if path.is_dir():
        return diagnose_masks(path) or diagnose_folder(path)
    if not path.exists():
        return [Finding("problem", f"there is no {path}", "check the path")]
    if path.suffix.lower() in (*IMAGE_SUFFIXES, ".gif") and page_count(path) == 1:
        return diagnose_mask(path)
    return diagnose_video(path)
