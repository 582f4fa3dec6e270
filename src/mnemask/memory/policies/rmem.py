"""A few frames: those that are read most, and those that came last (RMem, Zhou et al. 2024)."""

from dataclasses import dataclass

import torch

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, admit
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class RestrictedMemory(Policy):
    """Keeps the new frame and those with the highest relevance + freshness; a frame is kept or dropped as a whole.

    Zhou, Pang and Wang, "RMem: Restricted Memory Banks Improve Video Object Segmentation", CVPR 2024. An upper
    confidence bound as for bandits: a frame's relevance is the part of the attention that it gets, its freshness
    √(2 log Σt / t), where t counts the writes that it has lived through; the first frame and the new one stay. Here, as
    in the authors' release, freshness is 1.5 √(log Σt / (t + 8)), and attention counts by how much of a cell is object.
    Different here: that is the cell that was read, where the release weighs the cell that reads; attention is the mean
    softmax mass per processed frame since the write, where the release averages over the latest writes; the first
    frame stays because it is annotated. Pinned tokens of a frame that is dropped stay.

    Args:
        freshness: the weight of freshness against relevance, 0 or more.
        patience: added to t; above 0. More of it tells new frames less from old ones.

    Raises:
        InputError: for a freshness or patience out of range.
    """

    default_frames: float | None = 8.0
    freshness: float = 1.5
    patience: float = 8.0

    def __post_init__(self) -> None:
        if self.freshness < 0 or self.patience <= 0:
            raise InputError(f"{self} has a negative freshness, or a patience that is not above 0", "give 1.5 and 8")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned tokens, the best frames that fit whole, and new."""
        if len(memory) + len(new) <= budget:
            return memory + new
        added, free = admit(memory, new, budget), ~memory.pinned
        steps, frame = torch.unique(memory.written_at, return_inverse=True)  # frame indices may repeat, steps do not
        age = (new.written_at[0] - steps).clamp_min(1).float()
        object_mass = memory.attention_mass * memory.mask_fraction.sum(0).clamp_max(1)
        attention = torch.zeros_like(steps, dtype=object_mass.dtype).index_add(0, frame, object_mass) / age
        relevance = attention / attention.sum().clamp_min(torch.finfo(attention.dtype).tiny)
        lived = 1 + age / self.write_every
        score = relevance + self.freshness * (lived.sum().log() / (lived + self.patience)).sqrt()

        worst_first = torch.argsort(score, stable=True)
        size = torch.bincount(frame[free], minlength=len(steps))[worst_first]
        rest = size.flip(0).cumsum(0).flip(0)  # tokens of each frame and all better ones
        kept = torch.empty_like(rest, dtype=torch.bool)
        kept[worst_first] = rest <= budget - len(added) - int(memory.pinned.sum())
        return memory[memory.pinned | kept[frame]] + added
