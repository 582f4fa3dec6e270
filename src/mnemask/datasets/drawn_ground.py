"""Ground seen from above, drawn from noise: what the objects of a drawn video move over."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.noise import Colour, Rng, bend, colour, lit, noise

# From dark to light; each ground shows through another in places.
GROUNDS: dict[str, tuple[Colour, ...]] = {
    "moss": ((36, 46, 24), (66, 80, 38), (98, 108, 54), (136, 138, 82)),
    "earth": ((48, 38, 30), (80, 64, 48), (112, 92, 70), (148, 126, 100)),
    "sand": ((124, 104, 78), (166, 144, 112), (194, 173, 140), (216, 200, 172)),
    "stone": ((66, 66, 68), (98, 98, 97), (128, 126, 121), (160, 157, 150)),
    "shallows": ((30, 58, 66), (50, 86, 92), (84, 122, 122), (136, 164, 154)),
}
PEBBLES: tuple[Colour, ...] = ((92, 90, 88), (128, 122, 114), (164, 154, 140), (112, 88, 68), (74, 62, 54))
PAIRS = (("moss", "earth"), ("sand", "stone"), ("stone", "moss"), ("earth", "sand"), ("shallows", "sand"))


def draw_ground(rng: Rng, size: tuple[int, int], unit: int) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a stretch of ground seen from above: two kinds of soil, pebbles and uneven light.

    Args:
        rng: where chance comes from.
        size: height and width in pixels.
        unit: the height of a frame in pixels, which the size of every form follows.
    """
    below, above = PAIRS[rng.integers(len(PAIRS))]
    fine = noise(rng, size, 0.03 * unit, 4)
    forms = bend(rng, noise(rng, size, 0.5 * unit, 7), 0.035 * unit, 0.4 * unit)
    picture = colour(0.7 * forms + 0.45 * fine, GROUNDS[below]) * lit(0.02 * unit * forms + 0.4 * fine, 0.06)[..., None]
    forms = noise(rng, size, 0.2 * unit, 6)
    patch = colour(0.7 * forms + 0.4 * fine, GROUNDS[above]) * lit(0.012 * unit * forms + 0.4 * fine, 0.06)[..., None]
    share = 0.85 / (1 + np.exp(7 - 9 * bend(rng, noise(rng, size, 0.9 * unit, 4), 0.06 * unit, 0.2 * unit)))[..., None]
    picture += share * (patch - picture)
    scatter_pebbles(rng, picture, unit)
    picture *= (1 + 0.12 * noise(rng, size, 1.4 * unit, 2))[..., None]
    ground: UInt8[np.ndarray, "H W 3"] = np.clip(picture, 0, 255).astype(np.uint8)
    return ground


def scatter_pebbles(rng: Rng, picture: Float[np.ndarray, "H W 3"], unit: int) -> None:
    """Draws pebbles with their shadows into the picture, more of them in some places."""
    size = np.array(picture.shape[1::-1])
    nests = rng.random((6, 2)) * size
    shadow = 0.45 * picture.mean(axis=(0, 1))
    for _ in range(int(130 * size.prod() / unit**2)):
        nested = rng.random() < 0.6
        centre = nests[rng.integers(6)] + rng.normal(0, 0.25 * unit, 2) if nested else rng.random(2) * size
        radius = unit * min(0.03, 0.007 * np.exp(0.5 * rng.standard_normal()))
        tint = np.array(PEBBLES[rng.integers(len(PEBBLES))]) * rng.uniform(0.75, 1.15)
        outline = radius * _pebble(rng)
        for offset, grow, shade in (
            (0.45, 1.05, shadow),
            (0, 1, 0.8 * tint),
            (-0.12, 0.78, tint),
            (-0.25, 0.5, 1.13 * tint),
        ):
            points = np.round(16 * (centre + offset * radius + grow * outline)).astype(np.int32)
            cv2.fillPoly(picture, [points], shade.tolist(), cv2.LINE_AA, 4)


def _pebble(rng: Rng) -> Float[np.ndarray, "N 2"]:
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    wobble = 1 + 0.12 * np.cos(2 * angle + rng.uniform(0, 6)) + 0.08 * np.cos(3 * angle + rng.uniform(0, 6))
    turn = rng.uniform(0, np.pi)
    outline = np.stack([1.25 * np.cos(angle), np.sin(angle)], 1) * wobble[:, None]
    turned: Float[np.ndarray, "N 2"] = outline @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    return turned
