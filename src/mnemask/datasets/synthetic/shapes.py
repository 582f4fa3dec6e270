"""Soft bodies that bend and move, and their rendering in a frame: covered pixels and shading."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.synthetic.texture import COAT_REACH, PATTERNS, Rng, distinct_colours, draw_coat

GOLDEN = (1 + math.sqrt(5)) / 2
NUM_POINTS = 180
ANGLES = np.linspace(0, 2 * math.pi, NUM_POINTS, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


@dataclass(frozen=True, slots=True)
class Wave:
    """The sum of two sines without a common period, which never repeats.

    Attributes:
        mean: mean value.
        reach: amplitude of each sine.
        turns: phase advance of each sine per frame, in radians.
        phases: phase of each sine in frame 0, in radians.
    """

    mean: float
    reach: tuple[float, float] = (0.0, 0.0)
    turns: tuple[float, float] = (0.0, 0.0)
    phases: tuple[float, float] = (0.0, 0.0)

    def __call__(self, index: int) -> float:
        """Returns the value in a frame."""
        sines = zip(self.reach, self.turns, self.phases, strict=True)
        return self.mean + sum(reach * math.sin(turn * index + phase) for reach, turn, phase in sines)

    @classmethod
    def random(cls, rng: Rng, mean: float, reach: float, period: int) -> "Wave":
        """Returns a random wave within `mean` ± `reach` with a period of about `period` frames."""
        turn = 2 * math.pi / (period * rng.uniform(0.8, 1.25))
        phases = (rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi))
        return cls(mean, (0.65 * reach, 0.35 * reach), (turn, GOLDEN * turn), phases)

    @classmethod
    def from_start(cls, rng: Rng, start: float, mean: float, reach: float, period: int) -> "Wave":
        """Returns a random wave that begins at `start`, less than `reach` from `mean`, and moves towards `mean`."""
        first, second, off = 0.65 * reach, 0.35 * reach, start - mean
        part = rng.uniform(max(-second, off - first), min(second, off + first))
        phase = math.asin(min(1.0, max(-1.0, (off - part) / first)))
        turn = 2 * math.pi / (period * rng.uniform(0.8, 1.25))
        phases = (math.pi - phase if off > 0 else phase, math.asin(part / second))
        return cls(mean, (first, second), (turn, GOLDEN * turn), phases)


@dataclass(frozen=True)
class Limb:
    """A bulge of the outline: its length in radii, half its width in radians, and its direction."""

    length: float
    width: float
    angle: Wave


@dataclass(frozen=True)
class Body:
    """One object; its shape and position depend only on the frame's index.

    Attributes:
        ripples: amplitude in radii, number and phase of the waves that run around the outline.
        limbs: bulges of the outline.
        hole: radius of the hole, in radii; 0 for none.
        turn: direction of the head, in radians.
        scale: size relative to `radius`.
        stretch: elongation along the head's direction; longer and thinner if above 1.
        radius: radius in pixels, without limbs.
        x: x of the centre, in pixels.
        y: y of the centre, in pixels.
        coat: surface, see draw_coat.
    """

    ripples: tuple[tuple[float, int, Wave], ...]
    limbs: tuple[Limb, ...]
    hole: float
    turn: Wave
    scale: Wave
    stretch: Wave
    radius: float
    x: Wave
    y: Wave
    coat: UInt8[np.ndarray, "S S 3"]

    def reach(self) -> float:
        """Returns the largest distance of any part from the centre in any frame, in radii."""
        outline = (
            1 + sum(amplitude for amplitude, _, _ in self.ripples) + max([limb.length for limb in self.limbs] or [0])
        )
        return outline * (self.scale.mean + sum(self.scale.reach)) * (self.stretch.mean + sum(self.stretch.reach))

    def outline(self, index: int) -> list[Float[np.ndarray, "N 2"]]:
        """Returns the closed curves in radii about the centre, head to the right: the rim, then the hole if any."""
        rim = np.ones(NUM_POINTS)
        for amplitude, number, place in self.ripples:
            rim += amplitude * np.cos(number * ANGLES + place(index))
        for limb in self.limbs:
            apart = (ANGLES - limb.angle(index) + math.pi) % (2 * math.pi) - math.pi
            # exp(-700) is practically 0; smaller results would raise if numpy is set to raise on underflow.
            rim += limb.length * np.exp(-np.minimum((apart / limb.width) ** 4, 700))
        curves = [rim[:, None] * CIRCLE]
        return [*curves, self.hole * CIRCLE] if self.hole else curves

    def pose(self, index: int) -> Float[np.ndarray, "2 3"]:
        """Returns the affine map from radii about the centre to pixels of the frame."""
        size, stretch, turn = self.radius * self.scale(index), self.stretch(index), self.turn(index)
        cos, sin = size * math.cos(turn), size * math.sin(turn)
        return np.array([[cos * stretch, -sin / stretch, self.x(index)], [sin * stretch, cos / stretch, self.y(index)]])


@dataclass(frozen=True, slots=True)
class Kind:
    """A body plan: each limb's angle, length and width; the hole's radius; how many radii ahead the eyes are."""

    limbs: tuple[tuple[float, float, float], ...] = ()
    hole: float = 0.0
    eyes_at: float | None = None


KINDS = (
    Kind(((0.0, 0.34, 0.42), (0.85, 0.4, 0.22), (-0.85, 0.4, 0.22), (2.4, 0.36, 0.22), (-2.4, 0.36, 0.22)), 0.0, 0.98),
    Kind(((0.75, 0.16, 0.24), (-0.75, 0.16, 0.24), (math.pi, 0.55, 0.16)), 0.0, 0.68),
    Kind(tuple((2 * math.pi * k / 5, 0.55, 0.24) for k in range(5))),
    Kind(hole=0.36),
)


def draw_bodies(
    rng: Rng, size: tuple[int, int], num: int, ground: UInt8[np.ndarray, "H W 3"], occlusion: bool, lookalikes: bool
) -> list[Body]:
    """Returns bodies that do not touch and lie within a frame of `size` in frame 0; see DrawnVideo."""
    cells = _cells(size, num)
    rng.shuffle(cells)
    colours = distinct_colours(rng, ground)
    patterns = rng.permutation(PATTERNS)
    bodies = []
    for i, cell in enumerate(cells):
        look = i // 2 if lookalikes else i
        kind = KINDS[look % len(KINDS)]
        body = _shape(rng, kind)
        rim = body.outline(0)[0]
        area = float(cv2.contourArea(rim.astype(np.float32))) - math.pi * kind.hole**2
        # Bodies that roam must be apart in frame 0 only.
        reach = float(np.linalg.norm(rim @ body.pose(0)[:, :2].T, axis=1).max()) if occlusion else body.reach()
        radius = min(
            math.sqrt(rng.uniform(0.08, 0.14) * min(size) ** 2 / area), (0.45 * float(cell[2:].min()) - 2) / reach
        )
        coat = draw_coat(rng, radius, colours[look], str(patterns[look % len(PATTERNS)]), kind.eyes_at)
        x, y = (
            _sample_path(rng, radius * reach, start, length, side, leaves=axis == 0 and i % 3 == 1, roams=occlusion)
            for axis, (start, length, side) in enumerate(zip(cell[:2], cell[2:], size[::-1], strict=True))
        )
        bodies.append(replace(body, radius=radius, x=x, y=y, coat=coat))
    return bodies


def _cells(size: tuple[int, int], num: int) -> Float[np.ndarray, "N 4"]:
    """Returns x, y, width and height of `num` equal cells of the frame, as square as possible."""
    height, width = size
    columns = max(range(1, num + 1), key=lambda columns: min(width / columns, height / math.ceil(num / columns)))
    cell = np.array([width / columns, height / math.ceil(num / columns)])
    return np.array([[*(cell * (i % columns, i // columns)), *cell] for i in range(num)])


def _shape(rng: Rng, kind: Kind) -> Body:
    return Body(
        ripples=tuple((rng.uniform(0.02, 0.06), k, Wave.random(rng, rng.uniform(0, 6), 0.8, 70)) for k in (2, 3, 5)),
        limbs=tuple(Limb(length, width, Wave.random(rng, angle, 0.16, 28)) for angle, length, width in kind.limbs),
        hole=kind.hole,
        turn=Wave.random(rng, rng.uniform(-math.pi, math.pi), 0.9, 220),
        scale=Wave.random(rng, 1.0, 0.08, 260),
        stretch=Wave.random(rng, 1.1, 0.06, 90),
        radius=1.0,
        x=Wave(0.0),
        y=Wave(0.0),
        coat=np.zeros((1, 1, 3), np.uint8),
    )


def _sample_path(rng: Rng, reach: float, start: float, length: float, side: int, *, leaves: bool, roams: bool) -> Wave:
    """Returns the path along one axis of a body that begins within its cell, from `start` to `start + length`."""
    middle = start + length / 2
    room = length / 2 - reach - 1  # one pixel is kept free, so that neighbours do not touch
    begin = middle + 0.9 * rng.uniform(-room, room)
    if not roams:
        return Wave.from_start(rng, begin, middle, room, 300)
    return Wave.from_start(rng, begin, side / 2, side / 2 + (1.3 if leaves else -0.5) * reach, 280)


FIXED_POINT = 16  # outlines are drawn to a sixteenth of a pixel


@dataclass(frozen=True)
class Silhouette:
    """The filled outline of a body in a window that may extend beyond the frame.

    Attributes:
        cover: coverage of each pixel, 0 to 255.
        corner: position of the window's top left pixel in the frame, as x, y.
        size: height and width of the frame.
        body: the outlined body.
        pose: pose of the body, see Body.pose.
    """

    cover: UInt8[np.ndarray, "h w"]
    corner: tuple[int, int]
    size: tuple[int, int]
    body: Body
    pose: Float[np.ndarray, "2 3"]

    @classmethod
    def from_body(cls, body: Body, index: int, size: tuple[int, int]) -> "Silhouette | None":
        """Returns the silhouette in a frame; None if neither the body nor its shadow is in the frame."""
        pose = body.pose(index)
        curves = [curve @ pose[:, :2].T + pose[:, 2] for curve in body.outline(index)]
        margin = math.ceil(0.3 * body.radius)
        left, top = (int(edge) - margin for edge in np.floor(curves[0].min(axis=0)))
        right, bottom = (int(edge) + margin + 1 for edge in np.ceil(curves[0].max(axis=0)))
        if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
            return None
        cover = np.zeros((bottom - top, right - left), np.uint8)
        points = [np.round(FIXED_POINT * (curve - (left, top))).astype(np.int32) for curve in curves]
        cv2.fillPoly(cover, points, 255, cv2.LINE_AA, int(math.log2(FIXED_POINT)))
        return cls(cover, (left, top), size, body, pose)

    def mark(self, labels: UInt8[np.ndarray, "H W"], object_id: int) -> None:
        """Writes the id to pixels that are at least half covered."""
        frame, window = self._overlap()
        labels[frame][self.cover[window] > 127] = object_id

    def paint(self, picture: UInt8[np.ndarray, "H W 3"]) -> None:
        """Draws the body with its coat, light and shadow."""
        frame, window = self._overlap()
        shaded = picture[frame] * self._shadow()[window][..., None]
        seen = self._coat()[window] * self._light()[window][..., None]
        shaded += (self.cover[window] * np.float32(1 / 255))[..., None] * (seen - shaded)
        picture[frame] = np.clip(shaded, 0, 255)

    def _overlap(self) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Returns the overlap of frame and window, as slices of each."""
        frame, window = [], []
        for start, length, end in zip(self.corner[::-1], self.cover.shape, self.size, strict=True):
            low, high = max(0, start), min(end, start + length)
            frame.append(slice(low, high))
            window.append(slice(low - start, high - start))
        return (frame[0], frame[1]), (window[0], window[1])

    def _coat(self) -> UInt8[np.ndarray, "h w 3"]:
        side = len(self.body.coat)
        to_radii = np.array(
            [[2 * COAT_REACH / side, 0, -COAT_REACH], [0, 2 * COAT_REACH / side, -COAT_REACH], [0, 0, 1]]
        )
        to_window = self.pose @ to_radii
        to_window[:, 2] -= self.corner
        size = self.cover.shape[::-1]
        return np.asarray(cv2.warpAffine(self.body.coat, to_window, size, borderMode=cv2.BORDER_REPLICATE))

    def _shadow(self) -> Float[np.ndarray, "h w"]:
        """Returns how much light reaches the ground below, 0 to 1; the light comes from the upper left."""
        small = cv2.resize(self.cover, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(np.float32)
        soft = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.02 * self.body.radius))
        away = 0.13 * self.body.radius + 1.5
        shadow = cv2.warpAffine(soft, np.array([[4, 0, away], [0, 4, away]]), self.cover.shape[::-1])
        return 1 - np.float32(0.55 / 255) * shadow

    def _light(self) -> Float[np.ndarray, "h w"]:
        """Returns the brightness, about 1, of a cushion with this outline."""
        small = cv2.resize(self.cover, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        depth = 0.3 * self.body.radius
        inwards = np.minimum(cv2.distanceTransform((small > 127).astype(np.uint8), cv2.DIST_L2, 3) / depth, 1)
        height = cv2.GaussianBlur(depth * np.sqrt(1 - (1 - inwards) ** 2), (0, 0), max(0.6, 0.05 * self.body.radius))
        dx, dy = (cv2.Sobel(height, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
        facing = (0.5 * dx + 0.55 * dy + 0.66) / np.sqrt(1 + dx * dx + dy * dy)
        return np.asarray(cv2.resize(0.42 + 0.88 * facing, self.cover.shape[::-1]))
