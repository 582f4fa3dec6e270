"""The frames of a clip at which to look: where the network was least sure, or a mask leapt or fell to pieces."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from mnemask.errors import MnemaskError
from mnemask.io import VideoReader, draw_overlay
from mnemask.io.doubt import Confidence, certainty_now, doubt_between
from mnemask.types import Masks

MOST = 3
"""Moments that are kept of a clip."""
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
        doubt: from 0 to 1, see `io/doubt.py`.
        certainty: mean probability of the mask's pixels.
        area: pixels of the mask.
        area_before: in the frame before.
        specks: small pieces of the mask.
        picture: JPEG with the masks drawn in, base64; empty where the frame could not be read again.
    """

    frame: int
    object_id: int
    doubt: float
    certainty: float
    area: int
    area_before: int
    specks: int
    picture: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON holds it."""
        return asdict(self)


class MomentWatch:
    """Keeps the most doubtful moments of a clip while it is tracked, in memory that does not grow with it.

    Attributes:
        first: the number of the first frame that it has looked at; None before.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self._before: Mapping[int, Confidence] = {}
        self._kept: list[tuple[Moment, UInt16[np.ndarray, "H W"]]] = []

    def add(self, masks: Masks) -> None:
        """Looks at the next frame."""
        self.first = masks.index if self.first is None else self.first
        now = certainty_now(masks)
        for object_id, confidence in now.items():
            before = self._before.get(object_id)
            if before is None:
                continue  # its mask was given
            doubt = doubt_between(before, confidence)
            if doubt >= WORTH:
                certainty, area, specks, _ = confidence
                found = Moment(masks.index, object_id, round(doubt, 4), round(certainty, 4), area, before.area, specks)
                self._keep(found, masks)
        self._before = now

    def moments(self, video: str) -> list[Moment]:
        """Returns what was kept, most doubtful first, with a picture of each where the video gives the frame again."""
        return [_with_picture(moment, labels, video) for moment, labels in self._kept]

    def _keep(self, found: Moment, masks: Masks) -> None:
        near = [kept for kept in self._kept if abs(kept[0].frame - found.frame) < APART]
        if any(kept[0].doubt >= found.doubt for kept in near):
            return
        rest = [kept for kept in self._kept if all(kept is not each for each in near)]
        if len(rest) == MOST and rest[-1][0].doubt >= found.doubt:
            return
        labels = masks.labels.cpu().numpy().astype(np.uint16)
        size = _shown_size((labels.shape[0], labels.shape[1]))
        small = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        self._kept = sorted([*rest, (found, small)], key=lambda kept: -kept[0].doubt)[:MOST]


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Returns width and height of the picture of a frame of (height, width)."""
    width = min(_WIDTH, size[1])
    return width, max(1, round(size[0] * width / size[1]))


def _with_picture(moment: Moment, labels: UInt16[np.ndarray, "H W"], video: str) -> Moment:
    try:
        with VideoReader(video, start=moment.frame, stop=moment.frame + 1) as reader:
            image = next(iter(reader)).image.permute(1, 2, 0).numpy()
    except (MnemaskError, StopIteration):
        return moment
    small = cv2.resize(image, (labels.shape[1], labels.shape[0]), interpolation=cv2.INTER_AREA)
    drawn: UInt8[np.ndarray, "H W 3"] = draw_overlay(small, labels.astype(np.int32))
    jpeg = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    fields = {**asdict(moment), "picture": base64.b64encode(jpeg.tobytes()).decode()}
    return Moment(**fields)


def most_doubtful(
    by_clip: Mapping[str, Sequence[Mapping[str, Any]]], most: int = 10
) -> list[tuple[str, dict[str, Any]]]:
    """Returns clip and moment of the most doubtful moments of all clips, the most doubtful first."""
    found = [(clip, dict(moment)) for clip, moments in by_clip.items() for moment in moments]
    return sorted(found, key=lambda each: -float(each[1]["doubt"]))[:most]
