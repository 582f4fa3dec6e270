"""Clips from one annotated frame: its objects move, grow, bend and are hidden before its own background.

After Lucid Data Dreaming (Khoreva et al., IJCV 2019), which trains a network for each video on such pictures.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.clips import ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.appearance import (
    affine_path,
    bend_path,
    log_uniform,
    sensor_effects,
    smooth_path,
    zoom_path,
)
from mnemask.datasets.composite.layers import Layer, Scene, film, pass_in_front
from mnemask.datasets.composite.photographs import CutOut
from mnemask.datasets.copy_paste import cut_out_of
from mnemask.errors import InputError

MAX_TRIES = 50
MAX_ZOOM = 2.0  # between two frames of a clip
HIDDEN = 0.35  # how often something passes in front of an object
STILL = 0.6  # how often only the camera moves
FILL_SIDE = 240  # pixels of the shorter side at which holes are filled


@dataclass(frozen=True, slots=True)
class Part:
    """An object cut out of the frame.

    Attributes:
        pixels: RGB times opacity, and opacity.
        corner: x and y of its upper left corner in the frame.
        box: left, top, width and height of its mask.
        loose: whether it is clear of the frame's border, and so has an outline of its own all around.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    corner: tuple[int, int]
    box: tuple[int, int, int, int]
    loose: bool

    @property
    def middle(self) -> Float[np.ndarray, " 2"]:
        """Middle of the box as x, y."""
        left, top, width, height = self.box
        return np.array([left + width / 2, top + height / 2])


class FirstFrameClips:
    """Endless clips of one frame; a `ClipSource`.

    The first frame of a clip is the frame itself, seen through a crop. In the others the camera has moved, and in some
    clips the objects have too, each on a way of its own, over the background that is filled in behind them; at times a
    piece of the background passes in front. Of more objects than are asked for some are drawn, and the others move
    along unlabelled.

    Args:
        picture: RGB.
        labels: 0 background, 1, 2, … objects, each with at least one pixel.
    """

    def __init__(self, picture: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]) -> None:
        self.picture, self.labels = picture, labels
        self.parts = {label: _part(picture, labels == label) for label in np.unique(labels).tolist() if label}
        if not self.parts:
            raise InputError("no pixel of the frame is labelled", "give the mask of at least one object")
        self.background = fill_in(picture, labels > 0)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone.

        Raises:
            InputError: no crop drawn shows enough of an object.
        """
        for _ in range(MAX_TRIES):
            order = rng.permutation(list(self.parts)).tolist()
            camera = self._camera(rng, self.parts[order[0]], shape)
            frames, labels = self._filmed(rng, camera, order, shape)
            labels, num_objects = keep_visible(_renumbered(labels, order[: shape.max_objects]), shape.max_objects)
            if num_objects:
                return TrainingClip(sensor_effects(rng, frames), labels, num_objects)
        raise InputError(
            f"none of {MAX_TRIES} crops shows an object well enough to train on",
            "expected objects of 8×8 pixels or more, or track them without adapting",
        )

    def _camera(self, rng: np.random.Generator, target: Part, shape: ClipShape) -> Float[np.ndarray, "T 2 3"]:
        """Maps from pixels (x, y) of the frame to those of each square crop, which look towards the target."""
        height, width = self.labels.shape
        near = zoom_path(rng, shape.num_frames, log_uniform(rng, 1.0, MAX_ZOOM))
        side = shape.size / log_uniform(rng, 0.75, 1.25)
        # A crop shows much of a large object, if not all, and no more than there is.
        sides = np.clip(np.maximum(side, 1.2 * max(target.box[2:])) / near, shape.size / 2.5, min(height, width))
        path = smooth_path(rng, shape.num_frames, 3) * log_uniform(rng, 0.01, 0.12)
        middle = target.middle + (rng.uniform(-0.3, 0.3, 2) + path[:, :2]) * sides[:, None]
        middle = np.clip(middle, sides[:, None] / 2, np.array([width, height]) - sides[:, None] / 2)
        mirror = rng.choice([-1, 1])
        scale = shape.size / sides[:, None] * np.array([mirror, 1])
        angle = path[:, 2] * rng.uniform(0, 1)
        maps = affine_path((0.0, 0.0), np.full((shape.num_frames, 2), shape.size / 2), angle, scale, 0 * angle)
        maps[:, :, 2] -= np.einsum("tij,tj->ti", maps[:, :, :2], middle)
        return maps

    def _filmed(
        self, rng: np.random.Generator, camera: Float[np.ndarray, "T 2 3"], order: list[int], shape: ClipShape
    ) -> tuple[list[UInt8[np.ndarray, "S S 3"]], UInt8[np.ndarray, "T S S"]]:
        """Frames and labels; of the objects, later ones in `order` pass before those before them."""
        whole = Scene(self.picture, [self.labels == label for label in sorted(self.parts)], camera, None)
        still = rng.random() < STILL
        scene = whole if still else Scene(self.background, [], camera, None)
        step = log_uniform(rng, 0.03, 0.3)
        layers = [] if still else [self._moving(rng, label, camera, step) for label in reversed(order)]
        if rng.random() < HIDDEN:
            tracks = whole.tracks() if still else [layer.track() for layer in layers]
            piece = _piece(rng, self.background)
            target = tracks[int(rng.integers(len(tracks)))]
            layers.append(pass_in_front(rng, piece, target, shape.size, shape.num_frames))
        first = whole.paint(0, shape.size)
        frames, labels = film(scene, layers, range(1, shape.num_frames), shape.size)
        return [first[0], *frames], np.stack([first[1], *labels])

    def _moving(self, rng: np.random.Generator, label: int, camera: Float[np.ndarray, "T 2 3"], step: float) -> Layer:
        """An object on a way of its own; `step` is how far it goes in a frame, as a share of its size."""
        part, num_frames = self.parts[label], len(camera)
        # What the border of the frame cuts off must not come into the open.
        step *= 1.0 if part.loose else 0.25
        reach = float(np.sqrt(part.box[2] * part.box[3]))
        path = smooth_path(rng, num_frames, 5) * step
        position = part.middle + path[:, :2] * reach
        near = zoom_path(rng, num_frames, log_uniform(rng, 1.0, 1.6))[:, None]
        scale = near * np.exp(path[:, 2:3] * rng.uniform(0, 0.5)) * np.exp(path[:, 3:4] * [[0.15, -0.15]])
        own = affine_path(part.middle.tolist(), position, path[:, 4] * 0.7, scale, 0 * path[:, 4])
        to_frame = _then(own, camera)
        to_frame[:, :, 2] += to_frame[:, :, :2] @ np.array(part.corner, float)
        bend = bend_path(rng, num_frames, reach * log_uniform(rng, 0.004, 0.05)) if rng.random() < 0.7 else None
        light = smooth_path(rng, num_frames, 1)[:, 0] * rng.uniform(0, 0.15)
        smear = np.gradient(to_frame[:, :, 2], axis=0) * (rng.uniform(0, 0.4) if rng.random() < 0.3 else 0.0)
        return Layer(part.pixels, label, to_frame, bend, light, smear)


def fill_in(picture: UInt8[np.ndarray, "H W 3"], hole: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Returns the picture with a hole and its rim filled from around it (Telea 2004), at a low resolution."""
    height, width = hole.shape
    wide = cv2.dilate(hole.astype(np.uint8), np.ones((7, 7), np.uint8))
    scale = min(1.0, FILL_SIDE / min(height, width))
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    small_hole = (cv2.resize(wide, size, interpolation=cv2.INTER_LINEAR_EXACT) > 0).astype(np.uint8)
    small_hole = np.maximum(small_hole, cv2.resize(wide, size, interpolation=cv2.INTER_NEAREST))
    filled = cv2.resize(cv2.inpaint(small, small_hole, 3, cv2.INPAINT_TELEA), (width, height))
    weight = cv2.GaussianBlur(wide.astype(np.float32), (5, 5), 1.0)
    return cv2.blendLinear(filled, np.ascontiguousarray(picture), weight, 1 - weight)


def _part(picture: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"]) -> Part:
    pixels, corner = cut_out_of(picture, mask.astype(np.uint8))
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    edges = (left == 0, top == 0, left + width == mask.shape[1], top + height == mask.shape[0])
    return Part(pixels, corner, (left, top, width, height), not any(edges))


def _piece(rng: np.random.Generator, background: UInt8[np.ndarray, "H W 3"]) -> CutOut:
    """An upright or round piece of the background, to pass in front."""
    height, width = background.shape[:2]
    wide, high = (max(16, int(side * log_uniform(rng, 0.08, 0.5))) for side in (width, height))
    left, top = (int(rng.integers(side - extent + 1)) for side, extent in ((width, wide), (height, high)))
    opacity = np.full((high, wide), 255, np.uint8)
    if rng.random() < 0.5:
        opacity = np.zeros((high, wide), np.uint8)
        cv2.ellipse(opacity, (wide // 2, high // 2), (wide // 2, high // 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    return CutOut(np.dstack((background[top : top + high, left : left + wide], opacity)), "")


def _renumbered(labels: UInt8[np.ndarray, "T S S"], followed: list[int]) -> UInt8[np.ndarray, "T S S"]:
    """Labels in which only the objects to be followed are left."""
    table = np.arange(256, dtype=np.uint8)
    table[[label for label in range(1, 255) if label not in followed]] = 0
    return cv2.LUT(labels.reshape(len(labels), -1), table).reshape(labels.shape)


def _then(first: Float[np.ndarray, "T 2 3"], later: Float[np.ndarray, "T 2 3"]) -> Float[np.ndarray, "T 2 3"]:
    """One map after the other."""
    linear = later[:, :, :2] @ first[:, :, :2]
    offset = np.einsum("tij,tj->ti", later[:, :, :2], first[:, :, 2]) + later[:, :, 2]
    return np.concatenate((linear, offset[:, :, None]), 2)
