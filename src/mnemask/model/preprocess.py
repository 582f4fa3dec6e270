"""Conversion of frames of any size to the network's input, and back: resizing, normalising and padding."""

from functools import lru_cache

import torch
from jaxtyping import Float, Real
from torch import Tensor
from torch.nn import functional as F

from mnemask.choices import SMALLEST_SIZE
from mnemask.errors import FrameError
from mnemask.model.stcn import STRIDE
from mnemask.types import describe

MAX_WORKING_SIDE = 16_384  # pixels
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def working_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Returns the height and width at which a frame is processed, with a short side of `short_side` pixels."""
    if short_side is None or min(size) == short_side:
        return size
    scale = short_side / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def refuse_too_long(size: tuple[int, int], short_side: int | None, what: str) -> None:
    """Raises FrameError for a frame whose long side would exceed MAX_WORKING_SIDE at its working size.

    Args:
        size: height and width of the frame.
        short_side: the short side, as for `working_size`.
        what: the frame's name in messages.
    """
    if max(working_size(size, short_side)) > MAX_WORKING_SIDE:
        at_short_side = "" if short_side is None else f", at a short side of {short_side},"
        largest = MAX_WORKING_SIDE * min(size) // max(size)
        smaller = f"give a short_side of at most {largest} (--size), or " if largest >= SMALLEST_SIZE else ""
        raise FrameError(
            f"{what} has {describe(size)} and{at_short_side} a side of more than {MAX_WORKING_SIDE} pixels",
            f"{smaller}crop the video",
        )


def padding(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns the padding (left, right, top, bottom) to a multiple of the stride, the smaller half first (STCN)."""
    vertical, horizontal = (-size[0]) % STRIDE, (-size[1]) % STRIDE
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


def normalize(image: Real[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """Returns RGB from 0 to 255 normalised by ImageNet's mean and standard deviation."""
    mean, std = _statistics(image.device) if image.is_cuda else _statistics.__wrapped__(image.device)
    return (image.float() / 255).sub_(mean).div_(std)


@lru_cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation on a device; cached on a GPU, which an upload per frame would delay."""
    with torch.inference_mode(False):
        mean, std = (
            torch.tensor(numbers, dtype=torch.float32, device=device)[:, None, None]
            for numbers in (IMAGENET_MEAN, IMAGENET_STD)
        )
    return mean, std


def resize(planes: Float[Tensor, "C H W"], size: tuple[int, int]) -> Float[Tensor, "C h w"]:
    """Returns the planes at another size: bilinear, with antialiasing if they shrink."""
    if planes.shape[1:] == size:
        return planes
    shrinks = size[0] < planes.shape[1]
    return F.interpolate(planes[None], size=size, mode="bilinear", align_corners=False, antialias=shrinks)[0]


def pad(planes: Float[Tensor, "C H W"]) -> Float[Tensor, "C Hp Wp"]:
    """Returns the planes padded with zeros to sides that are multiples of the stride."""
    return F.pad(planes, padding((planes.shape[1], planes.shape[2])))


def unpad(planes: Float[Tensor, "C Hp Wp"], size: tuple[int, int]) -> Float[Tensor, "C H W"]:
    """Returns the planes without their padding, at the `size` that they had before `pad`."""
    left, _, top, _ = padding(size)
    return planes[:, top : top + size[0], left : left + size[1]]


def cells(planes: Float[Tensor, "*B C h w"]) -> Float[Tensor, "*B P C"]:
    """Returns one row per cell, row by row."""
    return planes.flatten(-2).transpose(-1, -2)
