"""A table of where each object is in each frame, how doubtful that is, and which frames are worth a look."""

import base64
import csv
import io
import shutil
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from math import hypot
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, Int32

from mnemask.io.atomic import (
    ResumeState,
    TextJournal,
    Writing,
    make_durable,
    partial_file,
    target_file,
    unfinished,
)
from mnemask.io.image_formats import name_of
from mnemask.types import Frame, Masks, ObjectInfo

TABLE = "table.csv"
COLUMNS = (
    *("frame", "name", "seconds", "object", "class", "instance"),
    *("certainty", "area", "centre_x", "centre_y", "left", "top", "width", "height", "specks", "apart"),
    *("moved", "growth", "iou", "doubt"),
)
_JOIN = 5  # frames between two stretches that are reported as one
_MOST = 100  # stretches reported of each kind and object, so that memory does not grow with a run's length

DOUBTFUL = 0.5  # from here on a frame is worth a look
SURE, UNSURE = 0.97, 0.80  # mean certainty within a mask at which doubt is 0, and 1
STEADY, LEAP = 0.15, 0.7  # log2 of the change of area from one frame to the next, likewise
FEW, MANY = 2, 10  # specks, likewise
WHOLE, TORN = 0.04, 0.20  # share of the mask outside its largest piece, likewise
SPECK = 0.05  # share of the largest piece: smaller pieces are specks, larger ones may be another part or another object

Labels = Int32[np.ndarray, "H W"]


class Confidence(NamedTuple):
    """Quality of one object's mask in one frame.

    Attributes:
        certainty: mean probability of the mask's pixels; for an empty mask, 1 minus that of the likeliest pixel.
        area: area in pixels.
        specks: number of pieces that are small compared to the largest.
        apart: share of the area that is not connected to the largest piece.
    """

    certainty: float
    area: int
    specks: int
    apart: float


class Appearance(NamedTuple):
    """Place and quality of one object's mask in one frame, in pixels; the place is None if the mask is empty.

    Attributes:
        confidence: quality of the mask.
        centre: x and y of its centre of mass; the first pixel's is 0, 0.
        box: left, top, width and height of the box around it.
    """

    confidence: Confidence
    centre: tuple[float, float] | None = None
    box: tuple[int, int, int, int] | None = None


class ObjectTable:
    """OUT/table.csv: a row for each object in each frame, as long as it is tracked.

    ======================== ========================================================================================
    column                   what
    ======================== ========================================================================================
    frame, name, seconds     the frame: its number from 0, the name of its files, its time (empty if it has none)
    object, class, instance  the object's id, class and name
    certainty                mean probability of the pixels of the mask, 0 to 1
    area                     pixels; 0 if the object is not seen, in which case the columns for its place are empty
    centre_x, centre_y       the centre of mass, in pixels
    left, top, width, height the box around the mask, in pixels
    specks, apart            pieces that are small compared to the largest; share of the area outside the largest
    moved, growth, iou       since the frame before: of the centre in pixels, of the area as a factor, of the masks
    doubt                    0 to 1, from certainty, growth, specks and apart, as the studio's timeline shows it
    ======================== ========================================================================================

    The file holds whole lines at any time, even if the run is killed.
    """

    stretch = 1
    single_file: ClassVar[str | None] = TABLE
    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 10_000

    @classmethod
    def check(cls) -> None:
        """Does nothing: the format needs no optional package."""

    def __init__(self, out: Path, how: Writing) -> None:
        self._how, self._target = how, target_file(out, TABLE)
        how.files.refuse_foreign(self._target, partial_file(self._target))
        beside = partial_file((how.journal or self._target.parent) / self._target.name)
        how.begin(beside)
        begun = how.resume_state or {}
        with closing(TextJournal(beside, int(begun.get("length", 0)))) as rows:
            if not begun:
                rows.add(_line(COLUMNS))
            self._path, self._length = beside, rows.length
        self._before = {int(i): _appearance(each) for i, each in begun.get("before", {}).items()}
        self._labels = _labels_of(begun.get("labels"))
        self._looks = {int(i): _Look(**each) for i, each in begun.get("looks", {}).items()}

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the rows of one frame."""
        seconds = "" if frame is None or frame.seconds is None else f"{frame.seconds:.6f}"
        labels = masks.labels.cpu().numpy()
        now = {object_id: appearance_of(masks, object_id) for object_id in masks.object_ids}
        rows = []
        for object_id, seen in now.items():
            before = self._before.get(object_id)
            doubt = doubt_between(before and before.confidence, seen.confidence)
            self._looks.setdefault(object_id, _Look()).add(masks.index, seen.confidence.area, doubt)
            info = self._how.objects.get(object_id, ObjectInfo())
            rows.append(
                _line(
                    [
                        *(masks.index, name_of(masks, frame), seconds, object_id, info.category, info.name),
                        *_cells(seen),
                        *self._changes(object_id, before, seen, labels),
                        f"{doubt:.3f}",
                    ]
                )
            )
        self._before, self._labels = now, labels
        data = "".join(rows).encode()
        # Opened each time: a disk with a file open for writing cannot be made read-only.
        with self._path.open("ab") as file:
            file.write(data)
        self._length += len(data)

    def _changes(self, object_id: int, before: Appearance | None, now: Appearance, labels: Labels) -> list[str]:
        """Returns how far the centre moved, the area's growth as a factor, and the masks' IoU; empty if unknown."""
        if before is None or before.centre is None or now.centre is None:
            return ["", "", ""]
        moved = hypot(now.centre[0] - before.centre[0], now.centre[1] - before.centre[1])
        areas = now.confidence.area, before.confidence.area
        iou = ""
        if self._labels is not None and self._labels.shape == labels.shape and now.box is not None:
            left, top, width, height = now.box
            inside = np.s_[top : top + height, left : left + width]
            both = np.count_nonzero((self._labels[inside] == object_id) & (labels[inside] == object_id))
            iou = f"{both / (sum(areas) - both):.4f}"
        return [f"{moved:.2f}", f"{areas[0] / areas[1]:.4f}", iou]

    def looks(self) -> dict[int, dict[str, Any]]:
        """Returns, by id, an object's number of frames tracked and seen, where it is lost or doubtful, and a text."""
        return {object_id: look.told() for object_id, look in self._looks.items()}

    def resume_state(self) -> ResumeState:
        """Returns the length of the rows, and what the next ones are compared with, with the labels as an array.

        `packed` converts them to JSON types, which would take too long after each frame.
        """
        return {
            "length": self._length,
            "before": {str(i): [list(each.confidence), each.centre, each.box] for i, each in self._before.items()},
            "labels": self._labels,
            "looks": {str(i): look.to_dict() for i, look in self._looks.items()},
        }

    def sync(self) -> None:
        """Makes the rows so far durable."""
        make_durable(self._path)

    def finish(self, *, complete: bool) -> None:
        """Gives the rows their name: table.csv if complete, else table.partial.csv."""
        if self._path == partial_file(self._target) and not complete:
            return  # it already has that name
        with unfinished(self._target) as partial:
            shutil.copyfile(self._path, partial)
            self._how.finish(partial, self._target, complete=complete)
        if self._how.journal is None:
            self._path.unlink(missing_ok=True)


class _Look:
    """The frames in which one object is lost or doubtful."""

    def __init__(
        self,
        frames: int = 0,
        seen: int = 0,
        lost: Sequence[Sequence[int]] = (),
        doubtful: Sequence[Sequence[int]] = (),
        untold: int = 0,
    ) -> None:
        self._frames, self._seen, self._untold = frames, seen, untold
        self._lost, self._doubtful = [list(run) for run in lost], [list(run) for run in doubtful]

    def add(self, frame: int, area: int, doubt: float) -> None:
        """Adds the next frame of the object."""
        self._frames += 1
        self._seen += area > 0
        if not area and self._seen:
            self._extend(self._lost, frame, 1)
        elif doubt >= DOUBTFUL:
            self._extend(self._doubtful, frame, _JOIN)

    def _extend(self, runs: list[list[int]], frame: int, join: int) -> None:
        if runs and frame - runs[-1][1] <= join:
            runs[-1][1] = frame
        elif len(runs) < _MOST:
            runs.append([frame, frame])
        else:
            self._untold += 1

    def to_dict(self) -> dict[str, Any]:
        """Returns the state as JSON types."""
        return {
            "frames": self._frames,
            "seen": self._seen,
            "lost": self._lost,
            "doubtful": self._doubtful,
            "untold": self._untold,
        }

    def told(self) -> dict[str, Any]:
        """Returns the state for a report, with a sentence."""
        parts = [
            f"{word} {_spans(runs)}" for word, runs in (("lost", self._lost), ("doubtful", self._doubtful)) if runs
        ]
        more = [f"and {self._untold} more frames"] if self._untold else []
        return {**self.to_dict(), "look": "; ".join([*parts, *more])}


def _spans(runs: Sequence[Sequence[int]]) -> str:
    """Returns stretches of frames as text."""
    return ", ".join(f"at {first}" if first == last else f"from {first} to {last}" for first, last in runs)


def _cells(seen: Appearance) -> list[object]:
    look = seen.confidence
    centre = ("", "") if seen.centre is None else (f"{seen.centre[0]:.2f}", f"{seen.centre[1]:.2f}")
    return [
        f"{look.certainty:.4f}",
        look.area,
        *centre,
        *(seen.box or ("", "", "", "")),
        look.specks,
        f"{look.apart:.4f}",
    ]


def _line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _appearance(saved: Sequence[Any]) -> Appearance:
    confidence, centre, box = saved
    return Appearance(Confidence(*confidence), centre and (centre[0], centre[1]), box and tuple(box))


def packed(labels: Labels) -> list[Any]:
    """Returns a label map as JSON types: height, width and the compressed ids."""
    return [*labels.shape, base64.b64encode(zlib.compress(labels.astype(np.uint16).tobytes(), 1)).decode("ascii")]


def _labels_of(saved: Sequence[Any] | Labels | None) -> Labels | None:
    """Returns the label map of a resume state, which may be packed."""
    if saved is None or isinstance(saved, np.ndarray):
        return saved
    height, width, data = saved
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), np.uint16).reshape(height, width).astype(np.int32)


def appearance_of(masks: Masks, object_id: int) -> Appearance:
    """Returns where one object is in a frame; an empty mask is certain if no pixel came close to being in it."""
    # NumPy, since the network runs meanwhile: PyTorch would start its own threads here, which slow down the others.
    row = masks.object_ids.index(object_id) + 1
    probs, mask = masks.probs[row].detach().cpu().numpy(), masks.labels.cpu().numpy() == object_id
    if not mask.any():
        return Appearance(Confidence(1.0 - float(probs.max()), 0, 0, 0.0))
    box, areas, centres = _pieces(mask)
    certainty, area = float(probs[mask].mean()), int(areas.sum())
    specks, apart = int((areas < SPECK * areas.max()).sum()), float(1 - areas.max() / areas.sum())
    x, y = areas @ centres / areas.sum() + box[:2]
    return Appearance(Confidence(certainty, area, specks, apart), (float(x), float(y)), box)


def doubts(columns: Mapping[str, Float[np.ndarray, " T"]], known: Bool[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Returns how doubtful each frame of an object is, from 0 to 1; 0 in frames that have not been tracked.

    Args:
        columns: the fields of `Confidence` for each frame.
        known: which frames have been tracked.
    """
    certainty, area, specks, apart = (columns[name] for name in Confidence._fields)
    unsure = (SURE - certainty) / (SURE - UNSURE)
    size = np.log2(np.maximum(area, 1) + 16)  # for a tiny object, a few pixels more or fewer are no leap
    leap = np.zeros_like(unsure)
    both = known[1:] & known[:-1]
    leap[1:][both] = (np.abs(np.diff(size))[both] - STEADY) / (LEAP - STEADY)
    pieces, torn = (specks - FEW) / (MANY - FEW), (apart - WHOLE) / (TORN - WHOLE)
    worst: Float[np.ndarray, " T"] = np.clip(np.maximum.reduce([unsure, leap, pieces, torn]), 0, 1)
    return np.where(known, worst, 0)


def doubt_between(before: Confidence | None, now: Confidence) -> float:
    """Returns how doubtful a frame of an object is, from 0 to 1, given the frame before it (None if there is none)."""
    rows = [now] if before is None else [before, now]
    columns = {name: np.array([getattr(row, name) for row in rows], np.float32) for name in Confidence._fields}
    return float(doubts(columns, np.ones(len(rows), bool))[-1])


def _pieces(
    mask: Bool[np.ndarray, "H W"],
) -> tuple[tuple[int, int, int, int], Int32[np.ndarray, " N"], Float64[np.ndarray, "N 2"]]:
    """Returns the box around a mask, and area and centre (x, y in the box) of each connected piece."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    cut = np.ascontiguousarray(mask[top : top + height, left : left + width].view(np.uint8))
    count, _, stats, centres = cv2.connectedComponentsWithStats(cut, connectivity=8)
    areas: Int32[np.ndarray, " N"] = np.asarray(stats[1:count, cv2.CC_STAT_AREA], np.int32)
    return (left, top, width, height), areas, np.asarray(centres[1:count], np.float64)


def certainty_now(masks: Masks) -> dict[int, Confidence]:
    """Returns the confidence in each object of a frame."""
    return {object_id: appearance_of(masks, object_id).confidence for object_id in masks.object_ids}
