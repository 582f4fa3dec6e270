"""Policies that keep whole, or almost whole, frames.

Every k-th frame forever (STM, STCN; thesis Fig. 8 top); the annotated frames and the latest (thesis Fig. 8 middle); the
most read and the most recent frames (RMem, Zhou et al. 2024); and the frames that differ most from one another
(READMem, Vujasinović et al. 2023).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import BudgetError, InputError
from mnemask.memory.policies.base import Policy, admit
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class KeepAll(Policy):
    """Keeps everything that was ever written; the memory grows with the video."""

    default_frames: float | None = None

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns memory and new together; raises BudgetError if they do not fit."""
        needed = len(memory) + len(new)
        if needed > budget:
            raise BudgetError(
                f"keep-all needs {needed} tokens but the budget is {budget}",
                "choose a policy that evicts, such as diverse",
            )
        return memory + new


@dataclass(frozen=True)
class FirstAndLatest(Policy):
    """Keeps the first annotated frame and the frame written last; writes every frame.

    The thesis (Fig. 8) does not specify what is kept of an object that is given later: here, the cells that it fills in
    that frame and a rim of one cell, which are pinned.
    """

    write_every: int = 1
    default_frames: float | None = None

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned part of memory, and as much of new as fits."""
        return memory[memory.pinned] + admit(memory, new, budget)


@dataclass(frozen=True)
class RestrictedMemory(Policy):
    """Keeps the new frame and those with the highest relevance + freshness; a frame is kept or dropped as a whole.

    Zhou, Pang and Wang, "RMem: Restricted Memory Banks Improve Video Object Segmentation", CVPR 2024. An upper
    confidence bound as for bandits: a frame's relevance is its share of the attention, its freshness √(2 log Σt / t),
    where t is the number of writes that it has been in memory for; the first frame and the new one stay. Here, as in
    the authors' release, freshness is 1.5 √(log Σt / (t + 8)), and attention is weighted by how much of a cell objects
    fill. Differences: this is the cell that is read, where the release weights by the cell that reads; attention is the
    mean softmax mass per processed frame since the write, where the release averages over the latest writes (moving
    average 0.8); the first frame's t is its age, where the release takes the number of frames; the default is 8 frames
    in total, where the release holds the first and 8 others; the first frame stays because it is annotated. Pinned
    tokens of a dropped frame stay.

    Args:
        freshness: the weight of freshness against relevance, 0 or more.
        patience: a constant added to t, above 0; a larger one makes less difference between new and old frames.

    Raises:
        InputError: if freshness or patience is out of range.
    """

    default_frames: float | None = 8.0
    freshness: float = 1.5
    patience: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.freshness >= 0 and self.patience > 0):
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


@dataclass(frozen=True)
class DiverseMemory(Policy):
    """Keeps the new frame and, of the others, the whole frames with the largest Gram determinant.

    Vujasinović et al., "READMem: Robust Embedding Association for a Diverse Memory in Unconstrained Video Object
    Segmentation", BMVC 2023. As there: the memory changes only if this increases the determinant of its frames'
    similarities, the annotated frames stay, and a frame whose similarity to them is below a bound is not worth keeping.
    Differences: the new frame always stays, apart from the others, and competes at the next write; the bound determines
    what is dropped first, and only if room is needed; and similarity. The paper associates the cells of two frames by
    their affinities, which is quadratic in the cells for each pair of frames. Here it is the cosine of Σ_p k_p k_pᵀ, k
    the keys minus their mean: Σ_pq (k_p · k_q)² over all pairs of cells of two frames. It does not depend on positions
    either, is linear in the cells, and is an inner product, so that the determinant is that of a Gram matrix.

    Args:
        least_similar: the bound, 0 to 1.
    """

    default_frames: float | None = 8.0
    least_similar: float = 0.5

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned tokens, the most diverse frames that fit whole, and new."""
        if not len(memory) or len(memory) + len(new) <= budget:
            return memory + admit(memory, new, budget)
        added, free = admit(memory, new, budget), ~memory.pinned
        room = budget - len(added) - int(memory.pinned.sum())
        steps, frame = torch.unique(memory.written_at, return_inverse=True)  # frame indices may repeat, steps do not
        gram = similarities(memory.key, frame, len(steps))
        annotated = torch.zeros_like(steps, dtype=torch.bool).index_fill(0, frame[memory.pinned], True)
        size = torch.bincount(frame[free], minlength=len(steps))
        present = torch.ones_like(annotated)
        while int(size[present].sum()) > room:
            left = torch.nonzero(present)[:, 0]
            present[left[self._least_needed(gram[left][:, left], annotated[left], size[left] > 0)]] = False
        return memory[memory.pinned | present[frame]] + added

    def _least_needed(self, gram: Float[Tensor, "F F"], annotated: Tensor, droppable: Tensor) -> int:
        """Returns the frame to drop: one below the bound, else the one without which the determinant is largest."""
        nearest = gram.masked_fill(~annotated, -torch.inf).amax(1)
        strange = droppable & (nearest < self.least_similar) & annotated.any()
        if bool(strange.any()):
            return int(nearest.masked_fill(~strange, torch.inf).argmin())
        # The determinant without row and column i is det(G) · (G⁻¹)_ii.
        without = torch.linalg.inv(gram + 1e-6 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).diagonal()
        return int(without.masked_fill(~droppable, -torch.inf).argmax())


def similarities(key: Float[Tensor, "N Ck"], frame: Int64[Tensor, " N"], num_frames: int) -> Float[Tensor, "F F"]:
    """Returns the similarity of each pair of frames, 0 to 1, which does not depend on positions."""
    centred = key - key.mean(0)
    moments = [(part := centred[frame == index]).T @ part for index in range(num_frames)]
    flat = F.normalize(torch.stack(moments).flatten(1).double(), dim=1)
    return flat @ flat.T
