"""All prompts of a run, read and checked together before its first frame is computed."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import InputError, MaskError, counted
from mnemask.io.pictures import is_anamorphic
from mnemask.model.stcn import STCN
from mnemask.prompts.box import Box, BoxFormat, parse_box
from mnemask.prompts.clicks import check_clicks
from mnemask.prompts.colour_ids import ColourIds, MarkedFile, colours_said
from mnemask.prompts.mask_file import clean_or_refuse, inspect_mask
from mnemask.prompts.mask_matching import named_otherwise, numbered_otherwise
from mnemask.prompts.mask_places import MaskPlaces, never_annotated, refuse_several, say_not_annotated
from mnemask.prompts.mask_reading import Void
from mnemask.prompts.overlaps import Overlap, check_pointed, overlaps, say_overlaps
from mnemask.prompts.parse import (
    FIRST_READ,
    At,
    in_words,
    parse_at,
    parse_click,
    parse_objects,
    parse_remove,
    refuse_unknown,
    typed,
)
from mnemask.prompts.preview import draw_preview
from mnemask.prompts.sketch import PointPrompt, PromptSegmenter
from mnemask.types import MAX_OBJECTS, Frame, ObjectInfo

log = logging.getLogger(__name__)


def _is_cut_out(path: Path, object_id: int | None) -> bool:
    """Returns whether a file is in a folder named by its object's id, as `--format rgba` writes colour cut-outs."""
    return path.parent.name == str(object_id)


def beyond_the_end(frame: int, num_frames: int, *, about: bool = False, stop: str | None = None) -> InputError:
    """Returns the error for a prompt beyond the video's last frame.

    Args:
        frame: the frame of the prompt.
        num_frames: the number of frames that are read.
        about: whether that is an estimate.
        stop: where reading stops, if that is before the video's end.
    """
    if stop is not None:
        return InputError(f"masks are given for frame {frame}, but --stop {stop} ends before it", "correct one of them")
    frames = f"about {num_frames} frames" if about else f"{num_frames} frames"
    return InputError(
        f"masks are given for frame {frame} but the video has {frames} (counted from 0)",
        "correct the --at, --remove or --click option, or the mask's file name",
    )


@dataclass(slots=True)
class _FramePrompts:
    """The prompts of one frame: files with the id of each label, objects with a box or clicks, and objects gone."""

    files: list[tuple[MarkedFile, dict[int, int]]] = field(default_factory=list)
    pointed: dict[int, PointPrompt] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    @property
    def given(self) -> list[int]:
        marked = (i for _, ids in self.files for i in dict.fromkeys(ids.values()))
        return list(dict.fromkeys((*marked, *self.pointed)))


class PromptPlan:
    """The masks to give at each frame, as `Tracker.step` takes them.

    All files are read at the start, so that errors in any of them are reported before the first frame, and again when
    their frame comes, so that they need not be kept in memory.

    Args:
        mask: a file with the masks of the first frame; a folder of masks of any frames; or a folder with one such
            folder for each object, named by its id.
        boxes: "x,y,w,h" around objects in the first frame; they get the lowest ids that its masks leave free.
        later: "FRAME=MASK" or "FRAME:ID=MASK" for objects that appear later, or corrections. A mask that is all
            background means that the object, or without an ID every object, is gone.
        clean: whether blended edge pixels in an id map are assigned to the nearest object instead of refused.
        clicks: "ID=X,Y" or "FRAME:ID=X,Y" on objects; they correct a mask or box of the same object in that frame.
        not_clicks: the same, for clicks off the objects.
        removed: "FRAME:ID"; the object is removed from that frame on.
        box_format: "xywh" or "xyxy".
        void: the value in mask files that belongs to no object, see `read_mask`.
        names: names of the frames without extensions, for a folder of images; masks in a folder are matched by them.
        num_frames: number of frames of the video, if known.
        known: ids of the objects that are tracked before the first frame.
        objects: classes and names of objects, as "ID=CLASS" or "ID=CLASS:NAME".
        begins_later: whether reading starts after the video's first frame; prompts without a frame then apply to the
            first frame read. They also do if frame 0 is damaged or dropped, unless a prompt names frame 0 by number.

    Attributes:
        notes: sentences that say how the prompts were understood and what was guessed.
        objects: classes and names of the objects, by id.
        most_at_once: the largest number of objects tracked at once.
        by_names: whether masks were matched to frames by names.

    Raises:
        MaskError: a prompt cannot be read or applied.
        InputError: there is no prompt, one is beyond the end of the video, an object has a class but no prompt, or a
            later mask does not say which object it shows.
    """

    def __init__(
        self,
        mask: Path | None,
        boxes: Sequence[str],
        later: Sequence[str],
        clean: bool,
        *,
        clicks: Sequence[str] = (),
        not_clicks: Sequence[str] = (),
        removed: Sequence[str] = (),
        box_format: BoxFormat = "xywh",
        void: Void = "auto",
        names: Sequence[str] | None = None,
        num_frames: int | None = None,
        known: Collection[int] = (),
        objects: Sequence[str] = (),
        begins_later: bool = False,
    ) -> None:
        self.mask, self.void = mask, void
        self.antialiased: Literal["clean", "error"] = "clean" if clean else "error"
        self.boxes = [parse_box(box, box_format) for box in boxes]
        self.later = [parse_at(text) for text in later]
        self._names = names
        self._begins_later = begins_later
        self._first = FIRST_READ if begins_later else 0
        self._begun = False
        self.by_names = False
        clicked = [*map(parse_click, clicks), *(parse_click(text, positive=False) for text in not_clicks)]
        self.clicks = [click._replace(frame=self._first) if click.frame is None else click for click in clicked]
        self.notes: list[str] = []
        self._removed = [parse_remove(text) for text in removed]
        self._names_first = 0 in (click.frame for click in clicked) or 0 in (frame for frame, _ in self._removed)
        if mask is None and not boxes and not later and not removed and not self.clicks:
            raise InputError(
                "there is nothing to track",
                "give --mask FIRST.png with the objects, a --box x,y,w,h around each, or a --click ID=x,y on each",
            )
        self._by_frame: dict[int, _FramePrompts] = {}
        self._boxes: dict[int, Box] = {}
        self._size: tuple[int, int] | None = None
        self._finder = PromptSegmenter()
        self._known = frozenset(known)
        self.most_at_once = len(self._known)
        named = parse_objects(objects)
        self.objects: dict[int, ObjectInfo] = {}
        self._read(self._places(names, num_frames))
        refuse_unknown(named, self._ids.known)
        said = {**self.objects, **named}
        self.objects = {object_id: said[object_id] for object_id in said if object_id in self._ids.known}

    def __call__(self, frame: Frame) -> Mapping[int, Bool[Tensor, "H W"] | None] | None:
        """Returns the masks given for a frame by object id, None for objects that are gone."""
        if not self._begun:
            self._begin(frame.index)
            for doubt, remedy in self.misnamed():
                log.warning("%s: %s", doubt, remedy)
        if self._size is None:
            self.check_sizes(frame)
        prompts = self._by_frame.pop(frame.index, None)
        if prompts is None:
            return None
        found: dict[int, Bool[Tensor, "H W"] | None] = dict.fromkeys(sorted(prompts.gone))
        for file, ids in prompts.files:
            cut_out = _is_cut_out(file.path, file.object_id)
            reading = inspect_mask(file.path, frame.size, void=self.void, cut_out=cut_out)
            file.refuse_changed(reading)
            labels = torch.from_numpy(reading.labels)
            for label, object_id in ids.items():
                mask = labels == label
                file.warn_if_whole(mask, object_id, frame.index)
                found[object_id] = mask
        found |= self._finder.find(frame, prompts.pointed, found)
        check_pointed(found, prompts.pointed, frame.index, "" if frame.index == self._first else f"{frame.index}:")
        return found

    def prepare(self, model: STCN) -> None:
        """Segments boxes and clicks with a model's key encoder from now on; before, boxes are segmented by colour.

        Raises:
            CheckpointError: there are clicks, and no click head for this model.
        """
        if self.boxes or self.clicks:
            self.notes += self._finder.prepare(model, clicks=bool(self.clicks))

    def preview(self, frame: Frame, given: Mapping[int, Bool[Tensor, "H W"] | None]) -> bytes:
        """Returns a PNG of a frame with its prompts: masks, ids, boxes and clicks."""
        masks = {object_id: mask for object_id, mask in given.items() if mask is not None}
        clicks = [click for click in self.clicks if click.frame == frame.index]
        return draw_preview(frame, masks, self._boxes, clicks)

    @property
    def colours(self) -> dict[str, int]:
        """The id of each colour in the mask files, such as "#ff0000"."""
        return colours_said(self._ids)

    @property
    def to_come(self) -> Mapping[int, Collection[int]]:
        """The object ids of the masks that are still to be given, by frame."""
        return {frame: prompts.given for frame, prompts in self._by_frame.items()}

    def say_notes(self) -> None:
        """Logs the notes."""
        for note in self.notes:
            log.info("%s", note)

    def skip(self, position: int) -> None:
        """Drops the prompts of frames before `position`, which are done."""
        self._by_frame = {frame: prompts for frame, prompts in self._by_frame.items() if frame >= position}
        self._begun = True
        self.notes.clear()

    def misnamed(self) -> list[tuple[str, str]]:
        """Returns a sentence and a remedy for each mask still to be given that is named after another frame.

        Those of a folder are not: their names tell their frames.
        """
        alone = {self.mask, *(at.path for at in self.later)}
        places = [
            At(frame, file.object_id, file.path)  # a file's own frame may stand for the first one read
            for frame, prompts in self._by_frame.items()
            for file, _ in prompts.files
            if file.path in alone
        ]
        if self._names is None:
            return [doubt for at in places if at.path == self.mask for doubt in numbered_otherwise(at.path, at.frame)]
        return list(named_otherwise(places, self._names))

    def check_sizes(self, frame: Frame) -> None:
        """Raises MaskError if a mask differs in size from the video's frames, or a click lies outside them."""
        self._size = frame.size
        if is_anamorphic(frame.pixel_aspect) and (self.boxes or self.clicks):
            log.warning(
                "the video's pixels have an aspect ratio of %s:%s: give boxes and clicks in stored pixels (%s across, "
                "%s down), not in pixels of the screen",
                *(frame.pixel_aspect.numerator, frame.pixel_aspect.denominator, frame.size[1], frame.size[0]),
            )
        for file in (file for prompts in self._by_frame.values() for file, _ in prompts.files):
            if frame.pixel_aspect != 1 and file.is_as_shown(frame):
                raise MaskError(
                    f"mask {file.path} is {file.size[1]}x{file.size[0]}, as the video is shown, but its pixels have an "
                    f"aspect ratio of {frame.pixel_aspect.numerator}:{frame.pixel_aspect.denominator} and its frames "
                    f"are stored as {frame.size[1]}x{frame.size[0]}",
                    "resize the mask to that with nearest neighbour",
                )
        for prompts in self._by_frame.values():
            for file in (file for file, _ in prompts.files if file.size != frame.size):
                inspect_mask(file.path, frame.size, void=self.void)
            for how in prompts.pointed.values():
                check_clicks(how.on, how.beside, frame.size)

    def _places(self, names: Sequence[str] | None, num_frames: int | None) -> list[At]:
        """Returns all mask files with their frames, in frame order."""
        places = list(self.later)
        for at in places:
            refuse_several(at)
        if self.mask is not None:
            found = MaskPlaces.of(self.mask, names, num_frames)
            self.objects, self.notes = dict(found.objects), found.notes
            self.by_names = any(at.frame != FIRST_READ for at in found.places)
            places = [*found.places, *places]
        self._names_first |= 0 in (at.frame for at in places)
        places = [at._replace(frame=self._first) if at.frame == FIRST_READ else at for at in places]
        beyond = [at.frame for at in places] + [click.frame or 0 for click in self.clicks]
        beyond += [frame for frame, _ in self._removed]
        if num_frames is not None and max(beyond, default=0) >= num_frames:
            raise beyond_the_end(max(beyond), num_frames)
        return sorted(places, key=lambda at: at.frame)

    def _read(self, places: Sequence[At]) -> None:
        """Reads all files once, and works out which objects appear and disappear at which frame."""
        files = []
        shared: list[Overlap] = []
        noted: dict[str, list[At]] = {}
        for _, places_here in groupby(places, key=lambda at: at.frame):
            read = []
            for at in places_here:
                reading = inspect_mask(at.path, void=self.void, cut_out=_is_cut_out(at.path, at.object_id))
                clean_or_refuse(at.path, reading, self.antialiased)
                for note in reading.notes:
                    noted.setdefault(note, []).append(at)
                file = MarkedFile.of(at.path, at.frame, reading, at.object_id)
                read.append((file, reading.labels.astype(np.uint16)))
            files += [file for file, _ in read]
            if len(read) > 1:
                shared += overlaps(sorted(read, key=lambda each: not each[0].names_its_ids))
        for note, (at, *more) in noted.items():
            also = f" and {counted(len(more), 'more mask')}" if more else ""
            self.notes.append(f"{in_words(at.frame)}, {at.path.name}{also}: {note}")
        later = {at.path for at in self.later}
        given = [file for file in files if file.path not in later]
        alone = not (self._known or self.later or self.boxes or self.clicks)
        if given and not any(file.labels for file in given) and (alone or given[0].path == self.mask):
            raise MaskError(
                f"mask {self.mask} marks no object", "paint each object with its own value, and the background with 0"
            )
        for folder in dict.fromkeys(file.path.parent for file in given):
            here = [file for file in given if file.path.parent == folder]
            if never_annotated([bool(file.labels or file.gone) for file in here]):
                empty = {file.path: None for file in here if not (file.labels or file.gone)}
                say_not_annotated(folder, list(empty), len(here))
                files = [file for file in files if file.path not in empty]
        self._ids = ColourIds.of(files)
        self._ids.known.update(self._known)
        alive = set(self._known)
        frames = {file.frame for file in files} | {click.frame or 0 for click in self.clicks}
        frames |= {frame for frame, _ in self._removed} | ({self._first} if self.boxes else set())
        for frame in sorted(frames):
            self._by_frame[frame] = self._prompts_of(frame, [file for file in files if file.frame == frame], alive)
        say_overlaps(shared)
        self.notes += self._ids.notes

    def _prompts_of(self, frame: int, files: Sequence[MarkedFile], alive: set[int]) -> _FramePrompts:
        """Returns the prompts of a frame; updates `alive` from the objects tracked before it to those after it."""
        prompts = _FramePrompts()
        marked = [file for file in files if file.labels]
        for file in sorted(marked, key=lambda file: not file.names_its_ids):  # first; colours get the ids left over
            if len(alive) > 1 and file.object_id is None and file.kind in ("black and white", "transparency"):
                self._refuse_unnamed(file, sorted(alive))
            ids = self._ids.ids_of(file)
            if both := sorted({*prompts.given} & {*ids.values()}):
                raise MaskError(
                    f"mask {file.path} marks object {both[0]} in {in_words(frame)}, and so does another mask for that "
                    "frame",
                    f"give each object its own id, such as --at {typed(frame)}:{both[0] + 1}={file.path.name} "
                    "(black and white is id 1)",
                )
            prompts.files.append((file, ids))
        for box in self.boxes if frame == self._first else ():
            object_id = self._ids.free_id()
            self._boxes[object_id] = box
            prompts.pointed[object_id] = PointPrompt(box)
            self._ids.known.add(object_id)
            self.notes.append(f"box {box.in_words} of object {object_id}")
        self._add_clicks(frame, prompts)
        prompts.gone = self._gone(frame, files, prompts.given, alive)
        alive -= prompts.gone
        alive |= {*prompts.given}
        self.most_at_once = max(self.most_at_once, len(alive))
        if len(alive) > MAX_OBJECTS:
            raise MaskError(
                f"from {in_words(frame)} on, {len(alive)} objects would be tracked at once, more than {MAX_OBJECTS}",
                "remove others first (--remove), or track some of them in a separate run",
            )
        return prompts

    def _add_clicks(self, frame: int, prompts: _FramePrompts) -> None:
        """Adds the clicks in a frame, joined per object with the box or mask that they correct."""
        shown = prompts.given
        here = [click for click in self.clicks if click.frame == frame]
        for object_id in dict.fromkeys(click.object_id for click in here):
            its = [click for click in here if click.object_id == object_id]
            on, beside = check_clicks(
                [(click.x, click.y) for click in its if click.positive],
                [(click.x, click.y) for click in its if not click.positive],
            )
            if not on and object_id not in shown:
                raise MaskError(
                    f"object {object_id} has clicks off it but none on it, no box and no mask in {in_words(frame)}",
                    f"add --click {object_id}=X,Y on it",
                )
            prompts.pointed[object_id] = replace(prompts.pointed.get(object_id, PointPrompt()), on=on, beside=beside)
            self._ids.known.add(object_id)
            also = ", which correct its mask or box" if object_id in shown else ""
            count = f"{counted(len(on), 'click')} on object {object_id}"
            self.notes.append(f"{in_words(frame)}: {count}{f', {len(beside)} off it' if beside else ''}{also}")

    def _gone(self, frame: int, files: Sequence[MarkedFile], given: Collection[int], alive: set[int]) -> set[int]:
        gone = {object_id for at, object_id in self._removed if at == frame}
        for file in (file for file in files if file.gone or not file.labels):
            here = alive if file.object_id is None else alive & {file.object_id}
            if file.gone:
                here = (alive & file.gone) - {*given}
            gone |= here
            if here:
                ids = ", ".join(map(str, sorted(here)))
                objects = f"object {ids} is" if len(here) == 1 else f"objects {ids} are"
                since = f"because {file.path.name} {'says so' if file.gone else 'is empty'}"
                self.notes.append(f"{in_words(frame)}: {objects} gone from here on, {since}")
        if unknown := sorted(gone - alive):
            there = ", ".join(map(str, sorted(alive))) or "none"
            raise MaskError(
                f"object {unknown[0]} is to be removed at frame {frame} but is not tracked there",
                f"remove one that is tracked ({there})",
            )
        if both := sorted(gone & {*given}):
            raise MaskError(
                f"object {both[0]} is both given and removed at frame {frame}",
                "drop one of the two, or remove the object one frame earlier",
            )
        return gone

    def _refuse_unnamed(self, file: MarkedFile, known: Sequence[int]) -> None:
        """Raises InputError if a later mask does not say which of several objects, or that a new one, is shown."""
        if self._ids.says_white(file):
            return
        last, name, at = known[-1], file.path.name, typed(file.frame)
        kind = "black and white" if file.kind == "black and white" else "a cut-out"
        raise InputError(
            f"mask {file.path} for {in_words(file.frame)} is {kind} and does not say which object it shows",
            f"objects {', '.join(map(str, known))} are tracked there: write --at {at}:{last}={name} to correct "
            f"object {last}, or --at {at}:{last + 1}={name} for a new one",
        )

    def _begin(self, first: int) -> None:
        """Moves prompts without a frame to the first frame read, where that is not frame 0.

        Raises:
            MaskError: masks are given for a frame before the first one read, or twice for that one.
        """
        self._begun = True
        if not self._begins_later:
            if self._names_first or first == 0 or [frame for frame in self._by_frame if frame <= first] != [0]:
                return
            log.warning("frame 0 is missing: prompts for the first frame are applied to frame %d", first)
        begin = self._by_frame.pop(self._first, None)
        self.clicks = [click._replace(frame=first) if click.frame == self._first else click for click in self.clicks]
        self._first = first
        if begin is not None and first in self._by_frame:
            raise MaskError(
                f"frame {first} is the first frame read, and --at and also --mask, --box or --click are for it",
                f"give all its masks by number, --at {first}:ID=MASK, and its clicks as --click {first}:ID=X,Y",
            )
        if self._begins_later and (early := [frame for frame in self._by_frame if frame < first]):
            raise MaskError(
                f"masks are given for frame {early[0]}, and the first frame read is {first}",
                "start there (--start), or give masks of later frames; a single image, a box, and a click without a "
                "frame apply to the first frame read",
            )
        if begin is not None:
            self._by_frame[first] = begin
