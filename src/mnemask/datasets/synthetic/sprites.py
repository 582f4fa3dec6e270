"""Who moves through a generated video: drawn animals, or objects cut out of photographs that go the same ways."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from mnemask.datasets.composite.appearance import augment_appearance
from mnemask.datasets.composite.layers import Layer
from mnemask.datasets.composite.motion import fit
from mnemask.datasets.composite.photographs import CutOut, StaticImages
from mnemask.datasets.synthetic.shapes import Body, Silhouette, Wave, draw_bodies
from mnemask.datasets.synthetic.texture import Rng, draw_ground

NUM_SWAYS = 3


@dataclass(frozen=True)
class Animal:
    """A drawn body in changing light; `light` is the logarithm of its brightness."""

    body: Body
    light: Wave

    def paint(
        self, index: int, picture: UInt8[np.ndarray, "H W 3"], owners: UInt8[np.ndarray, "H W"], number: int
    ) -> int:
        """Draws it onto a frame and its number onto its pixels, in place.

        Returns how many pixels it has, in the frame and beyond; 0 where it is too far away to be drawn.
        """
        coat = cv2.convertScaleAbs(self.body.coat, alpha=float(np.exp(self.light(index))))
        height, width = owners.shape
        shape = Silhouette.from_body(replace(self.body, coat=coat), index, (height, width))
        if shape is None:
            return 0
        shape.mark(owners, number)
        shape.paint(picture)
        return int(np.count_nonzero(shape.cover > 127))


@dataclass(frozen=True)
class MovingCutOut:
    """A photographed object that goes the way of a body.

    Attributes:
        pixels: RGB times opacity, and opacity.
        body: its place, turn and growth are taken, its shape and coat are not.
        radii: how many radii of the body a pixel is wide.
        sways: displacements in pixels, spread over the cut-out.
        swings: how much of each displacement there is at the time.
        light: logarithm of the brightness.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    body: Body
    radii: float
    sways: Float32[np.ndarray, "n g g 2"]
    swings: tuple[Wave, ...]
    light: Wave

    @classmethod
    def along(cls, rng: Rng, body: Body, cut_out: CutOut) -> "MovingCutOut":
        """Returns the cut-out, nearly upright, within the circle that the body fills in frame 0."""
        body = replace(body, turn=Wave.about(rng, 0.0, 0.35, 220))
        pose = body.pose(0)[:, :2]
        reach = float(np.linalg.norm(body.outline(0)[0] @ pose.T, axis=1).max())
        wanted = 0.95 * reach / (np.hypot(*cut_out.pixels.shape[:2]) / 2)
        unit = round(2 * reach)
        pixels, grow = fit(cut_out, unit, wanted**2 * cut_out.area / unit**2)
        coarse = np.clip(rng.standard_normal((NUM_SWAYS, 4, 4, 2)), -1.5, 1.5) * 0.025 * np.sqrt(pixels[..., 0].size)
        sways = np.stack([cv2.resize(field, (24, 24), interpolation=cv2.INTER_CUBIC) for field in coarse])
        swings = tuple(Wave.about(rng, 0.0, 1.0, 60) for _ in range(NUM_SWAYS))
        radii = grow / float(np.linalg.norm(pose, 2))
        return cls(pixels, body, radii, sways.astype(np.float32), swings, _light(rng))

    def paint(
        self, index: int, picture: UInt8[np.ndarray, "H W 3"], owners: UInt8[np.ndarray, "H W"], number: int
    ) -> int:
        """Draws it as Animal.paint does, and returns how many pixels it has, in the frame and beyond."""
        layer = self._layer(index, number)
        layer.paint(0, picture, owners)
        return layer.area(0)

    def _layer(self, index: int, number: int) -> Layer:
        """This moment as a clip of one frame."""
        pose, (height, width) = self.body.pose(index), self.pixels.shape[:2]
        linear = pose[:, :2] * self.radii
        offset = pose[:, 2] - linear @ (width / 2, height / 2)
        swings = np.array([swing(index) for swing in self.swings], np.float32)
        bend = np.tensordot(swings, self.sways, 1)[None]
        light, smear = np.array([self.light(index)]), np.zeros((1, 2))
        away = 0.12 * self.body.radius
        to_frame = np.column_stack((linear, offset))[None]
        return Layer(self.pixels, number, to_frame, bend, light, smear, (0.35, away, away))


Thing = Animal | MovingCutOut
"""Where it is and how it looks follow from the number of the frame alone."""


def draw_cast(
    rng: Rng,
    size: tuple[int, int],
    canvas: UInt8[np.ndarray, "Y X 3"],
    num_objects: int,
    num_occluders: int,
    lookalikes: bool,
    photographs: StaticImages | None,
) -> list[tuple[Thing, int]]:
    """Returns who moves over the canvas, from back to front, and as which object: 0 if it is not to be followed.

    In frame 0 all lie apart and within a frame of `size`; look-alikes are beside whom they look like.
    """
    copies = 2 if lookalikes else 1
    num_actors = copies * num_objects
    bodies = draw_bodies(rng, size, num_actors + num_occluders, canvas, True, lookalikes)
    if photographs is None:
        things: Iterator[Thing] = (
            Animal(body if i < num_actors else _boulder(rng, body), _light(rng)) for i, body in enumerate(bodies)
        )
    else:
        looks = [
            augment_appearance(rng, photographs.draw_cut_out(rng), canvas, photographs)
            for _ in range(num_objects + num_occluders)
        ]
        wearers = [i // copies if i < num_actors else i - num_actors + num_objects for i in range(len(bodies))]
        things = (MovingCutOut.along(rng, body, looks[look]) for body, look in zip(bodies, wearers, strict=True))
    # The second of two is the one asked for: draw_bodies lets it leave the picture now and then.
    ids = [(i + 1) // copies if i < num_actors and (i + 1) % copies == 0 else 0 for i in range(len(bodies))]
    return list(zip(things, ids, strict=True))


def _light(rng: Rng) -> Wave:
    return Wave.about(rng, 0.0, 0.25, 180)


def _boulder(rng: Rng, body: Body) -> Body:
    """A stone on the way of the body, as far across."""
    bare = replace(body, limbs=(), hole=0.0)
    side = max(48, len(body.coat))
    return replace(bare, radius=body.radius * body.reach() / bare.reach(), coat=draw_ground(rng, (side, side), side))
