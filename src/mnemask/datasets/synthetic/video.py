"""Generated video of any length with exact masks and visibility."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from mnemask.datasets.composite.appearance import augment_appearance
from mnemask.datasets.composite.layers import Layer, fit
from mnemask.datasets.composite.photographs import CutOut, StaticImages
from mnemask.datasets.synthetic.generated import CANVAS, Camera, GeneratedVideo, Visibility
from mnemask.datasets.synthetic.shapes import Body, Silhouette, Wave, draw_bodies
from mnemask.datasets.synthetic.texture import Rng, draw_ground
from mnemask.errors import InputError
from mnemask.types import Frame

MAX_OCCLUDERS = 4
NUM_SWAYS = 3


@dataclass(frozen=True)
class Animal:
    """A drawn body in changing light; `light` is the logarithm of the brightness factor."""

    body: Body
    light: Wave

    def paint(
        self, index: int, picture: UInt8[np.ndarray, "H W 3"], owners: UInt8[np.ndarray, "H W"], number: int
    ) -> int:
        """Draws the animal onto a frame and its number into `owners`, in place.

        Returns its number of pixels, including those outside the frame; 0 if it is entirely outside and not drawn.
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
    """A photographed object that moves like a body.

    Attributes:
        pixels: RGB times opacity, and opacity.
        body: body that specifies position, rotation and scale; its shape and coat are not used.
        radii: width of a pixel in radii of the body.
        sways: grids of displacements in pixels, spread over the cut-out.
        swings: weight of each displacement over time.
        light: logarithm of the brightness factor.
    """

    pixels: UInt8[np.ndarray, "h w 4"]
    body: Body
    radii: float
    sways: Float32[np.ndarray, "n g g 2"]
    swings: tuple[Wave, ...]
    light: Wave

    @classmethod
    def from_body(cls, rng: Rng, body: Body, cut_out: CutOut) -> "MovingCutOut":
        """Returns the cut-out, nearly upright, within the body's bounding circle in frame 0."""
        body = replace(body, turn=Wave.random(rng, 0.0, 0.35, 220))
        pose = body.pose(0)[:, :2]
        reach = float(np.linalg.norm(body.outline(0)[0] @ pose.T, axis=1).max())
        wanted = 0.95 * reach / (np.hypot(*cut_out.pixels.shape[:2]) / 2)
        unit = round(2 * reach)
        pixels, grow = fit(cut_out, unit, wanted**2 * cut_out.area / unit**2)
        coarse = np.clip(rng.standard_normal((NUM_SWAYS, 4, 4, 2)), -1.5, 1.5) * 0.025 * np.sqrt(pixels[..., 0].size)
        sways = np.stack([cv2.resize(field, (24, 24), interpolation=cv2.INTER_CUBIC) for field in coarse])
        swings = tuple(Wave.random(rng, 0.0, 1.0, 60) for _ in range(NUM_SWAYS))
        radii = grow / float(np.linalg.norm(pose, 2))
        return cls(pixels, body, radii, sways.astype(np.float32), swings, _light(rng))

    def paint(
        self, index: int, picture: UInt8[np.ndarray, "H W 3"], owners: UInt8[np.ndarray, "H W"], number: int
    ) -> int:
        """Draws the cut-out like Animal.paint; returns its number of pixels, including those outside the frame."""
        layer = self._layer(index, number)
        layer.paint(0, picture, owners)
        return layer.area(0)

    def _layer(self, index: int, number: int) -> Layer:
        """The cut-out at this moment, as the layer of a clip of one frame."""
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
"""A moving thing; its position and appearance depend only on the frame's index."""


def draw_cast(
    rng: Rng,
    size: tuple[int, int],
    canvas: UInt8[np.ndarray, "Y X 3"],
    num_objects: int,
    num_occluders: int,
    lookalikes: bool,
    photographs: StaticImages | None,
) -> list[tuple[Thing, int]]:
    """Returns the moving things, from back to front, each with its object id, 0 if it is not followed.

    In frame 0 all are apart and within a frame of `size`; look-alikes are next to each other in the list.
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
        things = (MovingCutOut.from_body(rng, body, looks[look]) for body, look in zip(bodies, wearers, strict=True))
    # The second of a pair is followed: draw_bodies lets body 1, and every third from there, leave the picture.
    ids = [(i + 1) // copies if i < num_actors and (i + 1) % copies == 0 else 0 for i in range(len(bodies))]
    return list(zip(things, ids, strict=True))


def _light(rng: Rng) -> Wave:
    return Wave.random(rng, 0.0, 0.25, 180)


def _boulder(rng: Rng, body: Body) -> Body:
    """A stone on the path of the body, of the same diameter."""
    bare = replace(body, limbs=(), hole=0.0)
    side = max(48, len(body.coat))
    return replace(bare, radius=body.radius * body.reach() / bare.reach(), coat=draw_ground(rng, (side, side), side))


Moment = tuple[Frame, UInt8[Tensor, "H W"], dict[int, Visibility]]


class SyntheticVideo(GeneratedVideo[Moment]):
    """Frames, exact masks and visibility, `video[i]`, each computed from its index alone: nothing is stored.

    Objects 1, 2, … bend, turn, grow, darken, cross each other's paths, pass behind unlabelled occluders, leave
    and come back, without ever repeating. In frame 0 every object is whole and none touches another.

    Example:
        >>> video = SyntheticVideo(10_000, size=(96, 160), num_objects=2)
        >>> frame, labels, truth = video[9_999]
        >>> frame.image.shape, labels.shape, sorted(truth)
        (torch.Size([3, 96, 160]), torch.Size([96, 160]), [1, 2])

    Args:
        num_frames: number of frames.
        size: height and width in pixels, at least 48 each.
        num_objects: number of objects, 1 to 6; ids start at 1.
        seed: seed of the scene, 0 or more.
        photographs: source of the scene and the objects; None to draw them, which needs no files.
        lookalikes: whether each object has a double that is not followed.
        num_occluders: number of things that are not followed and pass in front of all others, 0 to 4.
        pace: factor on the speed of all motion, at least 1. At 1 an object crosses the frame in about 140 frames.

    Raises:
        InputError: a value is out of range.
    """

    max_objects = 6

    def __init__(
        self,
        num_frames: int,
        size: tuple[int, int] = (480, 854),
        num_objects: int = 2,
        seed: int = 0,
        *,
        photographs: StaticImages | None = None,
        lookalikes: bool = False,
        num_occluders: int = 1,
        pace: int = 1,
    ) -> None:
        super().__init__(num_frames, size, num_objects, seed)
        if not 0 <= num_occluders <= MAX_OCCLUDERS:
            raise InputError(f"{num_occluders} occluders cannot be drawn", f"give 0 to {MAX_OCCLUDERS}")
        if pace < 1:
            raise InputError(f"a video at {pace} times the speed cannot be drawn", "give a pace of at least 1")
        self.pace = pace
        rng = np.random.default_rng(seed)
        canvas = _canvas(rng, size, photographs)
        self.camera = Camera.random(rng, canvas, size)
        self.cast = draw_cast(rng, size, canvas, num_objects, num_occluders, lookalikes, photographs)

    def draw(self, index: int) -> Moment:
        """Returns the frame, the id at each pixel (0 for what is not followed) and each object's Visibility."""
        moment = index * self.pace
        picture, owners = self.camera.look(moment), np.zeros(self.size, np.uint8)
        pixels = []  # number inside the frame, and in total
        for number, (thing, _) in enumerate(self.cast, 1):
            whole = thing.paint(moment, picture, owners, number)
            pixels.append((int(np.count_nonzero(owners == number)), whole))
        seen = np.bincount(owners.ravel(), minlength=len(pixels) + 1)
        ids = np.zeros(256, np.uint8)
        ids[1 : len(pixels) + 1] = [object_id for _, object_id in self.cast]
        truth = {
            object_id: Visibility.from_areas(int(seen[number]), *pixels[number - 1])
            for number, (_, object_id) in enumerate(self.cast, 1)
            if object_id
        }
        return self.finish(picture, index, moment), torch.from_numpy(cv2.LUT(owners, ids)), truth


def _canvas(rng: Rng, size: tuple[int, int], photographs: StaticImages | None) -> UInt8[np.ndarray, "Y X 3"]:
    """Everything the camera can show: drawn ground, or the centre of a photograph."""
    height, width = round(CANVAS * size[0]), round(CANVAS * size[1])
    if photographs is None:
        return draw_ground(rng, (height, width), size[0])
    image = photographs.draw_image(rng)
    grow = max(height / image.shape[0], width / image.shape[1])
    to_canvas = np.array(
        [[grow, 0, (width - grow * image.shape[1]) / 2], [0, grow, (height - grow * image.shape[0]) / 2]]
    )
    warped = cv2.warpAffine(image, to_canvas, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(warped, np.uint8)
