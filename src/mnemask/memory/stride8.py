"""What a cell looks like at stride 8, and how that refines a read (the thesis's future work: multi-scale affinity).

Keys compare cells of 16 × 16 pixels, at which two objects of one kind look the same. A token can also carry what the
key encoder saw of its cell's 2 × 2 windows of 8 × 8 pixels, and the k memories that a query found by their keys are
weighed anew by how well these match. Nothing is trained for it.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Float16
from torch import Tensor

from mnemask.memory.read import Reading, tile_bytes

WINDOWS = 4  # of a cell: 2 × 2
CHANNELS = 16  # what is kept of each window's 128 (ResNet-18) or 512 (ResNet-50)
DETAIL_BYTES = WINDOWS * CHANNELS * 2  # of a token
SEED = 0


def stride8_bytes(stride8_weight: int | float) -> int:
    """Returns the bytes that each token takes for the comparison at stride 8; none where reads are not refined."""
    return DETAIL_BYTES if stride8_weight else 0


def stride8_windows(stride8: Float[Tensor, "C8 h8 w8"]) -> Float16[Tensor, "P 4 D"]:
    """Returns what each cell's four windows look like; two windows of one frame are at squared distance 1 on average.

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
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(2, (channels, CHANNELS), generator=generator, device="cpu").float() * 2 - 1


def rerank(reading: Reading, query: Float[Tensor, "P 4 D"], memory: Float[Tensor, "N 4 D"], weight: float) -> Reading:
    """Returns the reading with `weight` × distance at stride 8 taken from each affinity; the memories stay the same.

    Args:
        reading: what was found at stride 16.
        query: the windows of each query's cell.
        memory: of each token's.
        weight: of the distance, from 0. Windows as unlike as two of one frame are on average divide by e^weight what
            a memory counts.
    """
    num_numbers = reading.index.shape[1] * WINDOWS * (2 * CHANNELS + 2 * WINDOWS)
    rows = max(1, tile_bytes(query.device) // (4 * num_numbers))
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
