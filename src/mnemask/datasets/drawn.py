"""A video drawn in code, with exact masks and as long as you like: soft animals that cross each other's way."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mnemask.datasets.drawn_bodies import Wave, draw_bodies
from mnemask.datasets.drawn_ground import draw_ground
from mnemask.datasets.drawn_light import Silhouette
from mnemask.errors import InputError
from mnemask.types import Frame

FRAMES_PER_SECOND = 25
MAX_OBJECTS = 8
CANVAS = 1.35  # of the frame's size: all that the camera can look at
GRAIN = 2.2


class DrawnVideo:
    """Frames and their exact masks, `video[i]`, each computed from its number alone: nothing is stored or downloaded.

    In frame 0 every object is whole and none touches another; soon they meet. Object `k` hides those before it.

    Example:
        >>> video = DrawnVideo(10_000, size=(96, 160), num_objects=3)
        >>> frame, labels = video[9_999]
        >>> frame.image.shape, labels.shape
        (torch.Size([3, 96, 160]), torch.Size([96, 160]))

    Args:
        num_frames: the length.
        size: height and width, at least 48 each.
        num_objects: 1 to 8, with ids from 1.
        seed: 0 or more; another seed, another scene.
        occlusion: whether objects hide each other and leave the picture; without, each keeps to its own part of it.
        lookalikes: whether objects 1 and 2, 3 and 4, ... have the same coat.

    Raises:
        InputError: a size, length, seed or number of objects that cannot be drawn.
    """

    def __init__(
        self,
        num_frames: int,
        size: tuple[int, int] = (480, 854),
        num_objects: int = 2,
        seed: int = 0,
        *,
        occlusion: bool = True,
        lookalikes: bool = False,
    ) -> None:
        if num_frames < 1:
            raise InputError(f"a video of {num_frames} frames cannot be drawn; give at least 1")
        if min(size) < 48:
            raise InputError(f"a video of {size[1]}x{size[0]} pixels is too small for objects; give at least 48 a side")
        if not 1 <= num_objects <= MAX_OBJECTS:
            raise InputError(f"{num_objects} objects cannot be drawn; give 1 to {MAX_OBJECTS}")
        if seed < 0:
            raise InputError(f"seed {seed} is negative; give 0 or more")
        self.num_frames, self.size, self.num_objects = num_frames, size, num_objects
        rng = np.random.default_rng(seed)
        height, width = size
        self._ground = draw_ground(rng, (round(CANVAS * height), round(CANVAS * width)), height)
        margin = (CANVAS - 1) / 2
        self._pan = [Wave.about(rng, 0.0, 0.6 * margin * side, 600) for side in (width, height)]
        self._reach = Wave.about(rng, 1.0, 0.06, 450)
        tile = rng.normal(0, GRAIN, (height + 63, width + 63, 3))
        self._grain = np.round(tile).astype(np.int8)
        self._bodies = draw_bodies(rng, size, num_objects, self._ground, occlusion, lookalikes)

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, index: int) -> tuple[Frame, UInt8[Tensor, "H W"]]:
        if not 0 <= index < self.num_frames:
            raise IndexError(f"frame {index} of a video of {self.num_frames}")
        picture, labels = self._look_at_ground(index), np.zeros(self.size, np.uint8)
        for object_id, body in enumerate(self._bodies, 1):
            if (shape := Silhouette.of(body, index, self.size)) is not None:
                shape.mark(labels, object_id)
                shape.paint(picture)
        y, x = np.random.default_rng(index).integers(0, 64, 2)
        height, width = self.size
        picture = cv2.add(picture, self._grain[y : y + height, x : x + width], dtype=cv2.CV_8U)
        image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        return Frame(image, index, index / FRAMES_PER_SECOND), torch.from_numpy(labels)

    def __iter__(self) -> Iterator[tuple[Frame, UInt8[Tensor, "H W"]]]:
        return (self[index] for index in range(self.num_frames))

    def visible(self, index: int) -> tuple[int, ...]:
        """Returns the ids of the objects of which at least one pixel can be seen, without drawing the frame."""
        labels = np.zeros(self.size, np.uint8)
        for object_id, body in enumerate(self._bodies, 1):
            if (shape := Silhouette.of(body, index, self.size)) is not None:
                shape.mark(labels, object_id)
        return tuple(int(i) for i in np.unique(labels) if i)

    def _look_at_ground(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        height, width = self.size
        reach = self._reach(index)
        left, top = (
            (canvas - reach * side) / 2 + pan(index)
            for canvas, side, pan in zip(self._ground.shape[1::-1], (width, height), self._pan, strict=True)
        )
        view = np.array([[reach, 0, left], [0, reach, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(self._ground, view, (width, height), flags=flags), np.uint8)
