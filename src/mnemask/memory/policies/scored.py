"""Policies that give each token a score and keep the best ones.

By use: `LFU` evicts the tokens used least often for their age (thesis 3.3.4), `AttentionMass` by softmax weights
instead of top-k counts (thesis Table 4, Fig. 10), `LeastRecentlyUsed` those unused for longest (Mattson et al.,
*Evaluation techniques for storage hierarchies*, 1970). By age: `Fifo` (Belady, *A study of replacement algorithms*,
1966), which with pinned annotated frames is the memory of SAM 2 (Ravi et al. 2024, section 4): the prompted frames and
a queue of the most recent ones. By chance: `RandomEviction`, the baseline that any rule has to beat (for video RMem,
Zhou et al. 2024).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, ages, make_room
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class LFU(Policy):
    """Evicts the least frequently used tokens, LFU = index / age, to make room for a frame.

    index: how many (query, top-k slot) pairs chose the token since it was written; one counter for all objects.
    age: frames processed since it was written, at least 1.
    Only as many tokens are evicted as the new frame needs, before it is added; ties oldest first, then by position;
    nothing is merged. `pin=False` is the thesis: the first frame may be evicted like any other. `pin=True` protects
    annotated frames.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most used tokens of memory, and new."""
        return make_room(memory, memory.topk_count / ages(memory, new), new, budget)


@dataclass(frozen=True)
class AttentionMass(Policy):
    """Evicts the tokens with the lowest index / age, to make room for a frame.

    index: sum of the softmax weights that the token was read with since it was written; one sum for all objects.
    age: frames processed since it was written, at least 1.
    Everything else is as in `LFU`. The weights favour the few closest of the k tokens, so that a token that once
    dominated outlives its use; the thesis finds this policy worse. `pin=False` is the thesis.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens of memory that were read with the most weight, and new."""
        return make_room(memory, memory.attention_mass / ages(memory, new), new, budget)


@dataclass(frozen=True)
class LeastRecentlyUsed(Policy):
    """Evicts the tokens that have been in no query's top k for longest; ties oldest first, then by position.

    A token that was never read counts from the frame it was written in. With top-k reads of every cell, most useful
    tokens are read in the very last frame, so ties are common with a small budget.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most recently read tokens of memory, and new."""
        return make_room(memory, memory.last_used, new, budget)


@dataclass(frozen=True)
class Fifo(Policy):
    """Evicts the tokens that were written longest ago, in one frame from the top left on; usage does not count.

    The order is that of steps, not of frame indices, which decrease when a video is tracked backwards.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most recent tokens of memory, and new."""
        return make_room(memory, memory.written_at, new, budget)


MASK = 2**31 - 1


@dataclass(frozen=True)
class RandomEviction(Policy):
    """Evicts the tokens with the lowest priority, a fixed random number of each token.

    The number is a hash of the seed, the source frame and the cell, so that runs are reproducible and the order of
    eviction does not depend on the other tokens. Since priorities never change, the memory is a uniform sample of all
    tokens ever written (reservoir sampling, Vitter 1985), not one that favours recent frames.

    Attributes:
        seed: chooses the priorities, 0 to 2³¹ − 1.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MASK:
            raise InputError(f"seed is {self.seed!r}", f"give a whole number from 0 to {MASK}")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens of memory with the highest priority, and new."""
        seeds = torch.full_like(memory.frame, self.seed)
        return make_room(memory, mixed(mixed(mixed(seeds) ^ memory.frame) ^ memory.cell), new, budget)


def mixed(number: Int64[Tensor, " N"]) -> Int64[Tensor, " N"]:
    """Returns a one-to-one hash of numbers from 0 to 2³¹ − 1, in which each bit depends on all bits of the input.

    Odd factors below 2³¹ keep the products within int64, whose overflow is not defined.
    """
    number = number & MASK
    for factor in (0x7FEB352D, 0x2C1B3C6D):
        number = ((number ^ (number >> 16)) * factor) & MASK
    return number ^ (number >> 15)
