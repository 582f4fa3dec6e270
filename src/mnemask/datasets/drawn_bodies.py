"""The objects of a drawn video: soft bodies with a coat, a shape that lives and a way of their own."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.noise import Colour, Rng, bend, noise

NUM_POINTS = 180
GOLDEN = (1 + math.sqrt(5)) / 2
COAT_REACH = 2.0  # the coat covers this many radii to each side
ANGLES = np.linspace(0, 2 * np.pi, NUM_POINTS, endpoint=False)

# Coat and markings.
COATS: tuple[tuple[Colour, Colour], ...] = (
    ((158, 78, 42), (232, 206, 164)),
    ((226, 214, 190), (92, 66, 50)),
    ((52, 52, 60), (214, 208, 196)),
    ((186, 136, 58), (84, 58, 36)),
    ((74, 98, 132), (196, 206, 214)),
    ((128, 62, 78), (226, 178, 160)),
    ((164, 52, 44), (42, 34, 34)),
    ((58, 108, 104), (214, 196, 140)),
    ((212, 172, 84), (160, 82, 40)),
    ((104, 84, 122), (206, 186, 204)),
    ((196, 110, 96), (244, 226, 208)),
    ((88, 62, 44), (196, 160, 116)),
)


def draw_coat(rng: Rng, side: int, coat: tuple[Colour, Colour], pattern: str) -> UInt8[np.ndarray, "S S 3"]:
    """Returns a square of fur that covers a body and its limbs; the head is towards the right."""
    radius = side / (2 * COAT_REACH)
    y, x = (np.mgrid[:side, :side].astype(np.float32) + 0.5 - side / 2) / radius
    if pattern == "stripes":
        marks = np.sin(bend(rng, 5.5 * x, 0.16 * radius, 0.7 * radius)) - 0.25
    elif pattern == "spots":
        marks = 1.6 * (noise(rng, (side, side), 0.42 * radius, 2) - 0.75)
    elif pattern == "patches":
        marks = 2.5 * noise(rng, (side, side), 1.3 * radius, 3)
    else:  # a saddle: the middle of the back
        marks = 3 * bend(rng, 0.55 - np.abs(y) - 0.15 * x, 0.1 * radius, 0.3 * radius)
    share = (1 / (1 + np.exp(-7 * marks)))[..., None]
    fur = 1 + 0.09 * noise(rng, (side, side), 0.06 * radius, 3) + 0.06 * noise(rng, (side, side), 0.6 * radius, 2)
    picture = ((1 - share) * coat[0] + share * coat[1]) * fur[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw_eyes(picture: UInt8[np.ndarray, "S S 3"]) -> None:
    """Draws two eyes onto a coat."""
    side = len(picture)
    radius = side / (2 * COAT_REACH)
    for y in (-0.27, 0.27):
        for x, size, shade in ((0.62, 0.13, (236, 232, 222)), (0.65, 0.085, (24, 20, 22)), (0.62, 0.03, (250, 250, 250))):
            place = np.round((np.array([x, y - (0.03 if size < 0.05 else 0)]) * radius + side / 2) * 16).astype(int)
            cv2.circle(picture, place.tolist(), round(size * radius * 16), shade, -1, cv2.LINE_AA, 4)


@dataclass(frozen=True, slots=True)
class Wave:
    """A sum of sines without a common period, so that it never repeats.

    Attributes:
        mean: what it swings about.
        reach: the amplitude of each sine.
        turns: how far each goes in one frame, in radians.
        phases: where each is at frame 0.
    """

    mean: float
    reach: tuple[float, ...]
    turns: tuple[float, ...]
    phases: tuple[float, ...]

    def __call__(self, index: int) -> float:
        sines = zip(self.reach, self.turns, self.phases, strict=True)
        return self.mean + sum(reach * math.sin(turn * index + phase) for reach, turn, phase in sines)

    @classmethod
    def drawn(cls, rng: Rng, mean: float, reach: float, period: float) -> "Wave":
        """Returns a wave within `mean` plus and minus `reach` that takes about `period` frames to come back."""
        turn = 2 * math.pi / (period * rng.uniform(0.8, 1.25))
        return cls(mean, (0.65 * reach, 0.35 * reach), (turn, GOLDEN * turn), tuple(rng.uniform(0, 2 * math.pi, 2)))

    @classmethod
    def through(cls, rng: Rng, start: float, mean: float, reach: float, period: float) -> "Wave":
        """Returns a wave that is at `start` in frame 0, and on its way towards `mean`."""
        turn = 2 * math.pi / (period * rng.uniform(0.8, 1.25))
        first, second = 0.65 * reach, 0.35 * reach
        # The second sine leaves the first no more to make up for than it can.
        off = start - mean
        other = rng.uniform(-1, 1) * max(0.0, min(second, first - abs(off)))
        phase = math.pi - math.asin(max(-1.0, min(1.0, (off - other) / first)))
        return cls(mean, (first, second), (turn, GOLDEN * turn), (phase, math.asin(other / second)))


@dataclass(frozen=True)
class Body:
    """One object: everything about it follows from the frame's number.

    Attributes:
        coat: its surface, seen from above.
        radius: in pixels, without limbs.
        x: where its centre is.
        y: where its centre is.
        turn: which way it points, in radians.
        scale: how large it is at the time.
        stretch: longer and thinner, or shorter and thicker.
        ripples: (amplitude, number of bulges, where they are) of the outline.
        limbs: (length, width in radians, where) of each.
        hole: its radius; 0 for none.
    """

    coat: UInt8[np.ndarray, "S S 3"]
    radius: float
    x: Wave
    y: Wave
    turn: Wave
    scale: Wave
    stretch: Wave
    ripples: tuple[tuple[float, int, Wave], ...]
    limbs: tuple[tuple[float, float, Wave], ...]
    hole: float

    def local_outline(self, index: int) -> list[Float[np.ndarray, "N 2"]]:
        """Returns the closed curves, in radii about the centre, before turning and stretching."""
        reach = np.ones(NUM_POINTS)
        for amplitude, bulges, where in self.ripples:
            reach += amplitude * np.cos(bulges * ANGLES + where(index))
        for length, width, where in self.limbs:
            apart = (ANGLES - where(index) + math.pi) % (2 * math.pi) - math.pi
            reach += length * np.exp(-((apart / width) ** 4))
        circle = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)
        outline = [reach[:, None] * circle]
        return [*outline, self.hole * (1 + 0.3 * (reach[:, None] - 1)) * circle] if self.hole else outline

    def pose(self, index: int) -> Float[np.ndarray, "2 3"]:
        """Returns the affine map from radii about the centre to pixels of the frame."""
        size, stretch, turn = self.radius * self.scale(index), self.stretch(index), self.turn(index)
        cos, sin = size * math.cos(turn), size * math.sin(turn)
        return np.array(
            [[cos * stretch, -sin / stretch, self.x(index)], [sin * stretch, cos / stretch, self.y(index)]]
        )


def draw_bodies(
    rng: Rng,
    size: tuple[int, int],
    num: int,
    ground: UInt8[np.ndarray, "H W 3"],
    *,
    occlusion: bool,
    lookalikes: bool,
) -> list[Body]:
    """Returns bodies that lie apart in frame 0."""
    cells = _cells(size, num)
    rng.shuffle(cells)
    coats = _distinct_coats(rng, ground)
    return [_draw_body(rng, size, cells[i], coats, i, occlusion, lookalikes) for i in range(num)]


def _cells(size: tuple[int, int], num: int) -> Float[np.ndarray, "N 4"]:
    """Returns x, y, width and height of equal parts of the frame, as square as can be."""
    height, width = size
    columns = max(range(1, num + 1), key=lambda c: min(width / c, height / math.ceil(num / c)))
    rows = math.ceil(num / columns)
    w, h = width / columns, height / rows
    return np.array([[c * w, r * h, w, h] for r in range(rows) for c in range(columns)][:num])


def _distinct_coats(rng: Rng, ground: UInt8[np.ndarray, "H W 3"]) -> list[tuple[Colour, Colour]]:
    """Returns the coats in an order in which each differs most from the ground and from those before."""

    def lab(colours: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        return cv2.cvtColor((colours[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0]

    taken = list(lab(cv2.resize(ground, (4, 4), interpolation=cv2.INTER_AREA).reshape(-1, 3).astype(float)))
    looks = lab(np.array([0.6 * np.array(a) + 0.4 * np.array(b) for a, b in COATS]))
    chosen: list[int] = []
    for _ in COATS:
        gaps = [min(np.linalg.norm(look - other) for other in taken) for look in looks]
        gaps = [-1 if i in chosen else gap * rng.uniform(0.75, 1) for i, gap in enumerate(gaps)]
        chosen.append(int(np.argmax(gaps)))
        taken.append(looks[chosen[-1]])
    return [COATS[i] for i in chosen]


def _draw_body(
    rng: Rng, size: tuple[int, int], cell: Float[np.ndarray, "4"], coat: tuple[Colour, Colour], kind: str, roams: str
) -> Body:
    """Returns a body whole within `cell` (x, y, width, height) in frame 0."""
    short_side, centre, half = min(size), cell[:2] + cell[2:] / 2, cell[2:] / 2
    hole = rng.uniform(0.3, 0.4) if kind == "ring" else 0.0
    still = Wave(0, (), (), ())
    body = Body(
        coat=np.zeros((1, 1, 3), np.uint8),
        radius=1,
        x=still,
        y=still,
        turn=Wave.drawn(rng, rng.uniform(-math.pi, math.pi), 0.9, 220),
        scale=Wave.drawn(rng, 1, 0.08, 260),
        stretch=Wave.drawn(rng, 1.12, 0.06, 90),
        ripples=tuple((rng.uniform(0.02, 0.07), k, Wave.drawn(rng, rng.uniform(0, 6), 0.8, 70)) for k in (2, 3, 5)),
        limbs=LIMBS[kind](rng),
        hole=hole,
    )
    area = float(cv2.contourArea(body.local_outline(0)[0].astype(np.float32))) - math.pi * hole**2
    wanted = math.sqrt(rng.uniform(0.08, 0.13) * short_side**2 / area)
    radius = min(wanted, 0.85 * half.min() / body.reach())
    room = half - radius * body.reach()
    start = centre + rng.uniform(-1, 1, 2) * room
    ...
