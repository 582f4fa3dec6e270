"""A policy that was tried: keeps the tokens without which reads go wrong (condensed nearest neighbours, Hart 1968)."""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from mnemask.memory.policies.base import keep_best, room_beside_pins
from mnemask.memory.policies.diverse import Diverse
from mnemask.memory.policies.wrappers import owners
from mnemask.memory.read import AFFINITY_BYTES, key_energy, read_top_k
from mnemask.memory.tokens import Tokens

FAR = 50.0  # any distance from which on a weight of exp(−distance) is negligible


@dataclass(frozen=True)
class Condensed(Diverse):
    """Evicts the tokens that others stand in for best; a new frame's tokens compete like all others.

    A read is a vote of nearest neighbours, and most tokens never decide it: one token of the sky is as good as ten, and
    no query confuses it with the object. A query equal to a token reads the nearest token of another owner with weight
    exp(−other), the token itself with exp(0) and, without it, its nearest senior of the same owner with exp(−same);
    distances are |m − n|² / √Ck. So without the token the wrong part of the read grows from σ(−other) to
    σ(same − other), σ being the logistic function; the difference is the token's worth. Tokens that are repeated, or
    far from any other owner, are evicted; tokens near the boundary between objects, their doubles and the background
    stay, hidden or not, from whatever frame. How often a token was read does not matter. Seniors are pinned tokens and
    newer ones, and within one frame those at later positions, so that of similar tokens the newest stays. The same part
    of the first annotated frame is pinned as in `Diverse`.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens of both that are needed most."""
        room_beside_pins(memory, new, budget)
        both = memory + new
        return both if len(both) <= budget else keep_best(both, worth(both), budget)


def worth(tokens: Tokens) -> Float64[Tensor, " N"]:
    """Returns by how much the wrong part of a read at each token grows without that token, 0 to 1."""
    owner, place = owners(tokens), torch.arange(len(tokens), device=tokens.key.device)
    seniors_first = torch.cat((place[tokens.pinned], place[~tokens.pinned].flip(0)))
    known = tokens.valid.sum(0)
    change = torch.empty_like(tokens.attention_mass, dtype=torch.float64)  # distinguishes exp(-49) from exp(-50)
    for one in owner.unique():
        mine, others = seniors_first[owner[seniors_first] == one], place[owner != one]
        same = to_nearest_before(tokens.key[mine], known[mine]).double().clamp(0, FAR)
        other = to_nearest(tokens.key[mine], tokens.key[others]).double().clamp(0, FAR)
        change[mine] = (same - other).sigmoid() - (-other).sigmoid()
    return change


def to_nearest(key: Float[Tensor, "M Ck"], among: Float[Tensor, "N Ck"]) -> Float[Tensor, " M"]:
    """Returns the distance of each key's nearest neighbour, in units of the affinity; infinity if there is none."""
    if not len(among):
        return torch.full_like(key[:, 0], torch.inf)
    nearest = among[read_top_k(key, among, key_energy(among), 1).index[:, 0]]
    return key_energy(key - nearest) / sqrt(key.shape[1])


def to_nearest_before(key: Float[Tensor, "M Ck"], known: Int64[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Returns the distance of the nearest of the keys before each key; infinity if there is none.

    Keys that cover fewer objects, because they are older than one of them, do not count. `known` is the number of
    objects that each covers.
    """
    energy, nearest, rows = key_energy(key), [], max(1, AFFINITY_BYTES // (4 * len(key)))
    for start, end in ((start, min(start + rows, len(key))) for start in range(0, len(key), rows)):
        apart = torch.addmm(energy[:end], key[start:end], key[:end].T, alpha=-2)
        apart[:, start:].masked_fill_(torch.ones_like(apart[:, start:], dtype=torch.bool).triu(), torch.inf)
        if bool(known[:end].min() < known[start:end].max()):
            apart.masked_fill_(known[:end] < known[start:end, None], torch.inf)
        nearest.append(apart.amin(1) + energy[start:end])
    return torch.cat(nearest) / sqrt(key.shape[1])
