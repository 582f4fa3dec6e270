"""The frames that differ most from one another (READMem, Vujasinović et al. 2023)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.memory.policies.base import Policy, admit
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class DiverseMemory(Policy):
    """Keeps the new frame and, of the others, whole frames whose Gram determinant is largest.

    Vujasinović et al., "READMem: Robust Embedding Association for a Diverse Memory in Unconstrained Video Object
    Segmentation", BMVC 2023. As there: the memory changes only where that makes the determinant of its frames'
    similarities grow, the annotated frames stay, and a frame less similar to them than a bound is not worth keeping.
    Different here: the new frame always stays, apart from the others, and competes when the next one comes; the bound
    decides what goes first, and only where room is needed; and similarity. The paper associates the cells of two frames
    by their affinities, which is quadratic in the cells for each pair of frames. Here it is the cosine of Σ_p k_p k_pᵀ,
    k the keys less their mean: Σ_pq (k_p · k_q)² over all pairs of cells of two frames, which does not ask where things
    are either, is linear in the cells, and is an inner product, so that the determinant is one of a Gram matrix.

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
        """Returns the frame to drop: one below the bound, or the one without which the determinant is largest."""
        nearest = gram.masked_fill(~annotated, -torch.inf).amax(1)
        strange = droppable & (nearest < self.least_similar) & annotated.any()
        if bool(strange.any()):
            return int(nearest.masked_fill(~strange, torch.inf).argmin())
        # The determinant without row and column i is det(G) · (G⁻¹)_ii.
        without = torch.linalg.inv(gram + 1e-6 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)).diagonal()
        return int(without.masked_fill(~droppable, -torch.inf).argmax())


def similarities(key: Float[Tensor, "N Ck"], frame: Int64[Tensor, " N"], num_frames: int) -> Float[Tensor, "F F"]:
    """Returns how similar each two frames are, 0 to 1, wherever things are in them."""
    centred = key - key.mean(0)
    moments = [(part := centred[frame == index]).T @ part for index in range(num_frames)]
    flat = F.normalize(torch.stack(moments).flatten(1).double(), dim=1)
    return flat @ flat.T
