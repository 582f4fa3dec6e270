"""Old frames consolidated into a few prototypes (XMem, Cheng and Schwing 2022)."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, admit, ages
from mnemask.memory.read import AFFINITY_BYTES, read_dense
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class Prototypes(Policy):
    """Keeps whole frames until the memory is full, then selects prototypes from the old ones and evicts the rest.

    Cheng and Schwing, "XMem: Long-Term Video Object Segmentation with an Atkinson-Shiffrin Memory Model", ECCV 2022.
    As there: the annotated frame and the most recent ones stay whole; of the others, the candidates, the most used
    tokens (softmax mass / age) become prototypes; each keeps its key, and its new value is its readout from all
    candidates (potentiation; for each object from those that cover it); the least used prototypes make room for new
    ones. Differences: sizes are shares of the budget instead of counts (XMem: 5 to 10 frames, 10,000 prototypes, 128 of
    them from 8,100 candidates), the room of missing prototypes is used by whole frames, usage is not reset by the
    consolidation, and tokens that late objects cannot read may be evicted too. A frame is whole while more than half
    of its cells are in memory; unpinned tokens of others are prototypes. Pinned and new tokens come before the shares.

    Args:
        recent: share of the budget for whole frames once the memory has been full, including annotated and new ones.
        long_term: largest share for prototypes; together with `recent`, at most 1.
        prototypes: fraction of the candidates that become prototypes. A negative share raises InputError.
    """

    default_frames: float | None = 8.0
    recent: float = 0.5
    long_term: float = 0.38
    prototypes: float = 1 / 64

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.recent, self.long_term, self.prototypes)
        if not (all(share >= 0 for share in shares) and self.recent + self.long_term <= 1):
            raise InputError(f"{self} has a negative share, or recent + long_term above 1", "give other shares")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns all tokens if they fit, else the annotated and recent frames, new, and prototypes of the others."""
        if len(memory) + len(new) <= budget:
            return memory + new
        added = admit(memory, new, budget)
        free, first = ~memory.pinned, int(memory.pinned.sum()) + len(added)
        _, frame, size = torch.unique(memory.written_at, return_inverse=True, return_counts=True)
        size_free = torch.bincount(frame[free], minlength=len(size))
        whole = 2 * size > len(new)
        newest = (size_free * whole).flip(0).cumsum(0).flip(0)  # tokens of each whole frame and of all after it
        recent = whole & (newest <= int(self.recent * budget) - first)
        candidate = free & (whole & ~recent)[frame]

        room = min(int(self.long_term * budget), budget - first)
        use = memory.attention_mass / ages(memory, new)
        chosen = most_used(use, candidate, min(room, int(self.prototypes * int(candidate.sum()) + 1)))
        older = most_used(use, free & ~whole[frame], room - int(chosen.sum()))
        kept = memory.pinned | recent[frame] | chosen | older
        return potentiated(memory, chosen, candidate)[kept] + added


def most_used(use: Float[Tensor, " N"], among: Bool[Tensor, " N"], count: int) -> Bool[Tensor, " N"]:
    """Returns which `count` of `among` are used most; newer ones win ties."""
    order = torch.argsort(use.masked_fill(~among, -torch.inf), stable=True)
    return torch.zeros_like(among).index_fill(0, order[max(0, len(order) - count) :], True) & among


def potentiated(memory: Tokens, chosen: Bool[Tensor, " N"], candidate: Bool[Tensor, " N"]) -> Tokens:
    """Returns memory with the values of the chosen tokens replaced by their readouts from the candidates."""
    value = memory.value.clone()
    chunk = max(1, AFFINITY_BYTES // (4 * len(memory) + 1))
    for row, valid in enumerate(memory.valid):
        source = candidate & valid
        for places in torch.nonzero(chosen & valid)[:, 0].split(chunk):
            value[row, places] = read_dense(memory.key[places], memory.key[source], memory.value[row, source])
    return replace(memory, value=value)
