"""The bodies of drawn clips: what they look like, and where and how bent they are in each frame."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

# No bend or bulge carries the rim of a body of radius 1 further than REACH; GROWTH is its largest size over its first.
REACH, GROWTH = 1.28, 1.15
# Bends and bulges are smooth: so many cells across a body are enough to compute them.
CELLS = 24
BULGE, BEND = 0.04, 0.1

_WEIGHTS = np.array((0.55, 0.3, 0.15))
_RATIOS = np.array((1.0, (1 + 5**0.5) / 2, 7**0.5))


@dataclass(frozen=True, slots=True)
class Wave:
    """A smooth path within -1 to 1 that never repeats: three sines whose periods have no common multiple."""

    rates: Float64[np.ndarray, " 3"]
    phases: Float64[np.ndarray, " 3"]

    @classmethod
    def drawn(cls, rng: np.random.Generator, period: float, start: float, heading: float = 0.0) -> "Wave":
        """Returns a wave of about `period` frames that is at `start` in frame 0, first on its way to `heading`."""
        # The weights add up to 1, so sines that all start at the same height start the sum there.
        rising = np.full(3, np.arcsin(start))
        up = rng.random(3) < 0.5
        if heading:
            up[0] = heading > 0
        return cls(2 * np.pi / period * rng.uniform(0.9, 1.1) * _RATIOS, np.where(up, rising, np.pi - rising))

    def at(self, index: int) -> float:
        """Returns where the wave is in one frame."""
        return float(_WEIGHTS @ np.sin(self.rates * index + self.phases))


@dataclass(frozen=True, slots=True)
class Stamp:
    """One body in one frame: a square of pixels whose top left corner is at (left, top) of the frame.

    Attributes:
        left: in pixels, negative outside.
        top: in pixels, negative outside.
        colours: RGB.
        alpha: opacity, 0 to 1.
        shadow: darkness of its shadow, 0 to 1, and how far that is shifted in pixels (x, y).
    """

    left: int
    top: int
    colours: UInt8[np.ndarray, "b b 3"]
    alpha: Float32[np.ndarray, "b b"]
    shadow: tuple[Float32[np.ndarray, "b b"], int, int]

    def lay(self, image: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"], label: int) -> None:
        """Draws the shadow, then the body, over what is already in the frame, in place; it owns where alpha > 0.5."""
        dark, dx, dy = self.shadow
        there, here = self._overlap(image.shape[0], image.shape[1], dx, dy)
        if image[there].size:
            kept = 1 - dark[here]
            image[there] = cv2.multiply(image[there], cv2.merge((kept, kept, kept)), dtype=cv2.CV_8U)
        there, here = self._overlap(image.shape[0], image.shape[1], 0, 0)
        if image[there].size:
            alpha = np.ascontiguousarray(self.alpha[here])
            image[there] = cv2.blendLinear(self.colours[here].copy(), image[there].copy(), alpha, 1 - alpha)
            labels[there][alpha > 0.5] = label

    def _overlap(self, height: int, width: int, dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where the shifted stamp lies in the frame, and which part of the stamp that is; empty outside."""
        side = self.alpha.shape[0]
        left, top = self.left + dx, self.top + dy
        x0, x1 = max(0, left), max(0, left, min(width, left + side))
        y0, y1 = max(0, top), max(0, top, min(height, top + side))
        return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


@dataclass(frozen=True, slots=True)
class Body:
    """A coat on a relief, and how it moves and bends.

    Attributes:
        coat: RGB; the square shows -REACH to REACH.
        relief: how far inside the outline in units of the radius, and the tilt of the surface (x, y).
        radius: pixels in frame 0.
        centre: the middle of its path in pixels (x, y).
        swing: how far it goes to both sides of that, in pixels (x, y).
        path: waves of place (x, y), turn and size.
        bulges: waves of three bulges, and at which angles these are.
        bends: waves of bends along x and y.
        sun: the direction towards the light (x + iy), length 1.
    """

    coat: UInt8[np.ndarray, "S S 3"]
    relief: Float32[np.ndarray, "S S 3"]
    radius: float
    centre: complex
    swing: complex
    path: tuple[Wave, Wave, Wave, Wave]
    bulges: tuple[tuple[Wave, float], ...]
    bends: tuple[Wave, Wave]
    sun: complex

    def stamp(self, index: int) -> Stamp:
        """Returns the body as it looks in one frame, whether that shows it or not."""
        x, y, turn, size = (wave.at(index) for wave in self.path)
        radius = self.radius * float(GROWTH**size)
        facing = np.exp(0.9j * turn)
        soft = max(3, round(0.16 * self.radius))
        half = int(radius * REACH) + soft + 2
        middle = self.centre + complex(self.swing.real * x, self.swing.imag * y)
        left, top = round(middle.real) - half, round(middle.imag) - half
        maps = self._sources(index, 2 * half, middle - complex(left, top), radius * facing)
        coat = cv2.remap(self.coat, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        relief = cv2.remap(self.relief, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside, tilt_x, tilt_y = cv2.split(relief)
        light = 0.45 * self.sun * facing.conjugate()
        shade = tilt_x * np.float32(light.real) + (tilt_y * np.float32(light.imag) + np.float32(0.9))
        colours = cv2.multiply(coat, cv2.merge((shade, shade, shade)), dtype=cv2.CV_8U)
        alpha = np.clip(inside * np.float32(radius) + np.float32(0.5), 0, 1)
        dark = cv2.blur(cv2.blur(alpha * np.float32(0.5), (soft, soft)), (soft, soft))
        away = -0.14 * self.radius * self.sun
        return Stamp(left, top, colours, alpha, (dark, round(away.real), round(away.imag)))

    def _sources(
        self, index: int, side: int, middle: complex, scale: complex
    ) -> tuple[Float32[np.ndarray, "b b"], Float32[np.ndarray, "b b"]]:
        """The place (x, y) in the coat that each pixel of a square shows."""
        grid = (np.arange(CELLS) + 0.5) * (side / CELLS) - 0.5
        place = (grid + 1j * grid[:, None] - middle) / scale
        around, far = np.angle(place), np.abs(place) ** 2
        swell = sum(wave.at(index) * np.cos(k * around + at) for k, (wave, at) in enumerate(self.bulges, 2))
        along, across = (BEND * wave.at(index) for wave in self.bends)
        bent = along * (place.real**2 - 0.25) * 1j + across * (place.imag**2 - 0.25)
        shown = place * (1 + BULGE * swell * (far / (far + 0.15))) + bent
        half = self.coat.shape[0] / 2
        shown = shown * (half / REACH) + (half - 0.5) * (1 + 1j)
        x, y = shown.real.astype(np.float32), shown.imag.astype(np.float32)
        return cv2.resize(x, (side, side)), cv2.resize(y, (side, side))
