"""A part of the memory for each object, so that none is forgotten while others are looked at (thesis 4, occlusion).

The thesis loses objects in occlusion: nobody reads their tokens, so these go first. Here objects do not compete.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import room_beside_pins
from mnemask.memory.policies.quotas import shared_out
from mnemask.memory.policies.wrapper import Wrapper, hand_over, in_order
from mnemask.memory.tokens import Tokens

LEAST_SHARE = 0.1  # a soft mask leaves a trace in every cell; a small object fills none


@dataclass(frozen=True)
class PerObject(Wrapper):
    """Shares the budget out among the objects and what lies outside them, and lets the inner policy keep to each part.

    A token belongs to the object that fills most of its cell, if that is a tenth of it or more, else to the outside.
    Quotas are in proportion to extent ** exponent, the extent being the most tokens of one frame in memory or new
    that belong to it. What a part does not need goes to the others by the same rule. Each quota holds at least the
    part's pinned tokens. While an object is out of sight its tokens stay as they are, as long as they fit its quota.

    Attributes:
        exponent: 1 shares out by area, 0 equally; 0.5 is the square-root rule of Cohen and Shenker (2002).
    """

    exponent: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.exponent, int | float) or not 0 <= self.exponent <= 1:
            raise InputError(
                f"exponent of the quotas is {self.exponent!r}; give a number from 0 (equal) to 1 (by area)"
            )

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns what the inner policy keeps of each object's tokens."""
        room_beside_pins(memory, new, budget)
        old, arrived = owners(memory), owners(new)
        owner, born = torch.cat((old, arrived)), torch.cat((memory.born, new.born))
        pinned = torch.cat((memory.pinned, new.pinned))
        present, most = (each.tolist() for each in owner.unique(return_counts=True))
        least = torch.bincount(owner[pinned], minlength=present[-1] + 1)[present].tolist()
        weight = [float(extent) ** self.exponent for extent in extents(owner, born)[present].tolist()]
        quotas = shared_out(budget, weight, least, most)
        parts = [
            hand_over(self.inner, memory[of(old, one)], new[of(arrived, one)], quota)
            for one, quota in zip(present, quotas, strict=True)
        ]
        return in_order(parts)


def of(owner: Int64[Tensor, " N"], one: int) -> Int64[Tensor, " M"]:
    """Returns which tokens belong to one owner."""
    return torch.nonzero(owner == one)[:, 0]


def owners(tokens: Tokens) -> Int64[Tensor, " N"]:
    """Returns whom each token belongs to: 0 outside all objects, else the object's row + 1."""
    share, row = tokens.share.max(0)
    return torch.where(share >= LEAST_SHARE, row + 1, 0)


def extents(owner: Int64[Tensor, " N"], born: Int64[Tensor, " N"]) -> Int64[Tensor, " K1"]:
    """Returns the most tokens of one frame that belong to each owner."""
    frames, frame = born.unique(return_inverse=True)
    counts = torch.bincount(owner * len(frames) + frame, minlength=(int(owner.max()) + 1) * len(frames))
    return counts.view(-1, len(frames)).amax(1)
