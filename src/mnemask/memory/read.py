"""Reading the memory: the affinities of queries and memory keys, and the weighted means of values (thesis 3.3.2).

Training and inference use the same equations: training reads all tokens densely and differentiates, inference reads
the k tokens with the highest affinities in tiles of bounded size.

Keys describe cells of 16 × 16 pixels, at which two objects of the same kind look alike. A token can also carry the key
encoder's features of its cell's 2 × 2 windows of 8 × 8 pixels; the k tokens that a query found by their keys are then
re-weighted by how well these match (multi-scale affinity, the thesis's future work). This needs no training.
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
from mnemask.types import is_number

Metric = Literal["l2", "dot", "cosine"]
AFFINITY_BYTES = 8 * 2**20  # of one tile of queries and tokens; fits the caches of a CPU
GPU_AFFINITY_BYTES = 256 * 2**20  # 2 frames at 480 pixels take 21 MiB, 32 take 336 MiB; each tile is several launches
TILE_COLUMNS = 2**15  # tokens in a tile; with fewer, finding the k best takes longer, with more, the product does
FOLDS = 16
UNLIMITED = 2**62
MIN_KMN_SIGMA = 0.01  # of the short side: less than a third of a cell at 480 pixels
MAX_KMN_SIGMA = 1000.0
PLACE_BYTES = 2 * 3 * 4  # of a token's place: three float32, once in parts and once concatenated
WINDOWS = 4  # per cell: 2 × 2
CHANNELS = 16  # per window, projected from 128 (ResNet-18) or 512 (ResNet-50)
DETAIL_BYTES = WINDOWS * CHANNELS * 2  # per token


def tile_bytes(device: torch.device, max_bytes: int | None = None) -> int:
    """Returns how many bytes of affinities a read holds at a time on a device: on a GPU, one tile for all if it fits.

    Args:
        device: the device of the keys.
        max_bytes: the limit for the whole memory; a GPU tile takes at most a sixteenth, or 8 MiB. None for no limit.
    """
    if device.type != "cuda":
        return AFFINITY_BYTES
    return max(AFFINITY_BYTES, min(GPU_AFFINITY_BYTES, (max_bytes or UNLIMITED) // 16))


def key_energy(key: Float[Tensor, "*B N Ck"]) -> Float[Tensor, "*B N"]:
    """Returns |m|² of each memory key, which the bank keeps so that reads do not compute it."""
    return key.square().sum(-1)


def temperature(key: Float[Tensor, "*B N Ck"]) -> float:
    """Returns √Ck, the temperature by which affinities are divided before the softmax (thesis eq. 1)."""
    return sqrt(key.shape[-1])


def affinity(
    query_key: Float[Tensor, "*B P Ck"],
    memory_key: Float[Tensor, "*B N Ck"],
    energy: Float[Tensor, "*B N"],
    metric: Metric = "l2",
) -> Float[Tensor, "*B P N"]:
    """Returns the affinity of each query and each memory key, up to a constant per query.

    l2 (thesis eq. 1): −‖m − q‖² / √Ck = (2 m·q − |m|² − |q|²) / √Ck. The last term is the same for all tokens of a
    query, so the softmax over tokens drops it. dot: m·q / √Ck. cosine: m·q / (|m| |q|).
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

    Affinities and weights are computed in the keys' precision, even under autocast; their product with the values
    follows autocast.

    Args:
        query_key: the keys of the queries.
        memory_key: the keys of the tokens.
        memory_value: the values of the tokens, in any precision.
        weigh: a function from affinities [*B P N] to weights; by default the softmax over tokens. Its affinities are
            complete: they include the term that the softmax drops, −|q|² / √Ck.
        kernel: the KMN kernel; None for reads without it. Its centres are an argmax, through which no gradient flows.
            With it, the queries must be all cells of a frame, row by row.
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
    """The tokens that each query read.

    Attributes:
        index: the chosen tokens, those with the highest key affinity first.
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
        """Returns how many objects one call should gather: on a GPU as many as a tile's bytes hold, on a CPU one.

        Args:
            max_bytes: the limit for the whole memory, see `tile_bytes`.
        """
        if not self.index.is_cuda:
            return 1
        return max(1, tile_bytes(self.index.device, max_bytes) // (self.index.nbytes + self.weight.nbytes))


def check_kmn_sigma(kmn_sigma: object) -> None:
    """Raises InputError unless σ is 0, or a fraction of a frame's short side that a kernel can have."""
    if not is_number(kmn_sigma) or not (kmn_sigma == 0 or MIN_KMN_SIGMA <= kmn_sigma <= MAX_KMN_SIGMA):
        raise InputError(
            f"kmn_sigma is {kmn_sigma!r}",
            f"give 0, which disables the kernel, or a fraction of the frame's short side from {MIN_KMN_SIGMA} to "
            f"{MAX_KMN_SIGMA:.0f}, such as 0.2",
        )


def resolve_kmn_sigma(kmn_sigma: int | float | None, default: int | float) -> int | float:
    """Returns the given σ, or the network's default for None; raises InputError if it is out of range."""
    if kmn_sigma is None:
        return default
    check_kmn_sigma(kmn_sigma)
    return kmn_sigma


@dataclass(frozen=True, slots=True)
class KMNKernel:
    """Limits each token to queries near its best match, so that cells that look alike elsewhere do not read it.

    A token's weight falls with the distance d of a query from the one with the highest affinity, by exp(−d² / 2σ²): the
    kernelized read of KMN (Seong, Hyun and Kim, "Kernelized Memory Network for Video Object Segmentation", ECCV 2020).
    Finding that query takes a second product of all queries and tokens, and temporarily PLACE_BYTES per token.

    Attributes:
        sigma: σ in cells, above 0.
        columns: the number of columns in the grid of query cells.
    """

    sigma: int | float
    columns: int

    @classmethod
    def from_sigma(cls, kmn_sigma: int | float, grid: tuple[int, int]) -> "KMNKernel | None":
        """Returns the kernel whose σ is this fraction of the short side of a grid (rows, columns), None for 0."""
        return cls(kmn_sigma * min(grid), grid[1]) if kmn_sigma else None

    def places(self, cell: Int64[Tensor, " P"]) -> Float[Tensor, "P 2"]:
        """Returns row and column of cells, in units of σ."""
        place = torch.stack((cell.div(self.columns, rounding_mode="floor"), cell % self.columns), dim=1)
        return place.to(torch.float32) / self.sigma

    def of_queries(self, query_key: Float[Tensor, "P Ck"]) -> Float[Tensor, "P 3"]:
        """Returns the queries' factor of the term that is added to affinities; `of_memories` returns the other factor.

        −d² / 2σ² = q·m − |m|²/2 − |q|²/2 with places q and m in units of σ; the last term is the same for all tokens of
        a query, so the softmax over tokens drops it, and a read omits it.
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
        """Returns the tokens' factor, from the place of each one's best match; `held` limits the affinities' bytes."""
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
        """Returns −d² / 2σ², the term that is added to complete affinities."""
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
    """Returns the k tokens with the highest affinity to each query, and their softmax weights.

    Queries and tokens are processed in tiles, so that no more than `tile_bytes` of affinities are held at a time.

    Args:
        query_key: the keys of the queries; with a kernel, these are all cells of a frame, row by row.
        memory_key: the keys of the tokens.
        energy: |m|² of each token's key.
        k: the number of tokens that each query reads; all if there are fewer.
        metric: the metric of affinities.
        kernel: the KMN kernel; None for reads without it.
        max_bytes: the limit for the whole memory, see `tile_bytes`.
    """
    k = min(k, len(memory_key))
    held = tile_bytes(query_key.device, max_bytes)
    places = None
    if kernel is not None:
        places = kernel.of_queries(query_key), kernel.of_memories(query_key, memory_key, metric, held)
    # Tiles of equal width: a narrow last one would cost as much as the others.
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
    """Returns the affinities of some queries and tokens; `places` holds the factors of the kernel, if there is one."""
    alike = affinity(query_key[rows], memory_key[columns], energy[columns], metric)
    return alike if places is None else alike.addmm_(places[0][rows], places[1][columns].T)


def largest(rows: Float[Tensor, "P N"], k: int) -> tuple[Float[Tensor, "P k"], Int64[Tensor, "P k"]]:
    """Returns the k largest numbers of each row, or all if there are fewer, in descending order, and their columns.

    The columns are divided into groups of FOLDS. No number is among the k largest unless its group's maximum is among
    the k largest maxima, so only those k groups are searched; maxima are found faster than the largest k.
    """
    num_columns = rows.shape[1]
    groups = num_columns // FOLDS
    if groups < 8 * k or rows.is_cuda:  # a GPU's topk is fast enough
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
    """Returns the bytes that each token takes for the affinity at stride 8; 0 if reads are not refined."""
    return DETAIL_BYTES if stride8_weight else 0


def stride8_windows(stride8: Float[Tensor, "C8 h8 w8"]) -> Float16[Tensor, "P 4 D"]:
    """Returns descriptors of each cell's four windows, at a mean squared distance of 1 from each other in a frame.

    A random projection approximately preserves distances (Johnson and Lindenstrauss), for any network and without a
    file. Its result is standardised over the frame, so that distances are comparable for all networks, in any light.
    """
    height, width = stride8.shape[1] // 2, stride8.shape[2] // 2
    windows = stride8.float().flatten(1).T @ random_signs(len(stride8)).to(stride8.device)
    spread = (2 * windows.var(0, correction=0).sum()).sqrt()
    windows = (windows - windows.mean(0)) / spread.clamp_min(1e-12)
    grid: Tensor = windows.unflatten(0, (height, 2, width, 2)).transpose(1, 2)  # [h w 2 2 D]
    return grid.reshape(height * width, WINDOWS, CHANNELS).half()


@lru_cache
def random_signs(channels: int) -> Float[Tensor, "C8 D"]:
    """Returns the projection for a number of channels, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, (channels, CHANNELS), generator=generator, device="cpu").float() * 2 - 1


def rerank(
    reading: Reading,
    query: Float[Tensor, "P 4 D"],
    memory: Float[Tensor, "N 4 D"],
    weight: float,
    max_bytes: int | None = None,
) -> Reading:
    """Returns the reading with `weight` × distance at stride 8 subtracted from each affinity, for the same tokens.

    Args:
        reading: the reading at stride 16.
        query: the windows of each query's cell.
        memory: the windows of each token's cell.
        weight: the weight of the distance, from 0. At the mean distance between windows of one frame, the weight of a
            token is divided by e^weight.
        max_bytes: the limit for the whole memory, see `tile_bytes`.
    """
    num_numbers = reading.index.shape[1] * WINDOWS * (2 * CHANNELS + 2 * WINDOWS)
    rows = max(1, tile_bytes(query.device, max_bytes) // (4 * num_numbers))
    distance = [
        window_distance(windows.float(), memory[index].float())
        for windows, index in zip(query.split(rows), reading.index.split(rows), strict=True)
    ]
    return Reading(reading.index, (reading.weight.log() - weight * torch.cat(distance)).softmax(-1))


def window_distance(query: Float[Tensor, "P 4 D"], memory: Float[Tensor, "P k 4 D"]) -> Float[Tensor, "P k"]:
    """Returns the mean, over a query's windows, of the squared distance to the nearest window of each token."""
    product = torch.einsum("psd,pktd->pkst", query, memory)
    nearest = (memory.square().sum(-1)[:, :, None] - 2 * product).amin(-1)  # [P k 4]
    return (nearest + query.square().sum(-1)[:, None]).mean(-1)
