"""What drawn things are made of: noise, coats, outlines, and the relief that an outline gives."""

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

SUPERSAMPLING = 4

# Two shades each, of things that crawl, swim or grow: distinct from each other, and none of them neon.
COATS = (
    ((198, 92, 48), (238, 222, 196)),  # carp
    ((64, 92, 138), (196, 208, 214)),  # mackerel
    ((150, 44, 40), (52, 34, 34)),  # ladybird
    ((206, 164, 62), (72, 56, 38)),  # wasp
    ((82, 116, 66), (186, 190, 118)),  # frog
    ((112, 70, 112), (208, 176, 186)),  # sea slug
    ((228, 218, 196), (146, 96, 62)),  # cowrie
    ((44, 44, 50), (176, 168, 152)),  # badger
    ((62, 130, 128), (216, 200, 150)),  # turtle
    ((196, 122, 124), (240, 216, 204)),  # anemone
)


def cloudy(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int) -> Float32[np.ndarray, "H W"]:
    """Returns smooth noise of mean 0 and deviation 1 whose largest spots measure `cell` pixels, the next ones half."""
    field = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        grid = (round(height * 2**octave / cell) + 2, round(width * 2**octave / cell) + 2)
        if octave and (grid[0] > height or grid[1] > width):
            break
        coarse = rng.standard_normal(grid, np.float32) * np.float32(0.55**octave)
        field += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / (field.std() + np.float32(1e-6)))


def draw_coat(rng: np.random.Generator, side: int, shades: int) -> UInt8[np.ndarray, "S S 3"]:
    """Returns the RGB coat of one body: the two shades of `COATS[shades]` in spots, stripes or patches, with grain."""
    first, second = np.array(COATS[shades], np.float32) * rng.uniform(0.92, 1.08, (2, 3)).astype(np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    warp = cloudy(rng, side, side, side * 0.4, 3)
    pattern = rng.integers(3)
    if pattern == 0:
        field = cloudy(rng, side, side, side * rng.uniform(0.1, 0.18), 1) * 1.2 - 0.8
    elif pattern == 1:
        angle = rng.uniform(0, np.pi)
        along = x * float(np.cos(angle)) + y * float(np.sin(angle))
        field = np.sin(along * rng.uniform(28, 44) + warp) * 1.2 - 0.2
    else:
        field = cloudy(rng, side, side, side * rng.uniform(0.28, 0.45), 4)
    share = (1 / (1 + np.exp(-6 * field)))[..., None]
    grain = cloudy(rng, side, side, side * 0.05, 5) * 0.09 + warp * 0.06
    shaded = (first * (1 - share) + second * share) * (1 + grain[..., None])
    return np.asarray(np.clip(shaded, 0, 255), np.uint8)


def draw_outline(rng: np.random.Generator, kind: str) -> list[Float64[np.ndarray, "_ 2"]]:
    """Returns closed curves (x, y) within the unit circle: the body, then limbs to add, or the hole of a "ring".

    Args:
        rng: where the shape comes from.
        kind: "plain", "limbs" or "ring".
    """
    around = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = np.ones_like(around)
    for harmonic, most in zip(range(2, 6), (0.2, 0.13, 0.09, 0.07), strict=True):
        radius += rng.uniform(0.3, 1) * most * np.cos(harmonic * around + rng.uniform(0, 2 * np.pi))
    body = np.stack((radius * np.cos(around), radius * np.sin(around)), -1)
    curves = [body]
    if kind == "limbs":
        limbs, first = int(rng.integers(2, 6)), rng.uniform(0, 2 * np.pi)
        curves += [_limb(rng, first + 2 * np.pi / limbs * (limb + rng.uniform(-0.2, 0.2))) for limb in range(limbs)]
    elif kind == "ring":
        curves.append(rng.uniform(0.3, 0.42) * body + rng.uniform(-0.1, 0.1, 2))
    reach = max(float(np.hypot(*curve.T).max()) for curve in curves)
    return [curve / reach for curve in curves]


def raise_relief(
    curves: list[Float64[np.ndarray, "_ 2"]], side: int, reach: float, hollow: bool = False
) -> tuple[Float32[np.ndarray, "S S"], Float32[np.ndarray, "S S 2"]]:
    """Returns how far inside the outline each pixel is, negative outside, and the tilt of the surface (x, y).

    Args:
        curves: see `draw_outline`.
        side: pixels of the square, which shows -reach to reach.
        reach: in units of the curves, as are the distances.
        hollow: whether the second curve is a hole.
    """
    fine = side * SUPERSAMPLING
    mask = np.zeros((fine, fine), np.uint8)
    for number, curve in enumerate(curves):
        corners = np.rint((curve / reach + 1) * (fine * 8) - 8).astype(np.int32)
        cv2.fillPoly(mask, [corners], 0 if hollow and number == 1 else 1, shift=4)
    fine_distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - mask, cv2.DIST_L2, 5)
    distance = cv2.resize(fine_distance, (side, side), interpolation=cv2.INTER_AREA)
    distance = cv2.GaussianBlur(distance, (0, 0), max(0.6, side * 0.006)) * np.float32(2 * reach / fine)
    rise = np.clip(distance / (0.8 * distance.max()), -0.2, 1)
    height = cv2.GaussianBlur(1 - (1 - rise) ** 2, (0, 0), side * 0.02)
    slope = np.float32(-0.02 * side / reach)
    tilt = np.dstack((cv2.Sobel(height, cv2.CV_32F, 1, 0), cv2.Sobel(height, cv2.CV_32F, 0, 1))) * slope
    return distance, tilt / np.sqrt(1 + (tilt**2).sum(-1, keepdims=True))


def _limb(rng: np.random.Generator, angle: float) -> Float64[np.ndarray, "N 2"]:
    """A tapering, bent strip with a round end, from the middle outwards."""
    along = np.linspace(0, 1, 40)
    length, thick, bend = rng.uniform(1.45, 1.8), rng.uniform(0.32, 0.45), rng.uniform(-0.5, 0.5)
    turn = angle + bend * along
    middle = np.stack((np.cos(turn), np.sin(turn)), -1) * (along * length)[:, None]
    width = thick * (1 - 0.5 * along) * np.sqrt(1 - ((along - 0.85) / 0.15).clip(0, 1) ** 2)
    across = np.stack((-np.sin(turn), np.cos(turn)), -1) * width[:, None]
    return np.concatenate((middle + across, (middle - across)[::-1]))
