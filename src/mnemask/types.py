"""The small values that travel between the parts: a frame in, masks out, numbers about the memory."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from mnemask.errors import FrameError, ObjectIdError

MAX_OBJECT_ID = 65_535


def check_object_id(object_id: object) -> int:
    """Returns the id as an int, or raises ObjectIdError unless it is a whole number from 1 to 65535."""
    if (
        isinstance(object_id, bool)
        or not isinstance(object_id, int | np.integer)
        or not 1 <= object_id <= MAX_OBJECT_ID
    ):
        raise ObjectIdError(
            f"object id {object_id!r} is not a whole number from 1 to {MAX_OBJECT_ID}; 0 is the background"
        )
    return int(object_id)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a video.

    Attributes:
        image: RGB, values 0 to 255.
        index: position in the video, from 0.
        seconds: presentation time, None where the source has none (a folder of images).
        name: what output files of this frame are called, without a suffix.
    """

    image: UInt8[Tensor, "3 H W"]
    index: int
    seconds: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.ndim != 3 or shape[0] != 3 or 0 in shape or self.image.dtype != torch.uint8:
            raise FrameError(
                f"frame {self.index} is {self.image.dtype} of shape {tuple(self.image.shape)}; "
                "expected torch.uint8 RGB of shape (3, height, width)"
            )
        if not self.name:
            object.__setattr__(self, "name", f"{self.index:05d}")

    @classmethod
    def of(cls, picture: "Picture", index: int) -> "Frame":
        """Returns a Frame; NumPy pictures are [H W 3], tensors [3 H W], both uint8 RGB."""
        if isinstance(picture, Frame):
            return picture
        if isinstance(picture, np.ndarray):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise FrameError(
                    f"frame {index} is a {picture.dtype} array of shape {picture.shape}; "
                    "expected uint8 RGB of shape (height, width, 3)"
                )
            # Read-only arrays and reversed views (BGR to RGB) are copied: torch takes neither.
            picture = torch.from_numpy(np.require(picture, requirements=("C", "W"))).movedim(-1, 0)
        if not isinstance(picture, Tensor):
            raise FrameError(f"frame {index} is a {type(picture).__name__}; expected a Frame, a tensor or an array")
        return cls(picture, index)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[1], self.image.shape[2]


Picture = Frame | UInt8[Tensor, "3 H W"] | UInt8[np.ndarray, "H W 3"]


def describe(size: tuple[int, int] | None) -> str:
    """Returns a (height, width) as people write it, "width×height pixels"."""
    return "no size" if size is None else f"{size[1]}×{size[0]} pixels"


@dataclass(frozen=True, slots=True)
class Masks:
    """Who is where in one frame.

    Attributes:
        labels: the caller's object id at each pixel, 0 for the background.
        probs: K + 1 probabilities, background first, then the objects in the order of `object_ids`; sums to 1.
        object_ids: the caller's ids.
        index: the frame's position in the video.
        name: the frame's name, used by writers.
    """

    labels: Int32[Tensor, "H W"]
    probs: Float[Tensor, "K1 H W"]
    object_ids: tuple[int, ...]
    index: int = 0
    name: str = ""

    def of(self, object_id: int) -> Tensor:
        """Returns the bool mask [H W] of one object; raises ObjectIdError for an id that is not tracked."""
        if object_id not in self.object_ids:
            raise ObjectIdError(f"object id {object_id} is not tracked; tracked are {list(self.object_ids)}")
        return self.labels == object_id
