"""Masks on the wire as runs: exact, small, and a few lines to read in any language.

Labels of a frame: little-endian uint32 width, height, then a pair of id and length for each run, row by row.
A mask that the page sends: width, height, then lengths that alternate between outside and inside, outside first.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor

import mnemask as mm


def labels_to_bytes(labels: Int32[Tensor, "H W"]) -> bytes:
    """Returns the runs of a frame's labels."""
    height, width = labels.shape
    flat = labels.cpu().numpy().ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    runs = np.stack([flat[starts], lengths], axis=1).astype("<u4")
    return np.array([width, height], "<u4").tobytes() + runs.tobytes()


def mask_from_bytes(data: bytes, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Returns the mask that the page sent; raises InputError for anything that is no mask of this height and width."""
    height, width = size
    values = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.int64)
    lengths = values[2:]
    if len(data) % 4 or values[:2].tolist() != [width, height] or lengths.sum() != height * width:
        raise mm.InputError(f"the data is no mask of {width}x{height} pixels", "reload the page")
    inside = np.arange(len(lengths)) % 2 == 1
    return torch.from_numpy(np.repeat(inside, lengths).reshape(height, width))
