"""Generated video of any length with exact masks and visibility; and the held-out set made of it.

The held-out set is eight clips of two to four objects that hide each other, always the same. They are drawn from no
file. Networks trained on photographs and real video, as the shipped ones are, have seen neither these objects nor this
ground; one that was trained on SyntheticVideo without photographs must be measured elsewhere.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mnemask.datasets.composite.photographs import StaticImages
from mnemask.datasets.synthetic.generated import CANVAS, Camera, GeneratedVideo, Visibility
from mnemask.datasets.synthetic.sprites import draw_cast
from mnemask.datasets.synthetic.texture import Rng, draw_ground
from mnemask.errors import InputError
from mnemask.types import Frame

MAX_OCCLUDERS = 4

Moment = tuple[Frame, UInt8[Tensor, "H W"], dict[int, Visibility]]


class SyntheticVideo(GeneratedVideo[Moment]):
    """Frames, exact masks and truth, `video[i]`, each computed from its number alone: nothing is stored.

    Objects 1, 2, … bend, turn, grow, darken, cross each other's way, pass behind unlabelled occluders, leave
    and come back, without ever repeating. In frame 0 every object is whole and none touches another.

    Example:
        >>> video = SyntheticVideo(10_000, size=(96, 160), num_objects=2)
        >>> frame, labels, truth = video[9_999]
        >>> frame.image.shape, labels.shape, sorted(truth)
        (torch.Size([3, 96, 160]), torch.Size([96, 160]), [1, 2])

    Args:
        num_frames: the length.
        size: height and width, at least 48 each.
        num_objects: 1 to 6, with ids from 1.
        seed: 0 or more; another seed, another scene.
        photographs: where scene and objects are taken from; without, they are drawn and no file is needed.
        lookalikes: whether each object has a double that is not to be followed.
        num_occluders: things that are not to be followed and pass before all others, 0 to 4.
        pace: how many times as fast all moves, at least 1. At 1 an object crosses the picture in about 140 frames.

    Raises:
        InputError: a video that cannot be drawn.
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
        self.camera = Camera.over(rng, canvas, size)
        self._cast = draw_cast(rng, size, canvas, num_objects, num_occluders, lookalikes, photographs)

    def draw(self, index: int) -> Moment:
        """Returns the frame, the id at each pixel (0 for what is not to be followed) and each object's Visibility."""
        moment = index * self.pace
        picture, owners = self.camera.look(moment), np.zeros(self.size, np.uint8)
        pixels = []  # inside the frame, and in all
        for number, (thing, _) in enumerate(self._cast, 1):
            whole = thing.paint(moment, picture, owners, number)
            pixels.append((int(np.count_nonzero(owners == number)), whole))
        seen = np.bincount(owners.ravel(), minlength=len(pixels) + 1)
        ids = np.zeros(256, np.uint8)
        ids[1 : len(pixels) + 1] = [object_id for _, object_id in self._cast]
        truth = {
            object_id: Visibility.from_areas(int(seen[number]), *pixels[number - 1])
            for number, (_, object_id) in enumerate(self._cast, 1)
            if object_id
        }
        return self.finish(picture, index, moment), torch.from_numpy(cv2.LUT(owners, ids)), truth


def _canvas(rng: Rng, size: tuple[int, int], photographs: StaticImages | None) -> UInt8[np.ndarray, "Y X 3"]:
    """All that the camera can look at: drawn ground, or the middle of a photograph."""
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


NUM_FRAMES = 40
SIZE = (480, 854)
PACE = 3  # 40 frames are then enough for objects to meet and to part


@dataclass(frozen=True, slots=True)
class HeldOutClip:
    """One clip of the set; `open` draws it. The attributes are those of SyntheticVideo."""

    name: str
    num_objects: int
    seed: int
    lookalikes: bool = False
    num_occluders: int = 0

    def open(self, num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> SyntheticVideo:
        """Returns the clip; fewer frames are its beginning, and each size is a scene of its own."""
        return SyntheticVideo(
            num_frames,
            size,
            self.num_objects,
            self.seed,
            lookalikes=self.lookalikes,
            num_occluders=self.num_occluders,
            pace=PACE,
        )


# In each, objects are hidden to more than half and come out again; the numbers are part of the set.
HELD_OUT = (
    HeldOutClip("pair", 2, 200),
    HeldOutClip("pair-leaving", 2, 203),
    HeldOutClip("pair-screened", 2, 205, num_occluders=1),
    HeldOutClip("pair-doubled", 2, 202, lookalikes=True, num_occluders=1),
    HeldOutClip("three-screened", 3, 201, num_occluders=1),
    HeldOutClip("three-doubled", 3, 201, lookalikes=True),
    HeldOutClip("four-screened", 4, 204, num_occluders=1),
    HeldOutClip("four-crowded", 4, 201, num_occluders=2),
)
