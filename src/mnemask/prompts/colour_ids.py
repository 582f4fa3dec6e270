"""Object ids for the labels in all mask files of a run, or of a project: one colour, one id.

Files with ids (palette indices, grey levels) keep them. Painted colours are numbered in order of appearance, and mean
the same object in every later file; a palette made for one file alone is detected by its colours.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import MaskError, listed
from mnemask.io.images import BORDER_SHARE
from mnemask.io.label_files import gone_in
from mnemask.io.visualize import davis_palette
from mnemask.prompts.image_file import SAME_COLOUR
from mnemask.prompts.mask_reading import RGB, MaskReading, rgb_of
from mnemask.prompts.parse import in_words, typed
from mnemask.types import MAX_OBJECT_ID, Frame

log = logging.getLogger(__name__)

WHOLE_SHARE = 0.98  # of the picture: an object that covers more is usually a mistake
MOST_SHARE = 0.5  # ... likewise, if it also covers the border
WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class MarkedFile:
    """The content of one mask file of a run, without its pixels.

    Attributes:
        path: the file.
        frame: the frame that it is given for.
        kind: how its objects are marked, see MaskReading.
        labels: its labels, as in the file.
        colours: colours of the labels, if any.
        size: height and width.
        digest: SHA-256 of its labels and colours.
        object_id: the user's id for the only object in it; None if the file has the ids.
        gone: the objects that the file lists as gone.
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
        """Returns the content of a file; raises MaskError if one id is given for several objects."""
        labels = tuple(reading.ids)
        if object_id is not None and len(labels) > 1:
            raise MaskError(
                f"mask {path} marks objects {', '.join(map(str, labels))}, but its folder or --at gives one id",
                "leave out the id, or give the mask of one object",
            )
        height, width = reading.labels.shape
        colours, size = dict(sorted(reading.colours.items())), (height, width)
        gone = gone_in(path) if object_id is None else frozenset()
        return cls(path, frame, reading.kind, labels, colours, size, _digest(reading), object_id, gone)

    def refuse_changed(self, reading: MaskReading) -> None:
        """Raises MaskError if the file's content differs from when it was first read, perhaps hours ago."""
        as_stored = reading.labels.shape != self.size  # its orientation tag was ignored so that it fits the video
        if tuple(reading.ids) != self.labels or not (as_stored or _digest(reading) == self.digest):
            raise MaskError(
                f"mask {self.path} has changed since the run started",
                "restore it and continue (--resume), or start over with its new content (--overwrite)",
            )

    @property
    def names_its_ids(self) -> bool:
        """Whether the labels in the file are ids."""
        return self.object_id is None and self.kind == "ids"

    def is_as_shown(self, frame: Frame) -> bool:
        """Returns whether it has the size of a frame scaled to square pixels along one side, within a pixel."""
        (height, width), (rows, columns) = self.size, frame.size
        wide, high = abs(width - columns * frame.pixel_aspect) <= 1, abs(height - rows / frame.pixel_aspect) <= 1
        return self.size != frame.size and ((height == rows and wide) or (width == columns and high))

    @property
    def shows_davis(self) -> bool:
        """Whether each label is the index of its colour in the DAVIS palette."""
        return all(_is_davis(label, colour) for label, colour in self.colours.items())

    def warn_if_whole(self, mask: Bool[Tensor, "H W"], object_id: int, frame: int) -> None:
        """Warns if an object's mask covers nearly the whole picture, or most of it and of its border."""
        share = float(mask.float().mean())
        border = torch.cat((mask[0], mask[-1], mask[:, 0], mask[:, -1]))
        if share > WHOLE_SHARE or (share > MOST_SHARE and float(border.float().mean()) > BORDER_SHARE):
            log.warning(
                "mask %s marks %.0f %% of frame %d as object %d; invert it if object and background are swapped",
                self.path,
                100 * share,
                frame,
                object_id,
            )


@dataclass(slots=True)
class ColourIds:
    """The object ids of a run, assigned as its mask files are processed frame by frame.

    Attributes:
        by_colour: the id of each colour seen so far.
        known: the ids of all objects so far.
        unpainted: the ids of objects that exist, and whose colours are unknown: any new colour may be theirs.
        notes: sentences that say what was guessed.
    """

    by_colour: dict[RGB, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    unpainted: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    _said_by: dict[RGB, Path | str] = field(default_factory=dict)
    _by_index: dict[int, tuple[RGB, Path]] = field(default_factory=dict)
    _to_come: set[int] = field(default_factory=set)
    _levels: set[int] = field(default_factory=set)
    _white: bool = False  # whether white was object 1 of a black and white file

    @classmethod
    def of(
        cls, files: Sequence[MarkedFile], objects: Mapping[int, Sequence[str]] | None = None, *, exported: bool = False
    ) -> "ColourIds":
        """Returns the ids from the palettes of all files of a run; raises MaskError if two contradict each other.

        Args:
            files: the files.
            objects: the colours, as "#rrggbb", of the objects that exist already, by id.
            exported: whether files in colours of the DAVIS palette alone, none of which was painted before, show the
                ids of the objects, as an export does that a tool has turned into RGB.
        """
        objects = objects or {}
        painted = {_rgb(colour): object_id for object_id, colours in objects.items() for colour in colours}
        if exported and all(file.shows_davis and painted.keys().isdisjoint(file.colours.values()) for file in files):
            painted = {}
        ids = cls(painted, {*objects}, {*objects} - {*painted.values()})
        ids._said_by.update(dict.fromkeys(painted, "the project"))
        for file in files:
            if file.object_id is not None:
                ids._to_come.add(file.object_id)
            elif file.kind == "ids":
                ids._to_come.update(file.labels)
                ids._levels.update(() if file.colours else file.labels)
                for label, colour in file.colours.items():
                    if not (colour in painted and _is_davis(label, colour)):  # an export shows each id in that colour
                        ids._learn(colour, label, file)
                    ids._refuse_another_palette(label, colour, file)
        return ids

    def _refuse_another_palette(self, index: int, colour: RGB, file: MarkedFile) -> None:
        """Raises MaskError if an index has another colour than in an earlier file; a grey may stand for the index."""
        known, path = self._by_index.setdefault(index, (colour, file.path))
        plain = ((index,) * 3, WHITE) if len(file.labels) == 1 else ((index,) * 3,)
        if not (_near(colour, known) or colour in plain or known in plain):
            raise MaskError(
                f"mask {file.path} has index {index} in {_hex(colour)} but {path} has it in {_hex(known)}, so one of "
                "the palettes was made for its file alone",
                "save all masks with the same palette, or with ids as grey levels",
            )

    def _learn(self, colour: RGB, object_id: int, file: MarkedFile) -> None:
        if (known := self.by_colour.setdefault(colour, object_id)) != object_id:
            remedy = "save all masks with the same palette, or as RGB"
            raise another_palette(file.path, colour, object_id, self._said_by[colour], known, remedy)
        self._said_by.setdefault(colour, file.path)

    def ids_of(self, file: MarkedFile) -> dict[int, int]:
        """Returns the id of each label of the next file; raises MaskError if it is ambiguous.

        Args:
            file: one of the files given to `of`; files of earlier frames must have been processed before.
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

    def painted(self, file: MarkedFile, labels: Iterable[int], object_id: int) -> list[str]:
        """Returns the colours, as "#rrggbb", that stand for an object in a file; none if only its id was recognized."""
        if file.object_id is not None or object_id in self.unpainted:
            return []
        colours = [(label, file.colours[label]) for label in labels if label in file.colours]
        return [_hex(colour) for label, colour in colours if file.kind != "ids" or not _is_davis(label, colour)]

    def free_id(self) -> int:
        """Returns the lowest id that no object has."""
        return self._free({*self.known, *self.by_colour.values()})

    def _free(self, taken: Iterable[int]) -> int:
        taken = set(taken)
        return next(i for i in range(1, MAX_OBJECT_ID + 1) if i not in taken)

    def says_white(self, file: MarkedFile) -> bool:
        """Returns whether a file is black and white, and white stands for a known object of this run."""
        return file.kind == "black and white" and (WHITE in self.by_colour or 255 in self._levels)

    def _of_white(self, file: MarkedFile) -> int:
        if self.says_white(file):
            return self.by_colour.get(WHITE, 255)
        self._white = self._white or file.kind == "black and white"
        return 1

    def _of_levels(self, file: MarkedFile) -> dict[int, int]:
        """Returns the ids of grey levels: the levels themselves, except for painted greys of other files."""
        turned_grey = {_luma(colour): (colour, i) for colour, i in self.by_colour.items()}
        new = [label for label in file.labels if label not in self.known and (label,) * 3 not in self.by_colour]
        if new and all(label in turned_grey and turned_grey[label][1] != label for label in new):
            colour, object_id = turned_grey[new[0]]
            raise MaskError(
                f"mask {file.path} has grey levels {', '.join(map(str, new[:5]))}, which are colours of other masks "
                f"turned to grey ({_hex(colour)} of object {object_id} becomes {new[0]})",
                "save it in colour, or with ids",
            )
        return {label: self.by_colour.get((label,) * 3, label) for label in file.labels}

    def _grey(self, colour: RGB) -> int | None:
        """Returns the id of a painted grey as a level of another file, or as white in a black and white one."""
        if len(set(colour)) == 1 and colour[0] in self._levels:
            return colour[0]
        return 1 if colour == WHITE and self._white else None

    def _of_colours(self, file: MarkedFile) -> dict[int, int]:
        """Returns the ids of painted colours: known ones, else their DAVIS indices, else the next free ids."""
        is_davis = file.shows_davis
        others = {i for colour, i in self.by_colour.items() if colour not in file.colours.values()}
        for colour in file.colours.values():
            if colour not in self.by_colour and (grey := self._grey(colour)):
                self._learn(colour, grey, file)
        new = {label: colour for label, colour in file.colours.items() if colour not in self.by_colour}
        if is_davis and len(new) == len(file.colours) and (taken := sorted(others & new.keys())):
            painted = next(colour for colour, i in self.by_colour.items() if i == taken[0])
            raise MaskError(
                f"mask {file.path} has {_hex(new[taken[0]])}, which is object {taken[0]} in the DAVIS palette, but "
                f"object {taken[0]} is {_hex(painted)} in {self._said_by[painted]}",
                f"use that colour if it is that object, or give its id (--at {typed(file.frame)}:ID={file.path.name})",
            )
        self._refuse_colours_of_levels(file, new)
        if len(new) == len(file.colours):
            self._refuse_shifted(file)
        self._refuse_ambiguous(file, [colour for label, colour in new.items() if not is_davis or label in others])
        found = {label: self.by_colour[c] for label, c in file.colours.items() if c in self.by_colour}
        # Ids that later files use are avoided, except in the first file, whose objects later files correct.
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

    def _refuse_colours_of_levels(self, file: MarkedFile, new: Mapping[int, RGB]) -> None:
        """Raises MaskError if new colours, turned to grey, are all objects of earlier masks with grey levels."""
        levels = self._levels & self.known
        kept = levels if file.shows_davis else set()  # the DAVIS colours of these ids
        if new and all(_luma(colour) in levels and label not in kept for label, colour in new.items()):
            colour = next(iter(new.values()))
            level = _luma(colour)
            raise MaskError(
                f"mask {file.path} has {_hex(colour)}, which turned to grey is {level}, the level of object {level} in "
                "other masks: they seem to have such colours turned to grey",
                f"save all masks in colour, or give its id (--at {typed(file.frame)}:ID={file.path.name})",
            )

    def _refuse_ambiguous(self, file: MarkedFile, colours: Sequence[RGB]) -> None:
        """Raises MaskError if colours are new, and may be those of objects that exist."""
        if not (colours and self.unpainted):
            return
        first, ids = min(self.unpainted), sorted(self.unpainted)
        known = f"the colour of object {first} is" if len(ids) == 1 else f"the colours of objects {listed(ids)} are"
        name, at = file.path.name, typed(file.frame)
        raise MaskError(
            f"mask {file.path} for {in_words(file.frame)} has {_hex(colours[0])}, but {known} not known, so it does "
            "not say which object it shows",
            f"give the mask of each object with its id, such as --at {at}:{first}={name}, or --at "
            f"{at}:{self.free_id()}={name} for a new one",
        )

    def _refuse_shifted(self, file: MarkedFile) -> None:
        """Raises MaskError if every colour is new but close to one of other files, as after a colour profile change."""
        near = [(colour, known) for colour in file.colours.values() for known in self.by_colour if _near(colour, known)]
        # If close colours are different objects already, they encode numbers, such as the id in the red channel.
        are_numbers = any(_near(one, other) for one, other in combinations(self.by_colour, 2))
        if near and not are_numbers and len({colour for colour, _ in near}) == len(file.colours):
            colour, known = near[0]
            raise MaskError(
                f"mask {file.path} has {_hex(colour)}, which is nearly {_hex(known)} of object {self.by_colour[known]}",
                f"use the same colour for both, or give its id (--at {typed(file.frame)}:ID={file.path.name})",
            )


def another_palette(path: Path, colour: RGB, index: int, other: Path | str, other_index: int, remedy: str) -> MaskError:
    """Returns the error for a file that has a colour as another index than an earlier file."""
    return MaskError(
        f"mask {path} has {_hex(colour)} as index {index} but {other} has it as {other_index}, so one of the palettes "
        "was made for its file alone",
        remedy,
    )


@cache
def _davis_colours() -> tuple[RGB, ...]:
    return tuple(map(rgb_of, davis_palette()))


def _is_davis(label: int, colour: RGB) -> bool:
    """Returns whether a colour is that of an index in the DAVIS palette."""
    return label < len(_davis_colours()) and _davis_colours()[label] == colour


def _digest(reading: MaskReading) -> bytes:
    said = repr(sorted(reading.colours.items())).encode()
    return hashlib.sha256(reading.labels.astype(np.uint16).tobytes() + said).digest()


def _near(colour: RGB, other: RGB) -> bool:
    return max(abs(one - another) for one, another in zip(colour, other, strict=True)) <= SAME_COLOUR


def _luma(colour: RGB) -> int:
    """Returns the grey level of a colour (ITU-R BT.601, as Pillow and OpenCV compute it)."""
    red, green, blue = colour
    return (red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16


def _hex(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _rgb(text: str) -> RGB:
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def colours_said(ids: ColourIds) -> dict[str, int]:
    """Returns the id of each colour, as shown in reports."""
    return {_hex(colour): object_id for colour, object_id in sorted(ids.by_colour.items(), key=lambda pair: pair[1])}
