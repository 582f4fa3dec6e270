"""Where to look: a row for each frame and object, and the frames in which an object is lost or doubtful."""

import base64
import csv
import io
import shutil
import zlib
from collections.abc import Sequence
from contextlib import closing
from math import hypot
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int32

from mnemask.io.atomic import (
    ResumeState,
    TextJournal,
    Writing,
    make_durable,
    partial_file,
    target_file,
    temporary_file,
)
from mnemask.io.doubt import DOUBTFUL, Appearance, Confidence, appearance_of, doubt_between
from mnemask.io.image_formats import name_of
from mnemask.types import Frame, Masks, ObjectInfo

TABLE = "table.csv"
COLUMNS = (
    *("frame", "name", "seconds", "object", "class", "instance"),
    *("certainty", "area", "centre_x", "centre_y", "left", "top", "width", "height", "specks", "apart"),
    *("moved", "growth", "iou", "doubt"),
)
_JOIN = 5  # frames between two stretches that are told as one
_MOST = 100  # stretches that are told, of each kind and object: a run of any length takes no more memory

Labels = Int32[np.ndarray, "H W"]


class ObjectTable:
    """OUT/table.csv: a row for each object in each frame, as long as it is tracked.

    ======================== ========================================================================================
    column                   what
    ======================== ========================================================================================
    frame, name, seconds     the frame: its number from 0, the name of its files, its time (empty if it has none)
    object, class, instance  the object's id and what it is called
    certainty                mean probability of the pixels of the mask, 0 to 1
    area                     pixels; 0 where the object is not seen, and what says where it is stays empty
    centre_x, centre_y       the centre of mass, in pixels
    left, top, width, height the box around the mask, in pixels
    specks, apart            pieces that are small beside the largest; share of the area outside the largest
    moved, growth, iou       since the frame before: of the centre in pixels, of the area as a factor, of the masks
    doubt                    0 to 1, of all these, as the studio's timeline shows it
    ======================== ========================================================================================

    What was written so far is whole lines at any time, in a run that is killed too.
    """

    stretch = 1
    single_file: ClassVar[str | None] = TABLE
    per_object: ClassVar[bool] = True
    bytes_per_pixel: ClassVar[float] = 1 / 10_000

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
        self._labels = _unpacked(begun["labels"]) if begun.get("labels") else None
        self._looks = {int(i): _Look(**each) for i, each in begun.get("looks", {}).items()}

    def write(self, masks: Masks, frame: Frame | None) -> None:
        """Writes the rows of one frame."""
        seconds = "" if frame is None or frame.seconds is None else f"{frame.seconds:.6f}"
        labels = masks.labels.cpu().numpy()
        with torch.no_grad():
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
        # Opened each time: a disk with a file that is open for writing could not be made read-only.
        with self._path.open("ab") as file:
            file.write(data)
        self._length += len(data)

    def _changes(self, object_id: int, before: Appearance | None, now: Appearance, labels: Labels) -> list[str]:
        """Returns how far the centre moved, the factor of the area, and the IoU of the masks; empty where unknown."""
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
        """Returns, by id, how many frames an object was tracked and seen, where it is lost or doubtful, and words."""
        return {object_id: look.told() for object_id, look in self._looks.items()}

    def resume_state(self) -> ResumeState:
        """Returns the length of the rows, and what the next ones are compared with."""
        return {
            "length": self._length,
            "before": {str(i): [list(each.confidence), each.centre, each.box] for i, each in self._before.items()},
            "labels": None if self._labels is None else _packed(self._labels),
            "looks": {str(i): look.to_dict() for i, look in self._looks.items()},
        }

    def sync(self) -> None:
        """Makes the rows so far durable."""
        make_durable(self._path)

    def finish(self, *, complete: bool) -> None:
        """Gives the rows their name: table.csv if complete, else table.partial.csv."""
        if self._path == partial_file(self._target) and not complete:
            return  # it has that name
        partial = temporary_file(self._target)
        try:
            shutil.copyfile(self._path, partial)
            self._how.finish(partial, self._target, complete=complete)
        finally:
            partial.unlink(missing_ok=True)
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
        """Takes the next frame of the object."""
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
        """Returns it as JSON holds it."""
        return {
            "frames": self._frames,
            "seen": self._seen,
            "lost": self._lost,
            "doubtful": self._doubtful,
            "untold": self._untold,
        }

    def told(self) -> dict[str, Any]:
        """Returns it for a report, with a sentence."""
        parts = [
            f"{word} {_spans(runs)}" for word, runs in (("lost", self._lost), ("doubtful", self._doubtful)) if runs
        ]
        more = [f"and {self._untold} frames more"] if self._untold else []
        return {**self.to_dict(), "look": "; ".join([*parts, *more])}


def _spans(runs: Sequence[Sequence[int]]) -> str:
    """Returns stretches of frames as people say them."""
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


def _packed(labels: Labels) -> list[Any]:
    """Returns a label map as JSON holds it: height, width and the compressed ids."""
    return [*labels.shape, base64.b64encode(zlib.compress(labels.astype(np.uint16).tobytes(), 1)).decode("ascii")]


def _unpacked(saved: Sequence[Any]) -> Labels:
    height, width, data = saved
    return np.frombuffer(zlib.decompress(base64.b64decode(data)), np.uint16).reshape(height, width).astype(np.int32)
