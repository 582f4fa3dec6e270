"""Whether saved tokens can be what a tracker remembered: their types and shapes fit, but anybody can write numbers."""

import torch

from mnemask.memory.detail import WINDOWS
from mnemask.memory.tokens import Tokens

MOST_CELLS = 2**20  # of stride 16 in the largest frame
LARGEST_FRAME = 2**53  # beyond, JSON and float64 lose count


def unsound(
    tokens: Tokens,
    *,
    steps: int,
    num_cells: int | None,
    key_channels: int,
    value_channels: int,
    detail_bytes: int,
) -> str | None:
    """Returns what is wrong with tokens that were read from a file, for a sentence; None where nothing is.

    Args:
        tokens: whose tensors fit together.
        steps: the tracker's count of frames.
        num_cells: of its frames, None before the first. Tokens of an earlier video, whose frames are negative, may come
            from larger ones.
        key_channels: of the network.
        value_channels: of the network.
        detail_bytes: of a token, for the comparison at stride 8.
    """
    if tokens.key.shape[1] != key_channels or tokens.value.shape[2] != value_channels:
        return (
            f"keys of {tokens.key.shape[1]} and values of {tokens.value.shape[2]} channels, where the network has "
            f"{key_channels} and {value_channels}"
        )
    windows, channels = tokens.detail.shape[1:]
    if windows != WINDOWS or windows * channels * tokens.detail.element_size() != detail_bytes:
        return f"{windows} × {channels} numbers at stride 8 a token, where {detail_bytes} bytes are expected"
    if not len(tokens):
        return None
    ranges = {
        "cell": (tokens.cell, 0, MOST_CELLS - 1),
        "cell of this video": (tokens.cell[tokens.frame >= 0], 0, (num_cells or MOST_CELLS) - 1),
        "frame": (tokens.frame, -LARGEST_FRAME, LARGEST_FRAME),
        "born": (tokens.born, -LARGEST_FRAME, steps),
        "last_hit": (tokens.last_hit, -LARGEST_FRAME, steps),
        "hits": (tokens.hits, 0, LARGEST_FRAME),
        "mass": (tokens.mass, 0, LARGEST_FRAME),
        "share": (tokens.share, 0, 1 + 1e-3),
    }
    for name, (values, least, most) in ranges.items():
        if not values.numel():
            continue
        low, high = values.min().item(), values.max().item()
        if not least <= low <= high <= most:
            return f"{name} from {low:g} to {high:g}, where {least:g} to {most:g} are possible"
    if bool((tokens.born[1:] < tokens.born[:-1]).any()):
        return "tokens that are not in the order of writing"
    if not bool(torch.isfinite(tokens.key.square().sum(-1)).all()):
        return "keys too large to compare"
    if not bool(torch.isfinite(tokens.value).all()):
        return f"values too large for {str(tokens.value.dtype).removeprefix('torch.')}"
    return None
