"""One colour, one id: which object the labels of each mask file of a run stand for.

A file that says its ids (palette indices, grey levels) keeps them. Painted colours are numbered when they first come,
and mean the same object in every later file; a palette that was made for one file alone is found out by its colours.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import MaskError
from mnemask.io.images import BORDER_SHARE
from mnemask.io.label_files import gone_in
from mnemask.io.visualize import davis_palette
from mnemask.prompts.image_file import SAME_COLOUR
from mnemask.prompts.mask_reading import RGB, MaskReading
from mnemask.prompts.parse import in_words, typed
from mnemask.types import MAX_OBJECT_ID, Frame

log = logging.getLogger(__name__)

WHOLE_SHARE = 0.98  # of the picture: an object that hides all of it is more often a mistake
MOST_SHARE = 0.5  # ... if its border is too
WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class MarkedFile:
    """What one mask file of a run marks, without its pixels.

    Attributes:
        path: of the file.
        frame: that it is given for.
        kind: how its objects are marked, see MaskReading.
        labels: that it holds, as they are in the file.
        colours: of the labels, where there are any.
        size: height and width.
        digest: of its pixels and colours, as they were understood.
        object_id: what the user called the only object in it, None where the file tells.
        gone: the objects that it says, one by one, are not there.
    """

    path: Path
    frame: int
    kind: str
    labels: tuple[int, ...]
    colours: Mapping[int, RGB]
    size: tuple[int, int]
    digest: bytes
    object_id: int | None = None
    gone: frozenset[int] = frozenset()

    @classmethod
    def of(cls, path: Path, frame: int, reading: MaskReading, object_id: int | None = None) -> "MarkedFile":
        """Returns the labels and colours of a file; raises MaskError if it has one id for several objects."""
        labels = tuple(reading.ids)
        if object_id is not None and len(labels) > 1:
            raise MaskError(
                f"mask {path} marks objects {', '.join(map(str, labels))}, and its folder or --at says one id",
                "leave the id out, or give one object's mask",
            )
        height, width = reading.labels.shape
        colours, size = dict(sorted(reading.colours.items())), (height, width)
        gone = gone_in(path) if object_id is None else frozenset()
        return cls(path, frame, reading.kind, labels, colours, size, _digest(reading), object_id, gone)

    def refuse_changed(self, reading: MaskReading) -> None:
        """Raises MaskError if the file says something else than when it was read first, which may be hours ago."""
        as_stored = reading.labels.shape != self.size  # an orientation tag was left aside, since so it fits the video
        if tuple(reading.ids) != self.labels or not (as_stored or _digest(reading) == self.digest):
            raise MaskError(
                f"mask {self.path} was changed since the run began",
                "put it back as it was and continue (--resume), or begin again with what it is now (--overwrite)",
            )

    @property
    def names_its_ids(self) -> bool:
        """Whether the labels in the file are ids."""
        return self.object_id is None and self.kind == "ids"

    def is_as_shown(self, frame: Frame) -> bool:
        """Returns whether it has a frame's size with square pixels, one of the frame's sides kept, to a pixel."""
        (height, width), (rows, columns) = self.size, frame.size
        wide, high = abs(width - columns * frame.pixel_aspect) <= 1, abs(height - rows / frame.pixel_aspect) <= 1
        return self.size != frame.size and ((height == rows and wide) or (width == columns and high))

    def warn_if_whole(self, mask: Bool[Tensor, "H W"], object_id: int, frame: int) -> None:
        """Says so where an object's mask of a frame covers nearly the whole picture, or most of it and its border."""
        share = float(mask.float().mean())
        border = torch.cat((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
        if share > WHOLE_SHARE or (share > MOST_SHARE and float(border.float().mean()) > BORDER_SHARE):
            log.warning(
                "mask %s marks %.0f %% of frame %d as object %d; if object and background are swapped, invert it",
                self.path,
                100 * share,
                frame,
                object_id,
            )


@dataclass(slots=True)
class ColourIds:
    """The ids of a run as its mask files are gone through, frame by frame.

    Attributes:
        by_colour: the id of each colour that was seen.
        known: the ids of all objects so far.
        notes: what was guessed, in words.
    """

    by_colour: dict[RGB, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    _said_by: dict[RGB, Path] = field(default_factory=dict)
    _by_index: dict[int, tuple[RGB, Path]] = field(default_factory=dict)
    _to_come: set[int] = field(default_factory=set)
    _levels: set[int] = field(default_factory=set)
    _white: bool = False  # whether white was object 1 of a black and white file

    @classmethod
    def of(cls, files: Sequence[MarkedFile]) -> "ColourIds":
        """Returns the ids from the palettes of all files of a run; raises MaskError if two contradict."""
        ids = cls()
        for file in files:
            if file.object_id is not None:
                ids._to_come.add(file.object_id)
            elif file.kind == "ids":
                ids._to_come.update(file.labels)
                ids._levels.update(() if file.colours else file.labels)
                for label, colour in file.colours.items():
                    ids._learn(colour, label, file)
                    ids._refuse_another_palette(label, colour, file)
        return ids

    def _refuse_another_palette(self, index: int, colour: RGB, file: MarkedFile) -> None:
        """Raises MaskError if an index has quite another colour than in an earlier file; a grey may be the index."""
        known, path = self._by_index.setdefault(index, (colour, file.path))
        plain = ((index,) * 3, WHITE) if len(file.labels) == 1 else ((index,) * 3,)
        if not (_near(colour, known) or colour in plain or known in plain):
            raise MaskError(
                f"mask {file.path} has index {index} in {_hex(colour)}, and in {path} it is {_hex(known)}, so one of "
                "the palettes was made for its file alone",
                "save all masks with one palette, or as grey levels that are ids",
            )

    def _learn(self, colour: RGB, object_id: int, file: MarkedFile) -> None:
        if self.by_colour.setdefault(colour, object_id) != object_id:
            raise MaskError(
                f"mask {file.path} has {_hex(colour)} as index {object_id}, and in {self._said_by[colour]} it is "
                f"{self.by_colour[colour]}, so one of the palettes was made for its file alone",
                "save all masks with one palette, or as RGB",
            )
        self._said_by.setdefault(colour, file.path)

    def ids_of(self, file: MarkedFile) -> dict[int, int]:
        """Returns the id of each label of the next file; raises MaskError where it cannot be told.

        Args:
            file: one that `of` was given; those of earlier frames must have been asked about before.
        """
        if file.object_id is not None:
            found = dict.fromkeys(file.labels, file.object_id)
        elif file.kind == "ids":
            found = {label: label for label in file.labels} if file.colours else self._of_levels(file)
        elif file.kind == "colours":
            found = self._of_colours(file)
        else:
            found = dict.fromkeys(file.labels, self._of_white(file))
        self.known.update(found.values())
        return found

    def free_id(self) -> int:
        """Returns the lowest id that no object has."""
        return self._free({*self.known, *self.by_colour.values()})

    def _free(self, taken: Iterable[int]) -> int:
        taken = set(taken)
        return next(i for i in range(1, MAX_OBJECT_ID + 1) if i not in taken)

    def says_white(self, file: MarkedFile) -> bool:
        """Whether white means one object in this run, so that a black and white mask says which it shows."""
        return file.kind == "black and white" and (WHITE in self.by_colour or 255 in self._levels)

    def _of_white(self, file: MarkedFile) -> int:
        if self.says_white(file):
            return self.by_colour.get(WHITE, 255)
        self._white = self._white or file.kind == "black and white"
        return 1

    def _of_levels(self, file: MarkedFile) -> dict[int, int]:
        """Returns the ids of grey levels: themselves, but for one that is a painted grey of another file."""
        turned_grey = {_luma(colour): (colour, i) for colour, i in self.by_colour.items()}
        new = [label for label in file.labels if label not in self.known and (label,) * 3 not in self.by_colour]
        if new and all(label in turned_grey and turned_grey[label][1] != label for label in new):
            colour, object_id = turned_grey[new[0]]
            raise MaskError(
                f"mask {file.path} has grey levels {', '.join(map(str, new[:5]))}, which is what colours of other "
                f"masks become in grey ({_hex(colour)} of object {object_id} becomes {new[0]})",
                "save it with its colours, or give ids",
            )
        return {label: self.by_colour.get((label,) * 3, label) for label in file.labels}

    def _grey(self, colour: RGB) -> int | None:
        """Returns the id that a painted grey has as the level of another file, or as white on black."""
        if len(set(colour)) == 1 and colour[0] in self._levels:
            return colour[0]
        return 1 if colour == WHITE and self._white else None

    def _of_colours(self, file: MarkedFile) -> dict[int, int]:
        """Returns the ids of painted colours: those they have already, else DAVIS's, else the next free ones."""
        davis = davis_palette()
        is_davis = all(label < 256 and tuple(davis[label].tolist()) == c for label, c in file.colours.items())
        others = {i for colour, i in self.by_colour.items() if colour not in file.colours.values()}
        for colour in file.colours.values():
            if colour not in self.by_colour and (grey := self._grey(colour)):
                self._learn(colour, grey, file)
        new = {label: colour for label, colour in file.colours.items() if colour not in self.by_colour}
        if is_davis and len(new) == len(file.colours) and (taken := sorted(others & new.keys())):
            painted = next(colour for colour, i in self.by_colour.items() if i == taken[0])
            raise MaskError(
                f"mask {file.path} has {_hex(new[taken[0]])}, which stands for object {taken[0]} in the DAVIS "
                f"palette, and object {taken[0]} is {_hex(painted)} in {self._said_by[painted]}",
                f"paint it so if it is that object, or say which it is (--at {typed(file.frame)}:ID={file.path.name})",
            )
        if len(new) == len(file.colours):
            self._refuse_shifted(file)
        found = {label: self.by_colour[c] for label, c in file.colours.items() if c in self.by_colour}
        # An id that a later file gives to a new object is avoided; a first file's ids are corrected by later ones.
        avoided = {*self.known, *others, *self._to_come} if self.known else set()
        for label, colour in new.items():
            if is_davis and label not in others:
                found[label] = label
            else:
                found[label] = self._free({*avoided, *found.values()})
            self._learn(colour, found[label], file)
        if new:
            said = ", ".join(f"{_hex(colour)} is object {found[label]}" for label, colour in new.items())
            self.notes.append(f"{in_words(file.frame)}, {file.path.name}: {said}")
        return found

    def _refuse_shifted(self, file: MarkedFile) -> None:
        """Raises MaskError if each colour is new, and nearly one of other files, as a colour profile leaves it."""
        near = [(colour, known) for colour in file.colours.values() for known in self.by_colour if _near(colour, known)]
        # Where near colours are different objects already, they are numbers: red is the id.
        are_numbers = any(_near(one, other) for one, other in combinations(self.by_colour, 2))
        if near and not are_numbers and len({colour for colour, _ in near}) == len(file.colours):
            colour, known = near[0]
            raise MaskError(
                f"mask {file.path} has {_hex(colour)}, which is nearly {_hex(known)} of object {self.by_colour[known]}",
                f"paint it with the same colour, or say which it is (--at {typed(file.frame)}:ID={file.path.name})",
            )


def _digest(reading: MaskReading) -> bytes:
    said = repr(sorted(reading.colours.items())).encode()
    return hashlib.sha256(reading.labels.astype(np.uint16).tobytes() + said).digest()


def _near(colour: RGB, other: RGB) -> bool:
    return max(abs(one - another) for one, another in zip(colour, other, strict=True)) <= SAME_COLOUR


def _luma(colour: RGB) -> int:
    """Returns the grey level that a colour becomes (ITU-R BT.601, as Pillow and OpenCV compute it)."""
    red, green, blue = colour
    return (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def colours_said(ids: ColourIds) -> dict[str, int]:
    """Returns the id of each colour, as a report shows it."""
    return {_hex(colour): object_id for colour, object_id in sorted(ids.by_colour.items(), key=lambda pair: pair[1])}
