"""One memory of each thing, of whatever frame: what something newer resembles goes (the project's own)."""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, keep_best, room_beside_pins
from mnemask.memory.policies.per_object import owners
from mnemask.memory.read import AFFINITY_BYTES, key_energy
from mnemask.memory.tokens import Tokens

HALF_A_PIXEL = 0.5 / 16**2  # of a cell
GRID = 2


@dataclass(frozen=True)
class Distinct(Policy):
    """Evicts the tokens that are most like a newer or a pinned one; a new frame's tokens compete like all others.

    Every fifth frame says much the same as the one before, and a read that finds ten memories of one sky is none the
    wiser: two frames' worth of features suffice for what is distinct in all of them. A token is worth
    |m − s|² / √Ck, s the key of its nearest senior, on the scale on which a read compares keys. Seniors are pinned
    tokens and newer ones, in one frame those further on; so of what is alike the newest stays, and no frame comes in or
    goes as a whole. Of the first annotated frame only a part is pinned: its objects, the cells around them, and each
    second cell both ways of the rest.

    Attributes:
        objects: how many times as much a token of an object is worth, above 0. A video shows more background than
            objects, but is read for the objects.
    """

    objects: float = 2.0

    def __post_init__(self) -> None:
        if isinstance(self.objects, bool) or not isinstance(self.objects, int | float) or not self.objects > 0:
            raise InputError(f"objects are worth {self.objects!r} times as much; give a number above 0, such as 2")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most distinct tokens of both."""
        room_beside_pins(memory, new, budget)
        both = memory + new
        if len(both) <= budget:
            return both
        worth = distances_to_seniors(both)
        return keep_best(both, torch.where(owners(both) > 0, self.objects * worth, worth), budget)

    def pinned_part(self, share: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns the cells in and around objects, and a grid of the others."""
        shown = (share > HALF_A_PIXEL).any(0)
        part = F.max_pool2d(shown.float()[None], 3, stride=1, padding=1)[0] > 0
        part[::GRID, ::GRID] = True
        return part


def distances_to_seniors(tokens: Tokens) -> Float[Tensor, " N"]:
    """Returns the affinity lost where each token's nearest senior is read in its stead; infinity where there is none.

    A senior that does not cover all of its objects, such as a pinned one from before an object appeared, is none.
    """
    key, energy, place = tokens.key, key_energy(tokens.key), torch.arange(len(tokens), device=tokens.key.device)
    rank = place.masked_fill(tokens.pinned, len(tokens))
    known = tokens.covers.sum(0)  # an object is covered by all tokens since it appeared
    nearest = []
    for here in place.split(max(1, AFFINITY_BYTES // (4 * len(tokens)))):
        apart = torch.addmm(energy, key[here], key.T, alpha=-2)
        apart.masked_fill_((rank <= here[:, None]) | (known < known[here, None]), torch.inf)
        nearest.append(apart.amin(1) + energy[here])
    return torch.cat(nearest) / sqrt(key.shape[1])
