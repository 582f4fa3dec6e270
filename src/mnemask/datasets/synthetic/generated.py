"""Common parts of generated video: frames computed from their index alone, at any length, camera and visibility."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Int8, UInt8

from mnemask.datasets.synthetic.shapes import Wave
from mnemask.datasets.synthetic.texture import Rng
from mnemask.errors import InputError
from mnemask.io.pictures import MAX_PIXELS, MAX_SIDE
from mnemask.types import Frame


@dataclass(frozen=True, slots=True)
class Visibility:
    """How much of an object is visible in a frame.

    Attributes:
        visible: visible pixels / pixels that it would have if nothing hid it and the frame had no border, 0 to 1.
        occluded: whether something in front of the object hides at least one of its pixels within the frame.
        in_frame: whether at least one of its pixels, visible or hidden, is within the frame.
    """

    visible: float
    occluded: bool
    in_frame: bool

    @classmethod
    def from_areas(cls, seen: int, inside: int, whole: int) -> "Visibility":
        """Returns the visibility from the number of visible pixels, of pixels within the frame, and of all pixels."""
        assert 0 <= seen <= inside <= whole
        return cls(seen / whole if whole else 0.0, seen < inside, inside > 0)


FRAMES_PER_SECOND = 25

Moment = TypeVar("Moment")


class GeneratedVideo(ABC, Generic[Moment]):
    """A sequence of moments, `video[i]`, each drawn on demand.

    Args:
        num_frames: number of frames.
        size: height and width in pixels, at least 48 each; at most 16384 each, and 67 megapixels.
        num_objects: number of objects, 1 to `max_objects`.
        seed: seed of the scene, 0 or more.

    Raises:
        InputError: a size, length, seed or number of objects is out of range.
    """

    max_objects: int
    camera: "Camera"

    def __init__(self, num_frames: int, size: tuple[int, int], num_objects: int, seed: int) -> None:
        if num_frames < 1:
            raise InputError(f"a video of {num_frames} frames cannot be drawn", "give at least 1")
        if min(size) < 48:
            raise InputError(
                f"a video of {size[1]}x{size[0]} pixels is too small for objects", "give at least 48 a side"
            )
        if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
            raise InputError(
                f"a video of {size[1]}x{size[0]} pixels is too large to draw",
                f"give at most {MAX_SIDE} a side and {MAX_PIXELS // 10**6} megapixels",
            )
        if not 1 <= num_objects <= self.max_objects:
            raise InputError(f"{num_objects} objects cannot be drawn", f"give 1 to {self.max_objects}")
        if seed < 0:
            raise InputError(f"seed {seed} is negative", "give 0 or more")
        self.num_frames, self.size, self.num_objects = num_frames, size, num_objects

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> Moment:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a video of {self.num_frames}")
        return self.draw(index)

    def __iter__(self) -> Iterator[Moment]:
        return (self[index] for index in range(self.num_frames))

    @abstractmethod
    def draw(self, index: int) -> Moment:
        """Returns the moment of a frame; `index` is within the video."""

    def finish(self, picture: UInt8[np.ndarray, "H W 3"], index: int, moment: int) -> Frame:
        """Returns a painted picture as the frame with this index, with the camera's exposure at the moment."""
        lit = self.camera.expose(moment, picture)
        image = torch.from_numpy(np.ascontiguousarray(lit.transpose(2, 0, 1)))
        return Frame(image, index, index / FRAMES_PER_SECOND)


CANVAS = 1.35  # size of the area that the camera can show / size of the frame
GRAIN = 2.2


@dataclass(frozen=True)
class Camera:
    """A camera that moves slowly over a picture larger than the frame.

    Attributes:
        canvas: RGB picture of everything the camera can show.
        size: height and width of the frame.
        pan: offset of the view's centre from the canvas's centre, in pixels, as x, y.
        reach: size of the view / size of the frame.
        exposure: logarithm of the brightness factor.
        grain: sensor noise, larger than the frame; each frame uses a different part of it.
    """

    canvas: UInt8[np.ndarray, "Y X 3"]
    size: tuple[int, int]
    pan: tuple[Wave, Wave]
    reach: Wave
    exposure: Wave
    grain: Int8[np.ndarray, "y x 3"]

    @classmethod
    def random(
        cls, rng: Rng, canvas: UInt8[np.ndarray, "Y X 3"], size: tuple[int, int], steady_light: bool = False
    ) -> "Camera":
        """Returns a random camera that never moves past the border of a canvas of `CANVAS` times the frame's size."""
        height, width = size
        margin = (CANVAS - 1) / 2
        pan = (Wave.random(rng, 0.0, 0.6 * margin * width, 600), Wave.random(rng, 0.0, 0.6 * margin * height, 600))
        reach = Wave.random(rng, 1.0, 0.06, 450)
        exposure = Wave(0.0) if steady_light else Wave.random(rng, -0.05, 0.15, 400)
        grain = np.round(rng.normal(0, GRAIN, (height + 63, width + 63, 3))).astype(np.int8)
        return cls(canvas, size, pan, reach, exposure, grain)

    def look(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the part of the canvas in view."""
        height, width = self.size
        reach = self.reach(index)
        left, top = (
            (canvas - reach * side) / 2 + pan(index)
            for canvas, side, pan in zip(self.canvas.shape[1::-1], (width, height), self.pan, strict=True)
        )
        view = np.array([[reach, 0, left], [0, reach, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(self.canvas, view, (width, height), flags=flags), np.uint8)

    def expose(self, index: int, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the picture with the exposure at this index and grain."""
        height, width = self.size
        y, x = np.random.default_rng(index).integers(0, 64, 2)
        lit = cv2.convertScaleAbs(picture, alpha=float(np.exp(self.exposure(index))))
        return cv2.add(lit, self.grain[y : y + height, x : x + width], dtype=cv2.CV_8U)
