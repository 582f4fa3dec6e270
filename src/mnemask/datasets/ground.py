"""The ground of drawn clips, seen from above by a drifting camera: patches, grit, leaves and stones."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from mnemask.datasets.bodies import Wave
from mnemask.datasets.textures import cloudy, draw_outline, raise_relief

# The ground is this much larger than what the camera sees of it; the camera uses this share of the room.
WORLD, USED = 1.4, 0.7

# From dark to light: forest floor, meadow, sand, slate, red earth, moss.
_GROUNDS = (
    ((52, 42, 33), (88, 74, 55), (120, 104, 80), (140, 128, 98)),
    ((52, 62, 36), (80, 92, 52), (108, 116, 70), (140, 138, 94)),
    ((138, 118, 92), (164, 144, 114), (188, 168, 138), (206, 190, 162)),
    ((56, 62, 68), (84, 91, 96), (112, 117, 118), (140, 141, 136)),
    ((82, 54, 42), (116, 79, 61), (146, 108, 86), (168, 136, 112)),
    ((42, 52, 44), (66, 80, 64), (96, 108, 84), (132, 136, 108)),
)
_LEAVES = ((122, 84, 46), (150, 108, 58), (96, 70, 48), (112, 112, 58), (134, 74, 48))


@dataclass(frozen=True, slots=True)
class Camera:
    """A ground, and how the view drifts over it.

    Attributes:
        ground: RGB, larger than the view.
        path: waves of place (x, y), closeness and roll.
    """

    ground: UInt8[np.ndarray, "h w 3"]
    path: tuple[Wave, Wave, Wave, Wave]

    @classmethod
    def drawn(cls, rng: np.random.Generator, size: tuple[int, int], sun: complex) -> "Camera":
        """Returns a camera over a new ground, for views of (height, width)."""
        unit = float(np.sqrt(size[0] * size[1])) / 8
        ground = draw_ground(rng, round(size[0] * WORLD), round(size[1] * WORLD), unit, sun)
        x, y, closeness, roll = (Wave.drawn(rng, rng.uniform(350, 600), rng.uniform(-0.5, 0.5)) for _ in range(4))
        return cls(ground, (x, y, closeness, roll))

    def view(self, index: int, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the ground as frame `index` shows it."""
        x, y, closeness, roll = (wave.at(index) for wave in self.path)
        step = (0.93 - 0.07 * closeness) * np.exp(0.02j * roll)
        height, width = size
        room = (WORLD - 1) / 2 * USED
        middle = complex(self.ground.shape[1] / 2 + room * width * x, self.ground.shape[0] / 2 + room * height * y)
        corner = middle - step * complex(width / 2, height / 2)
        to_ground = np.array(((step.real, -step.imag, corner.real), (step.imag, step.real, corner.imag)))
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(self.ground, to_ground, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        return np.asarray(view)


def draw_ground(
    rng: np.random.Generator, height: int, width: int, unit: float, sun: complex
) -> UInt8[np.ndarray, "H W 3"]:
    """Returns an RGB ground.

    Args:
        rng: where everything comes from.
        height: in pixels.
        width: in pixels.
        unit: how long a hand would be, in pixels.
        sun: the direction towards the light (x + iy), length 1.
    """
    colours = np.array(_GROUNDS[rng.integers(len(_GROUNDS))], np.float32)
    tone = cloudy(rng, height, width, 3.5 * unit, 6) * 0.6 + cloudy(rng, height, width, 0.12 * unit, 3) * 0.3
    ground = _blend(colours, 1.5 + tone)
    bumps = cloudy(rng, height, width, 0.8 * unit, 6) * np.float32(0.012 * unit)
    tilt = cv2.Sobel(bumps, cv2.CV_32F, 1, 0) * sun.real + cv2.Sobel(bumps, cv2.CV_32F, 0, 1) * sun.imag
    tint = cloudy(rng, height, width, 5.0 * unit, 3)[..., None] * np.array((0.05, 0.02, -0.05), np.float32)
    picture = np.clip(ground * (1 + tint - np.clip(tilt, -0.45, 0.45)[..., None] * 0.7), 0, 255).astype(np.uint8)
    hands = height * width / unit**2
    for _ in range(round(hands * rng.choice((0.0, 0.3, 0.9)))):
        colour = np.array(_LEAVES[rng.integers(len(_LEAVES))], np.float32) * rng.uniform(0.8, 1.15)
        _lay(rng, picture, [_leaf(rng)], unit * rng.uniform(0.14, 0.3), colour, 0.25, sun)
    for _ in range(round(hands * rng.uniform(0.1, 0.25))):
        colour = colours[rng.integers(1, 4)] * 0.5 + rng.uniform(35, 75)
        _lay(rng, picture, draw_outline(rng, "plain"), unit * float(np.exp(rng.uniform(-2.3, -0.7))), colour, 0.5, sun)
    return picture


def _lay(
    rng: np.random.Generator,
    picture: UInt8[np.ndarray, "H W 3"],
    curves: list[Float64[np.ndarray, "_ 2"]],
    radius: float,
    colour: Float32[np.ndarray, " 3"],
    relief: float,
    sun: complex,
) -> None:
    """Draws one shaded thing with its shadow somewhere in the picture, in place."""
    reach = 1.3
    side = int(2 * reach * radius) + 4
    x, y = int(rng.integers(picture.shape[1] - side)), int(rng.integers(picture.shape[0] - side))
    distance, tilt = raise_relief(curves, side, reach)
    alpha = np.clip(0.5 + distance * (side / 2 / reach), 0, 1)[..., None]
    light = tilt @ np.array((sun.real, sun.imag), np.float32)
    shade = 0.9 + relief * light + cloudy(rng, side, side, side / 3, 4) * 0.07
    away = -0.3 * relief * radius * sun
    shadow = cv2.blur(np.roll(alpha[..., 0], (round(away.imag), round(away.real)), (0, 1)), (3, 3))[..., None]
    region = picture[y : y + side, x : x + side]
    region[:] = np.clip(region * (1 - 0.5 * shadow) * (1 - alpha) + colour * shade[..., None] * alpha, 0, 255)


def _leaf(rng: np.random.Generator) -> Float64[np.ndarray, "N 2"]:
    """A pointed leaf, a little curved."""
    along = np.linspace(-1, 1, 30)
    half = rng.uniform(0.28, 0.42) * (1 - along**2)
    spine = rng.uniform(-0.15, 0.15) * (1 - along**2)
    shape = np.concatenate((along + 1j * (spine + half), (along + 1j * (spine - half))[::-1]))
    shape = shape * np.exp(1j * rng.uniform(0, 2 * np.pi))
    return np.stack((shape.real, shape.imag), -1)


def _blend(colours: Float32[np.ndarray, "C 3"], place: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W 3"]:
    """The colour at each place on the way from the first (0) to the last (C - 1)."""
    steps = np.arange(len(colours))
    return np.stack([np.interp(place, steps, channel) for channel in colours.T], -1).astype(np.float32)
