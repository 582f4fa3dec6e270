"""Where the tokens in memory come from, and which tokens a pixel was read from, as arrays that outlive the memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from torch import Tensor

from mnemask.errors import CheckpointError, InputError
from mnemask.memory.storage import load_bank
from mnemask.memory.tokens import CellGrid, Tokens
from mnemask.types import is_whole


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """The origin and the usage of N tokens, oldest write first.

    Attributes:
        grid: the grid of a frame's cells.
        frame: index of the source frame in the video.
        cell: position in the source frame's grid, row by row.
        topk_count: how often a query chose it among its top k.
        attention_mass: sum of the softmax weights it was read with.
        age: frames processed since it was written.
        mask_fraction: how much of the cell each object fills, 0 to 1; objects in the order of `Tracker.object_ids`.
        pinned: whether it is never evicted.
    """

    grid: CellGrid
    frame: Int64[np.ndarray, " N"]
    cell: Int64[np.ndarray, " N"]
    topk_count: Int64[np.ndarray, " N"]
    attention_mass: Float32[np.ndarray, " N"]
    age: Int64[np.ndarray, " N"]
    mask_fraction: Float32[np.ndarray, "K N"]
    pinned: Bool[np.ndarray, " N"]

    @classmethod
    def from_tokens(cls, tokens: Tokens, grid: CellGrid, step: int) -> "Provenance":
        """Returns the provenance of tokens.

        Args:
            tokens: the tokens of at least one object; those that a warm start brought from another video are left out.
            grid: the grid of their frames.
            step: the tracker's count of frames, from which ages are counted.
        """
        tokens = of_this_video(tokens)
        return cls(
            grid=grid,
            frame=array(tokens.frame),
            cell=array(tokens.cell),
            topk_count=array(tokens.topk_count),
            attention_mass=array(tokens.attention_mass),
            age=array(step - tokens.written_at),
            mask_fraction=array(tokens.mask_fraction.float()),
            pinned=array(tokens.pinned),
        )

    @classmethod
    def empty(cls, grid: CellGrid, num_objects: int = 0) -> "Provenance":
        """Returns the provenance of no tokens."""
        none = np.zeros(0, np.int64)
        mask_fraction = np.zeros((num_objects, 0), np.float32)
        return cls(grid, none, none, none, none.astype(np.float32), none, mask_fraction, none.astype(bool))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def row(self) -> Int64[np.ndarray, " N"]:
        """Row of each cell in its frame's grid."""
        return self.cell // self.grid.shape[1]

    @property
    def column(self) -> Int64[np.ndarray, " N"]:
        """Column of each cell in its frame's grid."""
        return self.cell % self.grid.shape[1]

    @property
    def box(self) -> Float64[np.ndarray, "N 4"]:
        """Left, top, right and bottom of each cell in pixels of the source frame."""
        return self.grid.boxes(self.cell)

    @property
    def usage(self) -> Float64[np.ndarray, " N"]:
        """Top-k count / age, with an age of at least 1: the LFU score of the thesis, by which `LFU` evicts."""
        usage: Float64[np.ndarray, " N"] = self.topk_count / np.maximum(self.age, 1)
        return usage

    def columns(self) -> dict[str, Any]:
        """Returns the values as JSON can hold them, a list for each attribute; fractions have three decimals."""
        return {
            "frame": self.frame.tolist(),
            "cell": self.cell.tolist(),
            "topk_count": self.topk_count.tolist(),
            "attention_mass": self.attention_mass.astype(float).round(3).tolist(),
            "age": self.age.tolist(),
            "mask_fraction": self.mask_fraction.astype(float).round(3).tolist(),
            "pinned": self.pinned.tolist(),
        }

    @classmethod
    def from_columns(cls, grid: CellGrid, columns: dict[str, Any]) -> "Provenance":
        """Returns the provenance that `columns` wrote; raises KeyError, TypeError or ValueError for anything else."""
        whole = {name: np.array(columns[name], np.int64) for name in ("frame", "cell", "topk_count", "age")}
        count = len(whole["frame"])
        mask_fraction = np.array(columns["mask_fraction"], np.float32).reshape(len(columns["mask_fraction"]), count)
        attention_mass, pinned = np.array(columns["attention_mass"], np.float32), np.array(columns["pinned"], bool)
        columns_of_one: list[np.ndarray] = [*whole.values(), attention_mass, pinned]
        if {each.shape for each in columns_of_one} != {(count,)}:
            raise ValueError("its columns differ in length")
        if count and not 0 <= whole["cell"].min() <= whole["cell"].max() < grid.num_cells:
            raise ValueError(f"its cells are not from 0 to {grid.num_cells - 1}")
        return cls(grid=grid, attention_mass=attention_mass, mask_fraction=mask_fraction, pinned=pinned, **whole)


def array(tensor: Shaped[Tensor, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Returns a copy of a tensor as an array; a view would keep tokens alive that the bank has replaced."""
    return tensor.cpu().numpy().copy()


def of_this_video(tokens: Tokens) -> Tokens:
    """Returns the tokens without those of an earlier video, whose frames have negative indices and other sizes."""
    return tokens if bool((tokens.frame >= 0).all()) else tokens[tokens.frame >= 0]


def read_provenance(path: str | Path) -> Provenance:
    """Returns where the tokens of a saved tracker come from; neither the video nor the model is needed.

    Args:
        path: a file written by `Tracker.save`.

    Raises:
        CheckpointError: if the file is foreign, damaged or inconsistent.
        InputError: if the tracker was saved before its first frame.
    """
    return saved_provenance(*load_bank(Path(path), torch.device("cpu")), Path(path))


def saved_provenance(tokens: Tokens | None, facts: dict[str, Any], path: Path) -> Provenance:
    """Returns the provenance of what `load_bank` read from a file; raises as `read_provenance` does.

    Of several views of a video, it is that of the first one, as for the tracker itself.
    """
    try:
        num_tokens, size, short_side = facts["num_tokens"], facts["size"], facts["config"]["short_side"]
        grid = None if size is None else CellGrid((int(size[0]), int(size[1])), short_side and int(short_side))
        num_cells = 0 if grid is None else grid.num_cells
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"memory bank {str(path)!r} is malformed (missing or wrong {error})", "write it again"
        ) from error
    if grid is None:
        raise InputError(f"memory bank {str(path)!r} was saved before the first frame", "save it after one")
    if tokens is None:
        return Provenance.empty(grid)
    steps = facts.get("steps")
    if not is_whole(steps) or not 0 <= steps < 2**63:
        raise CheckpointError(f"memory bank {str(path)!r} has {steps!r} frames", "write it again")
    if not is_whole(num_tokens) or not 0 <= num_tokens <= len(tokens):
        raise CheckpointError(
            f"memory bank {str(path)!r} has {num_tokens!r} of {len(tokens)} tokens in its first view", "write it again"
        )
    tokens = of_this_video(tokens[:num_tokens])
    if len(tokens) and not 0 <= int(tokens.cell.min()) <= int(tokens.cell.max()) < num_cells:
        raise CheckpointError(
            f"memory bank {str(path)!r} has cells from {int(tokens.cell.min())} to {int(tokens.cell.max())}, "
            f"expected 0 to {num_cells - 1}",
            "write it again",
        )
    return Provenance.from_tokens(tokens, grid, max(steps - 1, 0))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The M tokens that one pixel's cell was read from, heaviest first.

    Attributes:
        y: row of the pixel.
        x: column of the pixel.
        index: index of the pixel's frame.
        object_ids: the objects that were tracked before this frame.
        grid: the grid of a frame's cells.
        query: the pixel's cell; all pixels of a cell read the same tokens.
        frame: source frame of each token; negative for one that a warm start brought from an earlier video.
        cell: its cell in that frame, whose grid is another one if the earlier video's frames had another size.
        weight: the weight with which each object read it; sums to 1 over M, or to 0 for an object without tokens.
        mask_fraction: how much of the token's cell each object filled, 0 to 1.
    """

    y: int
    x: int
    index: int
    object_ids: tuple[int, ...]
    grid: CellGrid
    query: int
    frame: Int64[np.ndarray, " M"]
    cell: Int64[np.ndarray, " M"]
    weight: Float32[np.ndarray, "K M"]
    mask_fraction: Float32[np.ndarray, "K M"]

    @property
    def query_box(self) -> Float64[np.ndarray, " 4"]:
        """Left, top, right and bottom of the pixel's cell, in pixels."""
        box: Float64[np.ndarray, " 4"] = self.grid.boxes(np.array([self.query]))[0]
        return box

    @property
    def box(self) -> Float64[np.ndarray, "M 4"]:
        """Left, top, right and bottom of each token's cell in pixels of its source frame.

        NaN for tokens of an earlier video (a negative frame), since the size of its frames is not known.
        """
        box = self.grid.boxes(self.cell)
        box[self.frame < 0] = np.nan
        return box

    @property
    def votes(self) -> Float32[np.ndarray, " K"]:
        """The share of each object in what was read, 0 to 1: its mean mask fraction, weighted."""
        votes: Float32[np.ndarray, " K"] = (self.weight * self.mask_fraction).sum(1)
        return votes

    def to_dict(self) -> dict[str, Any]:
        """Returns the values as JSON can hold them; the box of a token of an earlier video is None."""
        boxes = self.box.round(2).tolist()
        return {
            "y": self.y,
            "x": self.x,
            "frame": self.index,
            "query_box": self.query_box.round(2).tolist(),
            "votes": dict(zip(map(str, self.object_ids), self.votes.astype(float).round(4).tolist(), strict=True)),
            "memories": {
                "frame": self.frame.tolist(),
                "cell": self.cell.tolist(),
                "box": [None if frame < 0 else box for frame, box in zip(self.frame.tolist(), boxes, strict=True)],
                "weight": self.weight.astype(float).round(4).tolist(),
                "mask_fraction": self.mask_fraction.astype(float).round(3).tolist(),
            },
        }
