"""What the objects of a drawn video wear: fur in two colours, told apart from the ground and from each other."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.noise import Colour, Rng, bend, noise

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
    """Returns a square of fur for a body of `radius` pixels, head to the right, eyes (if any) so many radii ahead."""
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
    """Returns all of `COLOURS` in an order in which each stands out from the ground and from those before."""
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
