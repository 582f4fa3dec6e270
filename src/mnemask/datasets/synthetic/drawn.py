"""A procedurally drawn video of any length with exact masks: soft animals that cross each other's paths."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from mnemask.datasets.synthetic.generated import CANVAS, Camera, GeneratedVideo
from mnemask.datasets.synthetic.shapes import Silhouette, draw_bodies
from mnemask.datasets.synthetic.texture import draw_ground
from mnemask.types import Frame

Moment = tuple[Frame, UInt8[Tensor, "H W"]]


class DrawnVideo(GeneratedVideo[Moment]):
    """Frames with exact masks, `video[i]`, each computed from its index alone: nothing is stored or downloaded.

    In frame 0 every object is whole and none touches another; soon they meet. Object `k` occludes those with lower ids.

    Example:
        >>> video = DrawnVideo(10_000, size=(96, 160), num_objects=3)
        >>> frame, labels = video[9_999]
        >>> frame.image.shape, labels.shape
        (torch.Size([3, 96, 160]), torch.Size([96, 160]))

    Args:
        num_frames: number of frames.
        size: height and width in pixels, at least 48 each.
        num_objects: number of objects, 1 to 8; ids start at 1.
        seed: seed of the scene, 0 or more.
        occlusion: whether objects occlude each other and leave the frame; otherwise each stays in its own part of it.
        lookalikes: whether objects 1 and 2, 3 and 4, ... have the same coat.

    Raises:
        InputError: a size, length, seed or number of objects is out of range.
    """

    max_objects = 8

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
        super().__init__(num_frames, size, num_objects, seed)
        rng = np.random.default_rng(seed)
        height, width = size
        ground = draw_ground(rng, (round(CANVAS * height), round(CANVAS * width)), height)
        self.camera = Camera.random(rng, ground, size, steady_light=True)
        self._bodies = draw_bodies(rng, size, num_objects, ground, occlusion, lookalikes)

    def draw(self, index: int) -> Moment:
        """Returns a frame and the object id at each pixel."""
        picture, labels = self.camera.look(index), np.zeros(self.size, np.uint8)
        for object_id, body in enumerate(self._bodies, 1):
            if (shape := Silhouette.from_body(body, index, self.size)) is not None:
                shape.mark(labels, object_id)
                shape.paint(picture)
        return self.finish(picture, index, index), torch.from_numpy(labels)

    def visible(self, index: int) -> tuple[int, ...]:
        """Returns the ids of the objects with at least one visible pixel, without drawing the frame."""
        labels = np.zeros(self.size, np.uint8)
        for object_id, body in enumerate(self._bodies, 1):
            if (shape := Silhouette.from_body(body, index, self.size)) is not None:
                shape.mark(labels, object_id)
        return tuple(int(i) for i in np.unique(labels) if i)
