"""An adaptive feature bank: what is known already is refreshed, what is new is added (Liang et al. 2020)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, ages, make_room
from mnemask.memory.read import key_energy, read_top_k
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class AdaptiveFeatureBank(Policy):
    """Merges a new token into its nearest remembered one where they are alike; else adds it, and the least used goes.

    Liang et al., "Video Object Segmentation with Adaptive Feature Bank and Uncertain-Region Refinement", NeurIPS 2020:
    a similarity above 0.95 merges with rate 0.1, and count / age decides what goes. Different here: several new tokens
    with one nearest enter as their mean, with the weight 1 − (1 − rate)^n that n merges in a row have, where the
    authors' release mixes directions and keeps the old length; the count is the top-k count, where the paper counts
    close matches and the release the logarithm of their number; one bank for all objects and the background, where the
    release has one for each; likeness is L2's by default (`metric`); tokens merge only where they cover the same
    objects; pinned ones neither change nor go, so what is like them is added beside them. A merged token keeps its
    frame, cell, age and top-k count.

    Args:
        metric: "cosine", the paper's, merges keys of different length too, which the L2 affinity of STCN tells apart.
            "l2" takes the nearest by L2 and compares 1 − |m − q|² / (|m|² + |q|²): the cosine for keys of equal length,
            closer to 0 for others, so that one threshold serves both.
        threshold: the similarity above which tokens merge.
        rate: the weight of what is new, above 0 and at most 1, or InputError.
    """

    metric: Literal["l2", "cosine"] = "l2"
    threshold: float = 0.95
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1 or self.metric not in ("l2", "cosine"):
            raise InputError(
                f"{self} needs a rate above 0 and at most 1, and the metric l2 or cosine", "give 0.1 and l2"
            )

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most used of memory, refreshed, and what new has that memory has not."""
        alike, nearest = self._nearest(memory, new)
        merging = (alike > self.threshold) & ~new.pinned
        memory = merge(memory, new[merging], nearest[merging], self.rate)
        return make_room(memory, memory.topk_count / ages(memory, new), new[~merging], budget)

    def _nearest(self, memory: Tokens, new: Tokens) -> tuple[Float[Tensor, " P"], Int64[Tensor, " P"]]:
        # All tokens of a new frame cover the same objects: those that exist now.
        mates = torch.nonzero((memory.valid == new.valid[:, :1]).all(0) & ~memory.pinned)[:, 0]
        if not len(mates):
            return torch.full_like(new.attention_mass, -torch.inf), torch.zeros_like(new.written_at)
        key = memory.key[mates]
        nearest = read_top_k(new.key, key, key_energy(key), 1, self.metric).index[:, 0]
        return similarity(new.key, key[nearest], self.metric), mates[nearest]


def similarity(q: Float[Tensor, "P Ck"], m: Float[Tensor, "P Ck"], metric: Literal["l2", "cosine"]) -> Tensor:
    """Returns how alike the keys of each pair are, −1 to 1, as [P]."""
    if metric == "cosine":
        return F.cosine_similarity(q, m, dim=-1)
    return 1 - key_energy(m - q) / (key_energy(m) + key_energy(q)).clamp_min(torch.finfo(q.dtype).tiny)


def merge(memory: Tokens, new: Tokens, into: Int64[Tensor, " P"], rate: float) -> Tokens:
    """Returns memory with new tokens blended into those at these places."""
    place, row, count = torch.unique(into, return_inverse=True, return_counts=True)
    weight_of_old = ((1 - rate) ** count.float())[:, None]

    def blended(old: Float[Tensor, "*K N C"], fresh: Float[Tensor, "*K P C"]) -> Float[Tensor, "*K N C"]:
        here = old[..., place, :].float()
        mean = torch.zeros_like(here).index_add_(-2, row, fresh.float()).div_(count[:, None])
        return old.index_copy(-2, place, mean.lerp_(here, weight_of_old).to(old.dtype))

    key, value = blended(memory.key, new.key), blended(memory.value, new.value)
    return replace(
        memory,
        key=key,
        value=value,
        mask_fraction=blended(memory.mask_fraction[..., None], new.mask_fraction[..., None])[..., 0],
    )
