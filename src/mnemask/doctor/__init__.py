"""Diagnoses of videos, masks and the installation, with remedies."""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from mnemask.doctor.installation import diagnose_installation
from mnemask.doctor.mask import diagnose_mask, diagnose_masks, diagnose_together, is_of_masks
from mnemask.doctor.video import Finding, diagnose_folder, diagnose_video
from mnemask.prompts.mask_folder import MASK_SUFFIXES

__all__ = [
    "Finding",
    "diagnose",
    "diagnose_all",
    "diagnose_folder",
    "diagnose_installation",
    "diagnose_mask",
    "diagnose_masks",
    "diagnose_together",
    "diagnose_video",
]


def diagnose(path: str | Path) -> list[Finding]:
    """Returns the findings about a video, a mask image, a file of masks, or a folder of frames or masks.

    Everything is read to its end, so a long video takes a while.
    """
    path = Path(path)
    if not path.exists():
        return [Finding("problem", f"there is no {path}", "check the path")]
    if not is_of_masks(path):
        return diagnose_folder(path) if path.is_dir() else diagnose_video(path)
    return diagnose_mask(path) if path.is_file() and path.suffix.lower() in MASK_SUFFIXES else diagnose_masks(path)


def diagnose_all(paths: Sequence[Path]) -> Iterator[tuple[str, list[Finding]]]:
    """Yields a subject and its findings: each file, then each mask with each video."""
    for path in paths:
        yield str(path), diagnose(path)
    there = [path for path in paths if path.exists()]
    masks = [path for path in there if is_of_masks(path)]
    for video, mask in product([path for path in there if path not in masks], masks):
        if findings := diagnose_together(video, mask):
            yield f"{video} with {mask}", findings
