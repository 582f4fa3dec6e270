"""Reading the memory: how alike a query and a memory are, and the mixture of values that follows (thesis 3.3.2).

Training and inference call the same equations: training reads every token densely and differentiates, inference
reads the k most alike in tiles of bounded size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

Metric = Literal["l2", "dot", "cosine"]
AFFINITY_BYTES = 8 * 2**20  # of one tile of queries and memories; fits the caches of a CPU
TILE_COLUMNS = 2**15  # memories in a tile; with fewer, finding the k best takes longer, with more, the product does
FOLDS = 16


def key_energy(key: Float[Tensor, "*B N Ck"]) -> Float[Tensor, "*B N"]:
    """Returns |m|² of each memory key, which the bank keeps so that a read need not compute it."""
    return key.square().sum(-1)


def affinity(
    query_key: Float[Tensor, "*B P Ck"],
    memory_key: Float[Tensor, "*B N Ck"],
    energy: Float[Tensor, "*B N"],
    metric: Metric = "l2",
) -> Float[Tensor, "*B P N"]:
    """Returns how alike each query and each memory are, up to a constant per query.

    l2 (thesis eq. 1): −‖m − q‖² / √Ck = (2 m·q − |m|² − |q|²) / √Ck. The last term is the same for all memories of a
    query, so the softmax over memories drops it. dot: m·q / √Ck. cosine: m·q / (|m| |q|).
    """
    scale = sqrt(query_key.shape[-1])
    if metric == "cosine":
        query_key = F.normalize(query_key, dim=-1)
        return query_key @ F.normalize(memory_key, dim=-1).transpose(-1, -2)
    if metric == "dot":
        return (query_key / scale) @ memory_key.transpose(-1, -2)
    # In place: the affinities are the largest tensor of a read, and a budget counts each copy of them.
    return ((query_key * (2 / scale)) @ memory_key.transpose(-1, -2)).sub_((energy / scale).unsqueeze(-2))


def read_dense(
    query_key: Float[Tensor, "*B P Ck"],
    memory_key: Float[Tensor, "*B N Ck"],
    memory_value: Float[Tensor, "*B N Cv"],
    metric: Metric = "l2",
    weigh: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*B P Cv"]:
    """Returns the weighted mean of all values at each query; differentiable.

    Affinities and weights are computed in the keys' precision, under autocast too; their product with the values is
    autocast's.

    Args:
        query_key: what looks.
        memory_key: what is looked through.
        memory_value: what is mixed, in any precision.
        metric: how alike a query and a memory are.
        weigh: turns affinities [*B P N] into weights; the softmax over memories by default. Its l2 affinities are
            complete: the term that the softmax drops, −|q|² / √Ck, is in them.
    """
    with torch.autocast(query_key.device.type, enabled=False):
        alike = affinity(query_key, memory_key, key_energy(memory_key), metric)
        if weigh is None:
            weights = alike.softmax(-1)
        else:
            if metric == "l2":
                alike = alike - (key_energy(query_key) / sqrt(query_key.shape[-1])).unsqueeze(-1)
            weights = weigh(alike)
    return weights.to(memory_value.dtype) @ memory_value


@dataclass(frozen=True, slots=True)
class Reading:
    """What a query read.

    Attributes:
        index: the tokens it chose, those with the most alike keys first.
        weight: the softmax weight of each; sums to 1 over k.
    """

    index: Int64[Tensor, "P k"]
    weight: Float[Tensor, "P k"]

    def gather(self, value: Float[Tensor, "N Cv"]) -> Float[Tensor, "P Cv"]:
        """Returns the weighted mean of the chosen values; its cost does not grow with N."""
        return F.embedding_bag(self.index, value, per_sample_weights=self.weight.to(value.dtype), mode="sum")


def read_top_k(
    query_key: Float[Tensor, "P Ck"],
    memory_key: Float[Tensor, "N Ck"],
    energy: Float[Tensor, " N"],
    k: int,
    metric: Metric = "l2",
) -> Reading:
    """Returns the k most alike memories of each query and their softmax weights.

    Queries and memories go through in tiles, so that no more than AFFINITY_BYTES are held, however many there are.
    """
    k = min(k, len(memory_key))
    # Tiles of one width: a narrow last one would cost as much as the others.
    columns = ceil(len(memory_key) / ceil(len(memory_key) / TILE_COLUMNS))
    rows = max(1, AFFINITY_BYTES // (4 * columns))
    tiles = list(zip(memory_key.split(columns), energy.split(columns), strict=True))
    values, indices = [], []
    for queries in query_key.split(rows):
        found = [largest(affinity(queries, key, squared, metric), k) for key, squared in tiles]
        best, index = found[0]
        if len(found) > 1:
            best, place = torch.cat([best for best, _ in found], dim=1).topk(k, dim=1)
            index = torch.cat([part + columns * tile for tile, (_, part) in enumerate(found)], dim=1).gather(1, place)
        values.append(best)
        indices.append(index)
    # torch's softmax subtracts the maximum, so large keys do not overflow.
    return Reading(torch.cat(indices), torch.cat(values).softmax(-1))


def largest(rows: Float[Tensor, "P N"], k: int) -> tuple[Float[Tensor, "P k"], Int64[Tensor, "P k"]]:
    """Returns the k largest numbers of each row, or all if there are fewer, largest first, and where they are.

    The columns are dealt out to groups of FOLDS. No number is among the k largest unless its group's maximum is among
    the k largest maxima, so only those k groups are searched; maxima are found faster than the largest k.
    """
    num_columns = rows.shape[1]
    groups = num_columns // FOLDS
    if groups < 8 * k:
        best, index = rows.topk(min(k, num_columns), dim=1)
        return best, index
    folded = groups * FOLDS
    chosen = rows[:, :folded].unflatten(1, (FOLDS, groups)).amax(1).topk(k, dim=1, sorted=False).indices
    places = (chosen[:, None] + torch.arange(0, folded, groups, device=rows.device)[:, None]).flatten(1)
    rest = torch.arange(folded, num_columns, device=rows.device).expand(len(rows), -1)
    places = torch.cat((places, rest), dim=1)
    best, index = rows.gather(1, places).topk(k, dim=1)
    return best, places.gather(1, index)
