"""Test-time augmentation: a video is followed in several views at once, and the probabilities are averaged.

As STCN, XMem and Cutie are evaluated with flips and at several sizes: each view has a memory of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.errors import InputError
from mnemask.types import Frame, Masks

SCALES = (0.8, 1.25)
LEAST, MOST = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class View:
    """How a tracker sees each frame.

    Attributes:
        flipped: whether left and right are exchanged.
        scale: by which the size is multiplied at which frames are processed.
    """

    flipped: bool = False
    scale: float = 1.0

    def short_side(self, short_side: int | None) -> int | None:
        """Returns the short side at which frames are processed in this view."""
        return None if short_side is None else round(short_side * self.scale)

    def frame(self, frame: Frame) -> Frame:
        """Returns the frame as this view shows it."""
        return replace(frame, image=frame.image.flip(-1)) if self.flipped else frame

    def prompts(self, given: Mapping[int, Bool[Tensor, "H W"]]) -> Mapping[int, Bool[Tensor, "H W"]]:
        """Returns given masks as this view shows them."""
        return {object_id: mask.flip(-1) for object_id, mask in given.items()} if self.flipped else given


def views_of(tta: str, short_side: int | None = 480) -> tuple[View, ...]:
    """Returns the views that a text such as "flip,1.25" names, beginning with the frames as they are.

    Args:
        tta: "flip" (mirrored too), "scales" (0.8 and 1.25 times as large too) and factors from 0.5 to 2, after commas;
            with "flip" each size is mirrored too. "" for none.
        short_side: at which frames are processed; None, for as they are, has no other size.

    Raises:
        InputError: there are no such views.
    """
    words = [word.strip() for word in tta.split(",")] if tta else []
    scales = [1.0]
    for word in words:
        if word == "scales":
            scales += SCALES
        elif word != "flip":
            scales.append(_factor(word, tta))
    scales = list(dict.fromkeys(scales))
    if short_side is None and len(scales) > 1:
        raise InputError(f"tta is {tta!r} and frames are processed as they are", "give a short_side (--size)")
    sides = (False, True) if "flip" in words else (False,)
    return tuple(View(flipped, scale) for scale in scales for flipped in sides)


def _factor(word: str, tta: str) -> float:
    try:
        scale = float(word)
    except ValueError:
        scale = 0.0
    if not LEAST <= scale <= MOST:
        raise InputError(f"tta is {tta[:40]!r}", f"give flip, scales or factors from {LEAST} to {MOST}, after commas")
    return scale


def mean_of(views: Sequence[View], answers: Sequence[Masks]) -> Float[Tensor, "K1 H W"]:
    """Returns the mean of the probabilities that each view gives, for the frame as it is."""
    both = zip(views, answers, strict=True)
    return torch.stack([answer.probs.flip(-1) if view.flipped else answer.probs for view, answer in both]).mean(0)
