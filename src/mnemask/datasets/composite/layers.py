"""The parts of a composed clip: a scene, cut-outs that move in front of it, and the motion of the camera and things."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from mnemask.datasets.composite.appearance import (
    affine_path,
    bend_path,
    log_uniform,
    motion_blur,
    smooth_path,
    zoom_path,
)
from mnemask.datasets.composite.photographs import CutOut
from mnemask.datasets.composite.turning import turning
from mnemask.metrics import VOID

MOST_SEE_THROUGH = 120  # maximum opacity of a cloud; what is behind it is still labelled
MOST_COVERED = 0.7  # of a frame, by something that comes closer


@dataclass(frozen=True, slots=True)
class Track:
    """An object's centre (x, y) in each frame and its approximate radius, in pixels."""

    centre: Float[np.ndarray, "T 2"]
    radius: float


@dataclass(frozen=True, slots=True)
class Layer:
    """One cut-out and its motion.

    Attributes:
        pixels: RGB times opacity, and opacity; premultiplied so that no colour from outside the object bleeds in when
            pixels are interpolated.
        label: the object's label, 0 for a thing that is not followed.
        to_frame: maps from pixels of the cut-out (x, y) to pixels of the frame.
        bend: grid of displacements spread over the cut-out, in its pixels; None for a rigid thing.
        light: logarithm of the brightness factor in each frame, 0 for unchanged.
        smear: motion blur in each frame, in pixels (x, y).
        shadow: darkness of the shadow, 0 to 1, and its offset in pixels (x, y).
        views: pixels shown in each frame instead of `pixels`, if the appearance changes.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    label: int
    to_frame: Float[np.ndarray, "T 2 3"]
    bend: Float[np.ndarray, "T g g 2"] | None
    light: Float[np.ndarray, " T"]
    smear: Float[np.ndarray, "T 2"]
    shadow: tuple[float, float, float] = (0.0, 0.0, 0.0)
    views: UInt8[np.ndarray, "T h w 4"] | None = None

    def paint(self, t: int, frame: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]) -> None:
        """Draws the layer onto frame `t` and its labels, in place; pixels with opacity above 127 are labelled."""
        left, top, right, bottom = self._box(t)
        left, right = np.clip((left, right), 0, frame.shape[1]).tolist()
        top, bottom = np.clip((top, bottom), 0, frame.shape[0]).tolist()
        if right <= left or bottom <= top:
            return
        warped = self._warped(t, (left, top, right, bottom))
        alpha = np.ascontiguousarray(warped[..., 3])
        if self.shadow[0]:
            _darken(frame, alpha, left, top, self.shadow)
        colours = cv2.convertScaleAbs(warped[..., :3], alpha=float(np.exp(self.light[t])))
        weight = alpha.astype(np.float32) * np.float32(1 / 255)
        region = np.ascontiguousarray(frame[top:bottom, left:right])
        behind = cv2.blendLinear(np.zeros_like(region), region, weight, 1 - weight)
        frame[top:bottom, left:right] = cv2.add(behind, colours)
        labels[top:bottom, left:right][alpha > 127] = self.label

    def at(self, t: int) -> "Layer":
        """Returns the layer with only frame `t`, as its frame 0."""
        one = slice(t, t + 1)
        bend = None if self.bend is None else self.bend[one]
        views = None if self.views is None else self.views[one]
        return replace(
            self,
            to_frame=self.to_frame[one],
            bend=bend,
            light=self.light[one],
            smear=self.smear[one],
            views=views,
        )

    def area(self, t: int) -> int:
        """Returns the number of the layer's pixels in frame `t`, including those outside its borders."""
        return int(np.count_nonzero(self._warped(t, self._box(t))[..., 3] > 127))

    def track(self) -> Track:
        """Returns the cut-out's position in each frame."""
        height, width = self.pixels.shape[:2]
        radius = np.sqrt(height * width * np.abs(np.linalg.det(self.to_frame[:, :, :2]))) / 2
        return Track(self.to_frame @ np.array([width / 2, height / 2, 1.0]), float(radius.mean()))

    def _warped(self, t: int, box: tuple[int, int, int, int]) -> UInt8[np.ndarray, "b w 4"]:
        pixels = self.pixels if self.views is None else self.views[t]
        warped = cv2.remap(pixels, *self._sources(t, box), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return motion_blur(warped, *self.smear[t].tolist())

    def _box(self, t: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the area that the layer can cover, including outside the frame."""
        height, width = self.pixels.shape[:2]
        spread = 0.0 if self.bend is None else float(np.abs(self.bend[t]).max())
        x = np.array([-spread, width + spread, -spread, width + spread])
        y = np.array([-spread, -spread, height + spread, height + spread])
        corners = self.to_frame[t] @ np.stack((x, y, np.ones(4)))
        margin = 1 + np.abs(self.smear[t]).max()
        left, top = np.floor(corners.min(1) - margin).astype(int).tolist()
        right, bottom = np.ceil(corners.max(1) + margin).astype(int).tolist()
        return left, top, right, bottom

    def _sources(
        self, t: int, box: tuple[int, int, int, int]
    ) -> tuple[Float[np.ndarray, "b w"], Float[np.ndarray, "b w"]]:
        """The position in the cut-out that each pixel of the box shows."""
        x, y = sources(self.to_frame[t], box)
        if self.bend is None:
            return x, y
        height, width = self.pixels.shape[:2]
        cells = self.bend.shape[1]
        at = (x * ((cells - 1) / width), y * ((cells - 1) / height))
        moved = cv2.remap(self.bend[t], *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return x + moved[..., 0], y + moved[..., 1]


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph that fills the frame, and the motion of the camera over it.

    Attributes:
        image: RGB picture.
        masks: masks of objects 1, 2, … of the photograph to follow; may be empty.
        to_frame: maps from pixels of the photograph (x, y) to pixels of the frame.
        bend: grid of displacements spread over the frame, in pixels of the photograph; None for a rigid scene.
    """

    image: UInt8[np.ndarray, "h w 3"]
    masks: list[Bool[np.ndarray, "h w"]]
    to_frame: Float[np.ndarray, "T 2 3"]
    bend: Float[np.ndarray, "T g g 2"] | None

    def tracks(self) -> list[Track]:
        """Returns the position of each of the scene's objects in each frame."""
        tracks = []
        for mask in self.masks:
            ys, xs = np.nonzero(mask)
            radius = np.sqrt(len(xs) * np.abs(np.linalg.det(self.to_frame[:, :, :2]))) * 0.6
            tracks.append(Track(self.to_frame @ np.array([xs.mean(), ys.mean(), 1.0]), float(radius.mean())))
        return tracks

    def paint(self, t: int, size: int) -> tuple[UInt8[np.ndarray, "S S 3"], UInt8[np.ndarray, "S S"]]:
        """Returns frame `t` and its labels; beyond its border the photograph is mirrored, and objects are 255."""
        x, y = sources(self.to_frame[t], (0, 0, size, size))
        if self.bend is not None:
            x += cv2.resize(self.bend[t, ..., 0], (size, size), interpolation=cv2.INTER_LINEAR)
            y += cv2.resize(self.bend[t, ..., 1], (size, size), interpolation=cv2.INTER_LINEAR)
        frame = cv2.remap(self.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        labels = np.zeros((size, size), np.uint8)
        for label, mask in enumerate(self.masks, 1):
            # Softened first, since the staircase edges of a small mask would be enlarged with it.
            soft = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (3, 3), 0.8)
            shown = cv2.remap(soft, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            labels[shown > 127] = label
        if self.masks:
            # A mirrored object is neither the object nor background to learn from.
            height, width = self.image.shape[:2]
            beyond = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
            labels[beyond & (labels > 0)] = VOID
        return frame, labels


def render_clip(
    scene: Scene, layers: Sequence[Layer], times: Iterable[int], size: int
) -> tuple[list[UInt8[np.ndarray, "S S 3"]], list[UInt8[np.ndarray, "S S"]]]:
    """Returns frames and labels of a scene with layers in front of it, the last layer foremost."""
    frames, labels = [], []
    for t in times:
        frame, label = scene.paint(t, size)
        for layer in layers:
            layer.paint(t, frame, label)
        frames.append(frame)
        labels.append(label)
    return frames, labels


def sources(
    to_frame: Float[np.ndarray, "2 3"], box: tuple[int, int, int, int]
) -> tuple[Float[np.ndarray, "b w"], Float[np.ndarray, "b w"]]:
    """Returns the x and y that the map takes to each pixel of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    back = cv2.invertAffineTransform(to_frame).astype(np.float32)
    xs = np.arange(left, right, dtype=np.float32)
    ys = np.arange(top, bottom, dtype=np.float32)[:, None]
    return back[0, 0] * xs + (back[0, 1] * ys + back[0, 2]), back[1, 0] * xs + (back[1, 1] * ys + back[1, 2])


def _darken(
    frame: UInt8[np.ndarray, "H W 3"],
    alpha: UInt8[np.ndarray, "b w"],
    left: int,
    top: int,
    shadow: tuple[float, float, float],
) -> None:
    """Draws a soft, dark, shifted copy of the shape onto the frame."""
    height, width = frame.shape[:2]
    darkness, dx, dy = shadow[0], round(shadow[1]), round(shadow[2])
    x0, y0 = max(0, left + dx), max(0, top + dy)
    x1, y1 = min(width, left + dx + alpha.shape[1]), min(height, top + dy + alpha.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    shape = cv2.blur(alpha, (9, 9))[y0 - top - dy : y1 - top - dy, x0 - left - dx : x1 - left - dx]
    kept = 1 - shape.astype(np.float32) * np.float32(darkness / 255)
    region = frame[y0:y1, x0:x1]
    region[:] = cv2.multiply(np.ascontiguousarray(region), cv2.merge((kept, kept, kept)), dtype=cv2.CV_8U)


def render_scene(
    rng: np.random.Generator,
    image: UInt8[np.ndarray, "h w 3"],
    masks: list[Bool[np.ndarray, "h w"]],
    size: int,
    num_frames: int,
    step: float,
    most: float = 1.0,
) -> Scene:
    """Returns the photograph seen by a camera that moves by `step` (fraction of the frame) from frame to frame.

    The scale changes by a factor of up to `most`. With masks, the first view shows their objects, which cover 1.5 to
    50 % of it if the photograph's size allows.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    bounds = np.array([width, height], float)
    zoom, middle = log_uniform(rng, 1.0, 2.0), rng.random(2) * bounds
    if masks:
        ys, xs = np.nonzero(np.logical_or.reduce(masks))
        zoom = float(np.clip(shorter * np.sqrt(log_uniform(rng, 0.015, 0.5) / len(xs)), 1.0, 3.5))
        pick = int(rng.integers(len(xs)))
        at_pixel, at_mean = np.array([xs[pick], ys[pick]]), np.array([xs.mean(), ys.mean()])
        middle = at_mean + rng.uniform(0, 0.7) * (at_pixel - at_mean) + rng.uniform(-0.25, 0.25, 2) * shorter / zoom
    near = zoom_path(rng, num_frames, most)
    # Even the widest view stays within the photograph.
    side = min(shorter / zoom, shorter * float(near.min()))
    low = np.minimum(side / near.min() / 2, bounds / 2)
    middle = np.clip(middle, low, bounds - low)
    path = smooth_path(rng, num_frames, 6) * step
    aspect = np.exp(rng.normal(0, 0.06) + path[:, 5] * 0.3)
    grow = np.exp(path[:, 2] * rng.uniform(0, 1)) * near * size / side
    scale = np.stack((grow * aspect * rng.choice([-1, 1]), grow / aspect), -1)
    angle = rng.normal(0, 0.12) + path[:, 3] * rng.uniform(0, 2)
    position = size * (0.5 + path[:, :2] * (0.6 if masks else 1.0))
    bend = None
    if rng.random() < (0.7 if masks else 0.25):
        bend = bend_path(rng, num_frames, side * min(0.05, 0.004 + step * rng.uniform(0, 0.4)))
    return Scene(image, masks, affine_path(middle.tolist(), position, angle, scale, path[:, 4] * 0.5), bend)


def move(
    rng: np.random.Generator,
    cut_out: CutOut,
    label: int,
    size: int,
    num_frames: int,
    step: float,
    leave: float = 0.0,
    most: float = 1.0,
    turned: float = 0.0,
) -> Layer:
    """Returns the cut-out on a smooth random path, rotating, growing and bending on the way.

    In the first frame it covers 0.8 to 45 % of the frame if its resolution allows. `step` is the motion from frame to
    frame as a fraction of the frame, `leave` the probability that it is out of the picture for a frame after the first,
    `most` the maximum factor by which it grows or shrinks, `turned` the probability that it shows its sides
    (`turning`); `label` is 0 if it is not followed.
    """
    near, share = zoom_path(rng, num_frames, most), log_uniform(rng, 0.008, 0.45)
    # Limits growth, so that nothing covers the whole frame.
    near = np.minimum(near, max(1.0, float(np.sqrt(MOST_COVERED / share))))
    pixels, grow = fit(cut_out, size, share, float(near.max()))
    views = None
    if turned > 0 and rng.random() < turned:
        views, smaller = turning(rng, pixels, num_frames)
        pixels, grow = views[0], grow / smaller
    step *= log_uniform(rng, 0.4, 1.5)
    path = smooth_path(rng, num_frames, 5) * step
    position = size * _folded(rng.uniform(0.12, 0.88, 2) + path[:, :2])
    if rng.random() < leave:
        _leave(rng, position, size, grow * max(pixels.shape) * 0.6)
    scale = grow * near * np.exp(path[:, 2] * rng.uniform(0, 1.2))
    aspect = np.exp(rng.normal(0, 0.08))
    stretch = np.stack((scale * aspect * rng.choice([-1, 1]), scale / aspect), -1)
    angle = rng.normal(0, 0.25) + path[:, 3] * rng.uniform(0, 3)
    middle = (pixels.shape[1] / 2, pixels.shape[0] / 2)
    to_frame = affine_path(middle, position, angle, stretch, path[:, 4] * 0.5)
    bend = None
    if rng.random() < 0.8:
        reach = float(np.sqrt(pixels.shape[0] * pixels.shape[1]))
        bend = bend_path(rng, num_frames, reach * min(0.055, 0.008 + step * rng.uniform(0, 0.6)))
    light = smooth_path(rng, num_frames, 1)[:, 0] * (rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0)
    smear = np.gradient(position, axis=0) * (rng.uniform(0.1, 0.4) if rng.random() < 0.25 else 0.0)
    shadow = (0.0, 0.0, 0.0)
    if rng.random() < 0.2:
        shadow = (rng.uniform(0.2, 0.7), *(rng.uniform(-0.1, 0.1, 2) * grow * max(pixels.shape)).tolist())
    return Layer(pixels, label, to_frame, bend, light, smear, shadow, views)


def spray(rng: np.random.Generator, target: Track) -> Layer:
    """Returns the dust, smoke or water that an object throws up: translucent, a different cloud in each frame."""
    num_frames, side = len(target.centre), 96
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    round_off = np.clip(1 - ramp[:, None] ** 2 - ramp**2, 0, 1) ** 0.5
    thickness = rng.uniform(60, MOST_SEE_THROUGH)
    colour = rng.uniform(70, 250) + rng.normal(0, 12, 3) + np.array([1, 0, -1]) * rng.uniform(0, 30)
    views = np.zeros((num_frames, side, side, 4), np.uint8)
    for view in views:
        cloud = sum(
            cv2.resize(rng.random((n, n), np.float32), (side, side), interpolation=cv2.INTER_CUBIC) for n in (4, 9, 20)
        )
        opacity = np.clip((cloud - 1.1) * 1.5, 0, 1) * round_off * thickness
        view[..., 3] = opacity
        view[..., :3] = np.clip(colour, 0, 255) * (opacity / 255)[..., None]
    motion = np.gradient(target.centre, axis=0)
    behind = -motion / (np.linalg.norm(motion, axis=1, keepdims=True) + 1e-3) * target.radius * rng.uniform(0, 1.2)
    behind[:, 1] += target.radius * rng.uniform(0, 0.6)
    scale = target.radius * 2 / side * np.exp(rng.normal(0, 0.4) + smooth_path(rng, num_frames, 2) * 0.2)
    still = np.zeros(num_frames)
    to_frame = affine_path((side / 2, side / 2), target.centre + behind, still, scale, still)
    return Layer(views[0], 0, to_frame, None, still, np.zeros((num_frames, 2)), views=views)


def pass_in_front(rng: np.random.Generator, cut_out: CutOut, target: Track, size: int, num_frames: int) -> Layer:
    """Returns the cut-out crossing the target's path: next to it in the first frame, in front of it in a later one."""
    share = (2 * target.radius / size) ** 2 * log_uniform(rng, 0.4, 2.0)
    pixels, grow = fit(cut_out, size, min(share, 0.5))
    height, width = pixels.shape[:2]
    tilt = rng.uniform(-0.4, 0.4)
    direction = np.array([np.cos(tilt), np.sin(tilt)]) * rng.choice([-1, 1])
    meeting = int(rng.integers(1, num_frames))
    gap = (target.radius + grow * width / 2) * rng.uniform(1.0, 1.6)
    away = (np.arange(num_frames) - meeting)[:, None] * direction * gap
    position = target.centre + away + rng.normal(0, 0.15, 2) * target.radius
    scale = np.full((num_frames, 2), grow)
    angle = np.full(num_frames, rng.normal(0, 0.15))
    to_frame = affine_path((width / 2, height / 2), position, angle, scale, np.zeros(num_frames))
    return Layer(pixels, 0, to_frame, None, np.zeros(num_frames), np.zeros((num_frames, 2)))


def fit(cut_out: CutOut, size: int, share: float, most: float = 1.0) -> tuple[UInt8[np.ndarray, "h w 4"], float]:
    """Returns the cut-out's pixels, colours times opacity, and the scale at which they cover `share` of a frame.

    A scale above 3 would only show pixels and is not used; a scale far below 1 would alias, so the pixels are
    downscaled first, but keep the resolution needed to show the cut-out `most` times as large.
    """
    red, green, blue, opacity = cv2.split(cut_out.pixels)
    pixels = cv2.merge([*(cv2.multiply(c, opacity, scale=1 / 255) for c in (red, green, blue)), opacity])
    grow = min(3.0, size * float(np.sqrt(share / max(1, cut_out.area))), 1.5 * size / max(pixels.shape))
    if grow * most < 0.75:
        small = (max(4, round(pixels.shape[1] * grow * most)), max(4, round(pixels.shape[0] * grow * most)))
        return cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), 1.0 / most
    return pixels, grow


def _folded(position: Float[np.ndarray, "T 2"]) -> Float[np.ndarray, "T 2"]:
    """Positions (0 to 1 is the frame), reflected slightly inside the border."""
    low, high = 0.03, 0.97
    phase = np.mod((position - low) / (high - low), 2)
    return np.asarray(low + (high - low) * (1 - np.abs(1 - phase)))


def _leave(rng: np.random.Generator, position: Float[np.ndarray, "T 2"], size: int, reach: float) -> None:
    """Moves one position after the first to just outside the nearest border, in place."""
    away = int(rng.integers(1, max(2, len(position) - 1)))
    axis = int(np.argmax(np.abs(position[away] - size / 2)))
    position[away, axis] = size + reach if position[away, axis] > size / 2 else -reach
