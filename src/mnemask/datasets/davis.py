"""DAVIS 2016 and 2017 as they are published: frames, annotations and lists of sequences in a folder.

::

    ROOT/JPEGImages/480p/SEQUENCE/00000.jpg …
    ROOT/Annotations/480p/SEQUENCE/00000.png …
    ROOT/ImageSets/2016/val.txt, ROOT/ImageSets/2017/val.txt or ROOT/ImageSets/480p/val.txt
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mnemask.datasets.annotated import AnnotatedVideo, open_video
from mnemask.errors import InputError

PUBLISHED = "davischallenge.org (the archive named trainval-480p)"
logger = logging.getLogger(__name__)
_WHERE = f"DAVIS is published at {PUBLISHED}"


class DavisSequences:
    """The sequences of one subset of DAVIS, checked for being complete when they are opened.

    Args:
        root: the folder that holds JPEGImages, Annotations and ImageSets.
        year: 2016 (one object a sequence) or 2017 (several).
        subset: name of a list in ImageSets, such as "train" or "val".
        resolution: name of the folders below JPEGImages and Annotations.

    Raises:
        InputError: a part of it is missing, or it is DAVIS of the other year; the message says what was expected
            where. Several objects in the masks of 2016 are followed as one, which is logged as a warning.

    Example:
        for sequence in DavisSequences("DAVIS", year=2016):
            print(sequence.name, len(sequence.frames))
    """

    def __init__(self, root: Path | str, year: int = 2017, subset: str = "val", resolution: str = "480p") -> None:
        root = Path(root)
        if year not in (2016, 2017):
            raise InputError(f"there is no DAVIS of {year} with given masks", "use 2016 or 2017")
        for folder in (root / "JPEGImages" / resolution, root / "Annotations" / resolution):
            if not folder.is_dir():
                raise InputError(f"{root} is not DAVIS at {resolution}: there is no folder {folder}", f"{_WHERE}")
        self._sequences = {
            name: _open_sequence(root, resolution, name, year == 2016, every_frame=not subset.startswith("test"))
            for name in _sequence_names(root, year, subset, resolution)
        }
        _check_year(root, year, self._sequences)

    @property
    def names(self) -> tuple[str, ...]:
        """The sequences' names, in the order of the subset's list."""
        return tuple(self._sequences)

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[AnnotatedVideo]:
        return iter(self._sequences.values())

    def __getitem__(self, name: str) -> AnnotatedVideo:
        if name not in self._sequences:
            raise InputError(f"there is no sequence {name!r} in this subset", f"it has {', '.join(self._sequences)}")
        return self._sequences[name]


def _sequence_names(root: Path, year: int, subset: str, resolution: str) -> list[str]:
    lists = [root / "ImageSets" / folder / f"{subset}.txt" for folder in (str(year), resolution)]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        other = 4033 - year
        if (root / "ImageSets" / str(other) / f"{subset}.txt").is_file():
            raise InputError(
                f"{root} is DAVIS {other}, without a list of the sequences of {year} in {subset!r} ({lists[0]})",
                f"give year {other} (--dataset davis{other}), or that list",
            )
        raise InputError(
            f"{root} has no list of the sequences in {subset!r}: neither {lists[0]} nor {lists[1]}", f"{_WHERE}"
        )
    # A line is a sequence's name or, in DAVIS 2016, the paths of a frame and its annotation.
    lines = [line.split()[0] for line in found.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = list(dict.fromkeys(Path(line).parent.name if "/" in line else line for line in lines))
    if not names:
        raise InputError(f"{found} is empty; it must name a sequence on each line", f"{_WHERE}")
    return names


def _open_sequence(root: Path, resolution: str, name: str, single_object: bool, every_frame: bool) -> AnnotatedVideo:
    frames, masks = (root / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
    sequence = open_video(name, frames, masks, single_object, every_frame=every_frame, published=PUBLISHED)
    if 0 not in sequence.masks:
        raise InputError(f"{name} has no mask of its first frame {sequence.frames[0].stem} in {masks}", f"{_WHERE}")
    return sequence


def _check_year(root: Path, year: int, sequences: Mapping[str, AnnotatedVideo]) -> None:
    """Raises InputError for the 0/255 masks of 2016 as 2017, where 255 is void; warns of several objects as 2016."""
    values = {}
    for name, sequence in sequences.items():
        try:
            with Image.open(sequence.masks[0]) as mask:
                labels = np.asarray(mask)
        except (OSError, ValueError, Image.DecompressionBombError):  # named when its turn comes
            continue
        if labels.ndim == 2:
            values[name] = set(np.unique(labels).tolist()) - {0}
    if year == 2017 and values and all(found <= {255} for found in values.values()):
        raise InputError(
            f"{root} is DAVIS 2016: the first masks of all {len(values)} sequences hold 0 and 255 only, where 255 "
            "is void in 2017",
            f"give year 2016 (--dataset davis2016), or DAVIS 2017, published at {PUBLISHED}",
        )
    several = [name for name, found in values.items() if len(found - {255}) > 1]
    if year == 2016 and several:
        logger.warning(
            "%d of %d sequences in %s show several objects in their first mask (such as %s), which are followed as one "
            "as davis2016 has it; give davis2017 to follow each",
            len(several), len(values), root, several[0],
        )  # fmt: skip
