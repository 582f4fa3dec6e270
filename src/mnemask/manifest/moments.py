"""The frames of a clip at which to look: where the network was least sure, or a mask leapt or fell to pieces."""

import base64
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mnemask.errors import MnemaskError
from mnemask.io import VideoReader, draw_overlay
from mnemask.io.label_files import read_labels
from mnemask.io.table import TABLE

MOST = 3
"""Moments that are told of a clip."""
APART = 24
"""Frames between two of them at least: neighbours show the same."""
WORTH = 0.1
"""Doubt below which a frame is none."""
_WIDTH = 320
_QUALITY = 78


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame to look at.

    Attributes:
        frame: its number.
        object_id: the object that is doubtful there.
        doubt: from 0 to 1, see `io/table.py`.
        certainty: mean probability of the mask's pixels.
        area: pixels of the mask.
        area_before: in the frame before.
        specks: small pieces of the mask.
        name: of the frame's files.
        picture: JPEG with the masks drawn in, base64; empty where the frame cannot be read again.
    """

    frame: int
    object_id: int
    doubt: float
    certainty: float
    area: int
    area_before: int
    specks: int
    name: str = ""
    picture: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON holds it."""
        return asdict(self)


def moments_of(folder: Path, video: str) -> list[Moment]:
    """Returns the most doubtful moments of a run, the most doubtful first, from the table that it wrote.

    Args:
        folder: of the run.
        video: that it tracked, from which the pictures are taken.
    """
    kept: list[Moment] = []
    for found in _doubtful(folder / TABLE):
        near = [each for each in kept if abs(each.frame - found.frame) < APART]
        if all(each.doubt < found.doubt for each in near):
            rest = [each for each in kept if each not in near]
            kept = sorted([*rest, found], key=lambda each: -each.doubt)[:MOST]
    return [_with_picture(moment, folder, video) for moment in kept]


def _doubtful(table: Path) -> Iterator[Moment]:
    """Yields the frames of a table that are worth a look; the first of an object, whose mask was given, is none."""
    if not table.is_file():
        return
    areas: dict[int, int] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            object_id, area, doubt = int(row["object"]), int(row["area"]), float(row["doubt"])
            before, areas[object_id] = areas.get(object_id), area
            if before is not None and doubt >= WORTH:
                certainty, specks = float(row["certainty"]), int(row["specks"])
                yield Moment(int(row["frame"]), object_id, doubt, certainty, area, before, specks, row["name"])


def _with_picture(moment: Moment, folder: Path, video: str) -> Moment:
    """Returns the moment with its frame; the masks are drawn in where each frame has a file of labels."""
    try:
        with VideoReader(video, start=moment.frame, stop=moment.frame + 1) as reader:
            image = next(iter(reader)).image.permute(1, 2, 0).numpy()
        size = _shown_size((image.shape[0], image.shape[1]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        masks = folder / "masks" / f"{moment.name}.png"
        if masks.is_file():
            labels = cv2.resize(read_labels(masks), size, interpolation=cv2.INTER_NEAREST)
            small = draw_overlay(small, labels.astype(np.int32))
    except (MnemaskError, StopIteration):
        return moment
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return replace(moment, picture=base64.b64encode(jpeg.tobytes()).decode())


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns width and height of the picture of a frame of (height, width)."""
    width = min(_WIDTH, size[1])
    return width, max(1, round(size[0] * width / size[1]))


def most_doubtful(
    by_clip: Mapping[str, Sequence[Mapping[str, Any]]], most: int = 10
) -> list[tuple[str, dict[str, Any]]]:
    """Returns clip and moment of the most doubtful moments of all clips, the most doubtful first."""
    found = [(clip, dict(moment)) for clip, moments in by_clip.items() for moment in moments]
    return sorted(found, key=lambda each: -float(each[1]["doubt"]))[:most]
