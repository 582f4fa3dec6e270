"""Random eviction, the baseline that any rule has to beat (Belady 1966; in video RMem, Zhou et al. 2024)."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, make_room
from mnemask.memory.tokens import Tokens

MASK = 2**31 - 1


@dataclass(frozen=True)
class RandomEviction(Policy):
    """Evicts the tokens of the lowest priority, a random number that each has for good.

    The number is a hash of the seed, the source frame and the cell, so that runs repeat and the order of eviction does
    not depend on what else is remembered. Since priorities never change, what is left of the past is a uniform sample
    of all that was ever written (reservoir sampling, Vitter 1985), not one that favours recent frames.

    Attributes:
        seed: chooses the priorities, 0 to 2³¹ − 1.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MASK:
            raise InputError(f"seed is {self.seed!r}; give a whole number from 0 to {MASK}")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens of memory with the highest priority, and new."""
        seeds = torch.full_like(memory.frame, self.seed)
        return make_room(memory, mixed(mixed(mixed(seeds) ^ memory.frame) ^ memory.cell), new, budget)


def mixed(number: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """Returns numbers from 0 to 2³¹ − 1 in which each bit depends on all of the given ones, one to one.

    Odd factors below 2³¹ keep the products within int64, whose overflow is not defined.
    """
    number = number & MASK
    for factor in (0x7FEB352D, 0x2C1B3C6D):
        number = ((number ^ (number >> 16)) * factor) & MASK
    return number ^ (number >> 15)
