"""Procedural textures from noise: two-coloured fur for objects, and ground seen from above."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Rng = np.random.Generator
Colour = tuple[int, int, int]


def noise(rng: Rng, size: tuple[int, int], largest: float, octaves: int = 5) -> Float[np.ndarray, "H W"]:
    """Returns smooth noise with mean 0 and standard deviation 1, with structures up to `largest` pixels wide."""
    height, width = size
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        cell = largest / 2**octave
        if cell < 1:
            break
        grid = rng.standard_normal((int(height / cell) + 4, int(width / cell) + 4)).astype(np.float32)
        shift = np.array([[cell, 0, -cell * (1 + rng.random())], [0, cell, -cell * (1 + rng.random())]], np.float32)
        total += 0.55**octave * cv2.warpAffine(grid, shift, (width, height), flags=cv2.INTER_CUBIC)
    even: Float[np.ndarray, "H W"] = (total - total.mean()) / (total.std() + 1e-6)
    return even


def bend(rng: Rng, image: Float[np.ndarray, "H W"], by: float, largest: float) -> Float[np.ndarray, "H W"]:
    """Returns the image displaced by smooth noise of `by` pixels, which makes straight structures look natural."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = noise(rng, image.shape, largest, 3), noise(rng, image.shape, largest, 3)
    return np.asarray(cv2.remap(image, x + by * dx, y + by * dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def colour(values: Float[np.ndarray, "H W"], colours: Sequence[Colour]) -> Float[np.ndarray, "H W 3"]:
    """Returns RGB, 0 to 255, interpolated from the first colour at -2 or less to the last at 2 or more."""
    stops = np.linspace(-2, 2, len(colours))
    table = np.stack([np.interp(np.linspace(-2, 2, 512), stops, channel) for channel in zip(*colours, strict=True)], 1)
    index = np.clip((values + 2) * (511 / 4), 0, 511).astype(np.int32)
    picture: Float[np.ndarray, "H W 3"] = table.astype(np.float32)[index]
    return picture


def lit(height_map: Float[np.ndarray, "H W"], strength: float) -> Float[np.ndarray, "H W"]:
    """Returns the brightness of each point of a relief, about 1, with light from the upper left."""
    slope = cv2.Sobel(height_map, cv2.CV_32F, 1, 0) + cv2.Sobel(height_map, cv2.CV_32F, 0, 1)
    return 1 + np.tanh(strength * np.asarray(slope))


COAT_REACH = 2.0  # a coat covers this many radii to each side of the centre
PATTERNS = ("stripes", "spots", "patches", "saddle")

# Fur and markings.
COLOURS: tuple[tuple[Colour, Colour], ...] = (
    ((158, 78, 42), (232, 206, 164)),
    ((226, 214, 190), (92, 66, 50)),
    ((52, 52, 60), (214, 208, 196)),
    ((186, 136, 58), (84, 58, 36)),
    ((74, 98, 132), (196, 206, 214)),
    ((128, 62, 78), (226, 178, 160)),
    ((150, 60, 50), (46, 38, 38)),
    ((58, 108, 104), (214, 196, 140)),
    ((212, 172, 84), (160, 82, 40)),
    ((104, 84, 122), (206, 186, 204)),
    ((196, 110, 96), (244, 226, 208)),
    ((88, 62, 44), (196, 160, 116)),
)


def draw_coat(
    rng: Rng, radius: float, colours: tuple[Colour, Colour], pattern: str, eyes_at: float | None
) -> UInt8[np.ndarray, "S S 3"]:
    """Returns a square of fur for a body of `radius` pixels, head to the right, eyes (if any) `eyes_at` radii ahead."""
    side = max(8, round(2 * COAT_REACH * radius))
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5 - side / 2) / radius
    if pattern == "stripes":
        marks = np.sin(bend(rng, 5.5 * x, 0.16 * radius, 0.7 * radius)) - 0.25
    elif pattern == "spots":
        marks = 1.6 * (noise(rng, (side, side), 0.42 * radius, 2) - 0.75)
    elif pattern == "patches":
        marks = 2.5 * noise(rng, (side, side), 1.3 * radius, 3)
    else:
        marks = 3 * bend(rng, 0.55 - np.abs(y) - 0.15 * x, 0.1 * radius, 0.3 * radius)
    share = (1 / (1 + np.exp(-7 * marks)))[..., None]
    fur = 1 + 0.09 * noise(rng, (side, side), 0.06 * radius, 3) + 0.06 * noise(rng, (side, side), 0.6 * radius, 2)
    base, markings = np.array(colours, np.float32)
    coat: UInt8[np.ndarray, "S S 3"] = np.clip((base + share * (markings - base)) * fur[..., None], 0, 255).astype(
        np.uint8
    )
    if eyes_at is not None:
        _draw_eyes(coat, radius, eyes_at)
    return coat


def _draw_eyes(coat: UInt8[np.ndarray, "S S 3"], radius: float, ahead: float) -> None:
    for side in (-0.27, 0.27):
        for dx, dy, size, shade in ((0, 0, 0.13, 234), (0.03, 0, 0.085, 22), (0, -0.03, 0.03, 250)):
            centre = 16 * (radius * np.array([ahead + dx, side + dy]) + len(coat) / 2)
            place = (round(centre[0]), round(centre[1]))
            cv2.circle(coat, place, round(16 * size * radius), (shade, shade, shade), -1, cv2.LINE_AA, 4)


def distinct_colours(rng: Rng, ground: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Colour, Colour]]:
    """Returns `COLOURS` in an order in which each stands out from the ground and from the previous ones."""
    taken = list(_lab(np.asarray(cv2.resize(ground, (4, 4), interpolation=cv2.INTER_AREA)).reshape(-1, 3)))
    looks = _lab(np.array([0.6 * np.array(fur) + 0.4 * np.array(markings) for fur, markings in COLOURS]))
    order: list[int] = []
    while len(order) < len(COLOURS):
        gaps = np.linalg.norm(looks[:, None] - np.array(taken)[None], axis=2).min(axis=1)
        gaps *= rng.uniform(0.6, 1, len(gaps))
        gaps[order] = -1
        order.append(int(gaps.argmax()))
        taken.append(looks[order[-1]])
    return [COLOURS[i] for i in order]


def _lab(colours: UInt8[np.ndarray, "N 3"] | Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    lab: Float[np.ndarray, "N 3"] = np.asarray(
        cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)
    )[0]
    return lab


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
    """Returns a piece of ground seen from above: two kinds of soil, pebbles and uneven light.

    Args:
        rng: random number generator.
        size: height and width in pixels.
        unit: height of a frame in pixels, which all structures scale with.
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
    """Draws pebbles with shadows into the picture, partly in clusters."""
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
