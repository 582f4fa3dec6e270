"""A video drawn in code, with exact masks and as long as you like: soft animals that cross each other's way."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mnemask.datasets.drawn_bodies import REACH, Body, Wave, draw_bodies
from mnemask.datasets.drawn_ground import draw_ground
from mnemask.errors import InputError
from mnemask.types import Frame

FRAMES_PER_SECOND = 25
MAX_OBJECTS = 8
CANVAS = 1.35  # of the frame's size: what the camera can look at
GRAIN = 2.2


class DrawnVideo:
    """Frames and their exact masks, `video[i]`, each computed from its number alone: nothing is stored or downloaded.

    In frame 0 every object is whole and none touches another; soon they meet. Object `k` hides those before it.

    Example:
        >>> video = DrawnVideo(10_000, size=(96, 160), num_objects=3)
        >>> frame, labels = video[9_999]
        >>> frame.image.shape, labels.shape
        (torch.Size([3, 96, 160]), torch.Size([96, 160]))

    Args:
        num_frames: the length.
        size: height and width, at least 48 each.
        num_objects: 1 to 8, with ids from 1.
        seed: another seed, another scene.
        occlusion: whether objects hide each other and leave the picture; without, each keeps to its own part of it.
        lookalikes: whether objects 1 and 2, 3 and 4, ... have the same coat.

    Raises:
        InputError: a size, length or number of objects that cannot be drawn.
    """

    def __init__(
        self,
        num_frames: int,
        size: tuple[int, int] = (480, 854),
        num_objects: int = 2,
        seed: int = 0,
        *,
        occlusion: bool = True,
        lookalikes: bool = False,
    ) -> None:
        if num_frames < 1:
            raise InputError(f"a video of {num_frames} frames cannot be drawn; give at least 1")
        if min(size) < 48:
            raise InputError(f"a video of {size[1]}x{size[0]} pixels is too small for objects; give at least 48 a side")
        if not 1 <= num_objects <= MAX_OBJECTS:
            raise InputError(f"{num_objects} objects cannot be drawn; give 1 to {MAX_OBJECTS}")
        self.num_frames, self.size, self.num_objects = num_frames, size, num_objects
        rng = np.random.default_rng(seed)
        height, width = size
        self._ground = draw_ground(rng, (round(CANVAS * height), round(CANVAS * width)), height)
        margin = (CANVAS - 1) / 2
        self._pan = [Wave.drawn(rng, 0, 0.6 * margin * side, 600) for side in (width, height)]
        self._zoom = Wave.drawn(rng, 1, 0.06, 450)
        tile = rng.normal(0, GRAIN, (height + 63, width + 63, 3))
        self._grain = np.round(tile).astype(np.int8)
        self._bodies = draw_bodies(rng, size, num_objects, self._ground, occlusion=occlusion, lookalikes=lookalikes)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> tuple[Frame, UInt8[Tensor, "H W"]]:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a video of {self.num_frames}")
        picture, labels = self._look_at_ground(index), np.zeros(self.size, np.uint8)
        for object_id, body in enumerate(self._bodies, 1):
            paint(body, index, picture, labels, object_id)
        y, x = np.random.default_rng(index).integers(0, 64, 2)
        height, width = self.size
        picture = cv2.add(picture, self._grain[y : y + height, x : x + width], dtype=cv2.CV_8U)
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return Frame(image, index, index / FRAMES_PER_SECOND), torch.from_numpy(labels)

    def __iter__(self) -> Iterator[tuple[Frame, UInt8[Tensor, "H W"]]]:
        return (self[index] for index in range(self.num_frames))

    def visible(self, index: int) -> tuple[int, ...]:
        """Returns the ids of the objects of which at least a pixel can be seen."""
        return tuple(int(i) for i in self[index][1].unique() if i)

    def _look_at_ground(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        height, width = self.size
        zoom, (canvas_height, canvas_width) = self._zoom(index), self._ground.shape[:2]
        left, top = (
            (canvas_width - width / zoom) / 2 + self._pan[0](index),
            (canvas_height - height / zoom) / 2 + self._pan[1](index),
        )
        view = np.array([[1 / zoom, 0, left], [0, 1 / zoom, top]])
        return cv2.warpAffine(
            self._ground,
            view,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )


def paint(
    body: Body, index: int, picture: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], object_id: int
) -> None:
    """Draws a body with its light and shadow into the picture and its id into the labels."""
    pose = body.pose(index)
    curves = [curve @ pose[:, :2].T + pose[:, 2] for curve in body.local_outline(index)]
    margin = math.ceil(0.35 * body.radius)
    left, top = np.floor(curves[0].min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(curves[0].max(axis=0)).astype(int) + margin + 1
    height, width = labels.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if x0 >= x1 or y0 >= y1:
        return
    cover = np.zeros((bottom - top, right - left), np.uint8)
    points = [np.round(16 * (curve - (left, top))).astype(np.int32) for curve in curves]
    cv2.fillPoly(cover, points, 255, cv2.LINE_AA, 4)
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    shadow = cast_shadow(cover, body.radius)[inside]
    light = round_light(cover, body.radius)[inside]
    # From pixels of the coat to radii, to the frame, to this window.
    side = len(body.coat)
    to_radii = np.array([[2 * REACH / side, 0, -REACH], [0, 2 * REACH / side, -REACH], [0, 0, 1]])
    to_window = pose @ to_radii - np.array([[0, 0, left], [0, 0, top]])
    coat = cv2.warpAffine(body.coat, to_window, cover.shape[::-1], borderMode=cv2.BORDER_REPLICATE)[inside]
    cover = cover[inside]
    alpha = (cover * np.float32(1 / 255))[..., None]
    window = picture[y0:y1, x0:x1]
    below = window * shadow[..., None]
    below += alpha * (coat * light[..., None] - below)
    window[:] = np.clip(below, 0, 255)
    labels[y0:y1, x0:x1][cover > 127] = object_id


def cast_shadow(cover: UInt8[np.ndarray, "H W"], radius: float) -> Float[np.ndarray, "H W"]:
    """Returns how much light reaches the ground around a body, 0 to 1."""
    size = cover.shape[::-1]
    small = cv2.resize(cover, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.02 * radius))
    away = 0.13 * radius
    shift = np.array([[4, 0, away + 1.5], [0, 4, away + 1.5]])
    return 1 - np.float32(0.55 / 255) * cv2.warpAffine(small, shift, size)


def round_light(cover: UInt8[np.ndarray, "H W"], radius: float) -> Float[np.ndarray, "H W"]:
    """Returns the brightness of a cushion of this outline, about 1, lit from the upper left."""
    small = cv2.resize(cover, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    inside = cv2.copyMakeBorder((small > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = 0.3 * radius
    rim = 1 - np.minimum(cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1] / depth, 1)
    height = cv2.GaussianBlur(depth * np.sqrt(1 - rim * rim), (0, 0), max(0.6, 0.05 * radius))
    dx, dy = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    facing = (0.5 * dx + 0.55 * dy + 0.66) / np.sqrt(1 + dx * dx + dy * dy)
    return cv2.resize(0.42 + 0.88 * facing, cover.shape[::-1])
