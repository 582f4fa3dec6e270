"""An adaptive feature bank: new tokens are merged into similar ones, or else added (Liang et al. 2020)."""

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
    """Merges a new token into the nearest old one if they are similar; otherwise adds it and evicts the least used.

    Liang et al., "Video Object Segmentation with Adaptive Feature Bank and Uncertain-Region Refinement", NeurIPS 2020:
    tokens with a similarity above 0.95 are merged with rate 0.1, and the lowest count / age is evicted. Differences:
    several new tokens with the same nearest one are merged as their mean, with the weight 1 − (1 − rate)^n of n
    successive merges, where the authors' release mixes directions and keeps the old length; the count is the top-k
    count, where the paper counts close matches and the release the logarithm of their number; there is one bank for all
    objects and the background, where the release has one for each; similarity is based on L2 by default (`metric`);
    tokens merge only if they cover the same objects; pinned ones are neither changed nor evicted, so tokens similar to
    them are added. A merged token keeps its frame, cell, age and top-k count.

    Args:
        metric: "cosine", as in the paper, also merges keys of different length, which STCN's L2 affinity distinguishes.
            "l2" takes the nearest by L2 and compares 1 − |m − q|² / (|m|² + |q|²): the cosine for keys of equal length,
            closer to 0 for others, so that one threshold suits both.
        threshold: the similarity above which tokens merge.
        rate: the weight of the new token, above 0 and at most 1, otherwise InputError.
    """

    metric: Literal["l2", "cosine"] = "l2"
    threshold: float = 0.95
    rate: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate <= 1 or self.metric not in ("l2", "cosine"):
            raise InputError(
                f"{self} needs a rate above 0 and at most 1, and the metric l2 or cosine", "give 0.1 and l2"
            )

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most used tokens of memory, with similar new ones merged into them, and the other new ones."""
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
    """Returns the similarity of each pair of keys, −1 to 1, as [P]."""
    if metric == "cosine":
        return F.cosine_similarity(q, m, dim=-1)
    return 1 - key_energy(m - q) / (key_energy(m) + key_energy(q)).clamp_min(torch.finfo(q.dtype).tiny)


def merge(memory: Tokens, new: Tokens, into: Int64[Tensor, " P"], rate: float) -> Tokens:
    """Returns memory with each new token blended into the token at its place in `into`."""
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
