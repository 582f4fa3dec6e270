"""Reading the memory: how alike a query and a memory are, and the mixture of values that follows (thesis 3.3.2).

Training and inference call the same equations: training reads every token densely and differentiates, inference
reads the k most alike in tiles of bounded size.

Keys compare cells of 16 × 16 pixels, at which two objects of one kind look the same. A token can also carry what the
key encoder saw of its cell's 2 × 2 windows of 8 × 8 pixels, and the k memories that a query found by their keys are
weighed anew by how well these match (the thesis's future work: multi-scale affinity). Nothing is trained for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt
from typing import Literal

import torch
from jaxtyping import Float, Float16, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import InputError

Metric = Literal["l2", "dot", "cosine"]
AFFINITY_BYTES = 8 * 2**20  # of one tile of queries and memories; fits the caches of a CPU
GPU_AFFINITY_BYTES = 256 * 2**20  # 2 frames at 480 pixels take 21 MiB, and 32 take 336 MiB; each tile is some launches
TILE_COLUMNS = 2**15  # memories in a tile; with fewer, finding the k best takes longer, with more, the product does
FOLDS = 16
UNLIMITED = 2**62
MIN_KMN_SIGMA = 0.01  # of the shorter side: less than a third of a cell at 480 pixels
MAX_KMN_SIGMA = 1000.0
PLACE_BYTES = 2 * 3 * 4  # of the places of memories: three float32, in parts and joined
WINDOWS = 4  # of a cell: 2 × 2
CHANNELS = 16  # what is kept of each window's 128 (ResNet-18) or 512 (ResNet-50)
DETAIL_BYTES = WINDOWS * CHANNELS * 2  # of a token


def tile_bytes(device: torch.device, max_bytes: int | None = None) -> int:
    """Returns how many bytes of affinities a read holds at a time on a device: a GPU is fed with one tile, if it fits.

    Args:
        device: of the keys.
        max_bytes: of the whole memory, of which tiles take no more than a sixteenth on a GPU; None for no limit.
    """
    if device.type != "cuda":
        return AFFINITY_BYTES
    return max(AFFINITY_BYTES, min(GPU_AFFINITY_BYTES, (max_bytes or UNLIMITED) // 16))


def key_energy(key: Float[Tensor, "*B N Ck"]) -> Float[Tensor, "*B N"]:
    """Returns |m|² of each memory key, which the bank keeps so that a read need not compute it."""
    return key.square().sum(-1)


def temperature(key: Float[Tensor, "*B N Ck"]) -> float:
    """Returns √Ck, the temperature of the softmax over affinities, by which they are divided (thesis eq. 1)."""
    return sqrt(key.shape[-1])


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
    scale = temperature(query_key)
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
    weigh: Callable[[Tensor], Tensor] | None = None,
    kernel: "KMNKernel | None" = None,
) -> Float[Tensor, "*B P Cv"]:
    """Returns the weighted mean of all values at each query, by l2 affinities; differentiable.

    Affinities and weights are computed in the keys' precision, under autocast too; their product with the values is
    autocast's.

    Args:
        query_key: what looks.
        memory_key: what is looked through.
        memory_value: what is mixed, in any precision.
        weigh: turns affinities [*B P N] into weights; the softmax over memories by default. Its affinities are
            complete: the term that the softmax drops, −|q|² / √Ck, is in them.
        kernel: the KMN kernel; None to read anywhere. Its centres are an argmax, through which no gradient flows.
            Queries are then all cells of a frame, row by row.
    """
    with torch.autocast(query_key.device.type, enabled=False):
        alike = affinity(query_key, memory_key, key_energy(memory_key))
        if kernel is not None:
            alike = alike + kernel.on_affinities(query_key, memory_key, "l2")
        if weigh is None:
            weights = alike.softmax(-1)
        else:
            weights = weigh(alike - (key_energy(query_key) / temperature(query_key)).unsqueeze(-1))
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

    def gather(self, value: Float[Tensor, "R N Cv"]) -> Float[Tensor, "R P Cv"]:
        """Returns the weighted mean of the values of R objects; its cost does not grow with N."""
        count, num_tokens = value.shape[:2]
        index = self.index + num_tokens * torch.arange(count, device=value.device)[:, None, None]
        weight = self.weight.to(value.dtype).repeat(count, 1)
        found = F.embedding_bag(index.flatten(0, 1), value.flatten(0, 1), per_sample_weights=weight, mode="sum")
        return found.view(count, -1, found.shape[1])

    def objects_at_once(self, max_bytes: int | None = None) -> int:
        """Returns for how many objects one call gathers: a GPU takes as many as a tile's bytes hold, a CPU one.

        Args:
            max_bytes: of the whole memory, see `tile_bytes`.
        """
        if not self.index.is_cuda:
            return 1
        return max(1, tile_bytes(self.index.device, max_bytes) // (self.index.nbytes + self.weight.nbytes))


def check_kmn_sigma(kmn_sigma: object) -> None:
    """Raises InputError unless σ of a kernel can be this fraction of a frame's short side."""
    if (
        isinstance(kmn_sigma, bool)
        or not isinstance(kmn_sigma, int | float)
        or not (kmn_sigma == 0 or MIN_KMN_SIGMA <= kmn_sigma <= MAX_KMN_SIGMA)
    ):
        raise InputError(
            f"kmn_sigma is {kmn_sigma!r}",
            f"give 0, which disables the kernel, or a fraction of the frame's short side from {MIN_KMN_SIGMA} to "
            f"{MAX_KMN_SIGMA:.0f}, such as 0.2",
        )


def resolve_kmn_sigma(kmn_sigma: int | float | None, default: int | float) -> int | float:
    """Returns the σ that was asked for, or the network's own for None; raises InputError for an impossible one."""
    if kmn_sigma is None:
        return default
    check_kmn_sigma(kmn_sigma)
    return kmn_sigma


@dataclass(frozen=True, slots=True)
class KMNKernel:
    """Keeps each memory near the query that it fits best, so that what looks like it elsewhere does not read it.

    A memory's weight falls with the distance d of a query from the one most like it, by exp(−d² / 2σ²): the kernelized
    read of KMN (Seong, Hyun and Kim, "Kernelized Memory Network for Video Object Segmentation", ECCV 2020).
    Finding that query takes a second product of all queries and memories, and PLACE_BYTES of each memory for a while.

    Attributes:
        sigma: σ in cells, above 0.
        columns: cells in a row of the frame whose cells are the queries.
    """

    sigma: int | float
    columns: int

    @classmethod
    def from_sigma(cls, kmn_sigma: int | float, grid: tuple[int, int]) -> "KMNKernel | None":
        """Returns the kernel with this fraction of the short side of a grid (rows, columns) as σ, None for 0."""
        return cls(kmn_sigma * min(grid), grid[1]) if kmn_sigma else None

    def places(self, cell: Int64[Tensor, " P"]) -> Float[Tensor, "P 2"]:
        """Returns row and column of cells, in units of σ."""
        place = torch.stack((cell.div(self.columns, rounding_mode="floor"), cell % self.columns), dim=1)
        return place.to(torch.float32) / self.sigma

    def of_queries(self, query_key: Float[Tensor, "P Ck"]) -> Float[Tensor, "P 3"]:
        """Returns one factor of what is added to affinities; the other is `of_memories`.

        −d² / 2σ² = q·m − |m|²/2 − |q|²/2 with places q and m in units of σ; the last term is the same for all memories
        of a query, so the softmax over memories drops it, and a read leaves it out.
        """
        places = self.places(torch.arange(len(query_key), device=query_key.device))
        return F.pad(places, (0, 1), value=1)

    def of_memories(
        self,
        query_key: Float[Tensor, "P Ck"],
        memory_key: Float[Tensor, "N Ck"],
        metric: Metric,
        held: int = AFFINITY_BYTES,
    ) -> Float[Tensor, "N 3"]:
        """Returns the other factor, of the place where each memory fits best; `held` bytes are compared at a time."""
        energy = key_energy(query_key)
        rows = max(1, held // (4 * len(query_key)))
        near = []
        for part in memory_key.split(rows):
            _, fits_best = largest(affinity(part, query_key, energy, metric), 1)
            place = self.places(fits_best[:, 0])
            near.append(torch.cat((place, place.square().sum(1, keepdim=True) / -2), dim=1))
        return torch.cat(near)

    @torch.no_grad()
    def on_affinities(
        self, query_key: Float[Tensor, "*B P Ck"], memory_key: Float[Tensor, "*B N Ck"], metric: Metric
    ) -> Float[Tensor, "*B P N"]:
        """Returns −d² / 2σ², what is added to whole affinities."""
        if query_key.ndim > 2:
            clips = zip(query_key, memory_key, strict=True)
            return torch.stack([self.on_affinities(*clip, metric) for clip in clips])
        queries = self.of_queries(query_key)
        dropped = queries[:, :2].square().sum(1, keepdim=True) / 2
        added: Tensor = queries @ self.of_memories(query_key, memory_key, metric).T - dropped
        return added


def read_top_k(
    query_key: Float[Tensor, "P Ck"],
    memory_key: Float[Tensor, "N Ck"],
    energy: Float[Tensor, " N"],
    k: int,
    metric: Metric = "l2",
    kernel: KMNKernel | None = None,
    max_bytes: int | None = None,
) -> Reading:
    """Returns the k most alike memories of each query and their softmax weights.

    Queries and memories go through in tiles, so that no more than `tile_bytes` are held, however many there are.

    Args:
        query_key: of all cells of a frame, row by row where there is a kernel.
        memory_key: what is looked through.
        energy: |m|² of each memory.
        k: memories that each query reads; all if there are fewer.
        metric: how alike a query and a memory are.
        kernel: the KMN kernel; None to read anywhere.
        max_bytes: of the whole memory, see `tile_bytes`.
    """
    k = min(k, len(memory_key))
    held = tile_bytes(query_key.device, max_bytes)
    places = None
    if kernel is not None:
        places = kernel.of_queries(query_key), kernel.of_memories(query_key, memory_key, metric, held)
    # Tiles of one width: a narrow last one would cost as much as the others.
    widest = max(1, held // (4 * len(query_key))) if query_key.is_cuda else TILE_COLUMNS
    width = ceil(len(memory_key) / ceil(len(memory_key) / widest))
    height = max(1, held // (4 * width))
    values, indices = [], []
    for top in range(0, len(query_key), height):
        rows = slice(top, top + height)
        found = [
            largest(_tile(rows, slice(left, left + width), query_key, memory_key, energy, metric, places), k)
            for left in range(0, len(memory_key), width)
        ]
        best, index = found[0]
        if len(found) > 1:
            best, place = torch.cat([best for best, _ in found], dim=1).topk(k, dim=1)
            index = torch.cat([part + width * number for number, (_, part) in enumerate(found)], dim=1).gather(1, place)
        values.append(best)
        indices.append(index)
    # torch's softmax subtracts the maximum, so large keys do not overflow.
    return Reading(torch.cat(indices), torch.cat(values).softmax(-1))


def _tile(
    rows: slice,
    columns: slice,
    query_key: Float[Tensor, "P Ck"],
    memory_key: Float[Tensor, "N Ck"],
    energy: Float[Tensor, " N"],
    metric: Metric,
    places: tuple[Float[Tensor, "P C"], Float[Tensor, "N C"]] | None,
) -> Float[Tensor, "rows columns"]:
    """Returns the affinities of some queries and memories; `places` has the factors of the kernel, if there is one."""
    alike = affinity(query_key[rows], memory_key[columns], energy[columns], metric)
    return alike if places is None else alike.addmm_(places[0][rows], places[1][columns].T)


def largest(rows: Float[Tensor, "P N"], k: int) -> tuple[Float[Tensor, "P k"], Int64[Tensor, "P k"]]:
    """Returns the k largest numbers of each row, or all if there are fewer, largest first, and where they are.

    The columns are dealt out to groups of FOLDS. No number is among the k largest unless its group's maximum is among
    the k largest maxima, so only those k groups are searched; maxima are found faster than the largest k.
    """
    num_columns = rows.shape[1]
    groups = num_columns // FOLDS
    if groups < 8 * k or rows.is_cuda:  # whose topk needs no help
        best, index = rows.topk(min(k, num_columns), dim=1)
        return best, index
    folded = groups * FOLDS
    chosen = rows[:, :folded].unflatten(1, (FOLDS, groups)).amax(1).topk(k, dim=1, sorted=False).indices
    places = (chosen[:, None] + torch.arange(0, folded, groups, device=rows.device)[:, None]).flatten(1)
    rest = torch.arange(folded, num_columns, device=rows.device).expand(len(rows), -1)
    places = torch.cat((places, rest), dim=1)
    best, index = rows.gather(1, places).topk(k, dim=1)
    return best, places.gather(1, index)


def stride8_bytes(stride8_weight: int | float) -> int:
    """Returns the bytes that each token takes for the comparison at stride 8; none where reads are not refined."""
    return DETAIL_BYTES if stride8_weight else 0


def stride8_windows(stride8: Float[Tensor, "C8 h8 w8"]) -> Float16[Tensor, "P 4 D"]:
    """Returns a descriptor of each cell's four windows; two windows of one frame are at squared distance 1 on average.

    A random projection keeps distances approximately (Johnson and Lindenstrauss), for any network and without a file.
    Its result is standardised over the frame, so that it means the same for all networks, in any light.
    """
    height, width = stride8.shape[1] // 2, stride8.shape[2] // 2
    windows = stride8.float().flatten(1).T @ random_signs(len(stride8)).to(stride8.device)
    spread = (2 * windows.var(0, correction=0).sum()).sqrt()
    windows = (windows - windows.mean(0)) / spread.clamp_min(1e-12)
    grid: Tensor = windows.unflatten(0, (height, 2, width, 2)).transpose(1, 2)  # [h w 2 2 D]
    return grid.reshape(height * width, WINDOWS, CHANNELS).half()


@lru_cache
def random_signs(channels: int) -> Float[Tensor, "C8 D"]:
    """Returns the projection of so many channels, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, (channels, CHANNELS), generator=generator, device="cpu").float() * 2 - 1


def rerank(
    reading: Reading,
    query: Float[Tensor, "P 4 D"],
    memory: Float[Tensor, "N 4 D"],
    weight: float,
    max_bytes: int | None = None,
) -> Reading:
    """Returns the reading with `weight` × distance at stride 8 taken from each affinity; the memories stay the same.

    Args:
        reading: what was found at stride 16.
        query: the windows of each query's cell.
        memory: of each token's.
        weight: of the distance, from 0. Windows as unlike as two of one frame are on average divide by e^weight what
            a memory counts.
        max_bytes: of the whole memory, see `tile_bytes`.
    """
    num_numbers = reading.index.shape[1] * WINDOWS * (2 * CHANNELS + 2 * WINDOWS)
    rows = max(1, tile_bytes(query.device, max_bytes) // (4 * num_numbers))
    distance = [
        window_distance(windows.float(), memory[index].float())
        for windows, index in zip(query.split(rows), reading.index.split(rows), strict=True)
    ]
    return Reading(reading.index, (reading.weight.log() - weight * torch.cat(distance)).softmax(-1))


def window_distance(query: Float[Tensor, "P 4 D"], memory: Float[Tensor, "P k 4 D"]) -> Float[Tensor, "P k"]:
    """Returns the mean, over a query's windows, of the squared distance to the nearest window of each memory."""
    product = torch.einsum("psd,pktd->pkst", query, memory)
    nearest = (memory.square().sum(-1)[:, :, None] - 2 * product).amin(-1)  # [P k 4]
    return (nearest + query.square().sum(-1)[:, None]).mean(-1)
