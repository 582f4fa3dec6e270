"""Which memories a pixel was read from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from mnemask.memory.cells import CellGrid
from mnemask.memory.provenance import array
from mnemask.memory.read import Reading
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True, slots=True)
class LastRead:
    """What each query of the last read chose, and where that came from; no key, no value, no picture.

    It takes 12 bytes per query and slot for each group of objects that read the same tokens, which are the bytes that
    the read itself had needed.

    Attributes:
        frame: source frame of each token there was.
        cell: its cell there.
        share: how much of it each object filled.
        readings: the objects' rows that shared a read, and what was read.
    """

    frame: Int64[Tensor, " N"]
    cell: Int64[Tensor, " N"]
    share: Float[Tensor, "K N"]
    readings: tuple[tuple[tuple[int, ...], Reading], ...]

    @classmethod
    def of(cls, tokens: Tokens, readings: list[tuple[tuple[int, ...], Reading]]) -> "LastRead":
        """Returns it; keys and values are let go."""
        return cls(tokens.frame, tokens.cell, tokens.share, tuple(readings))

    @property
    def num_bytes(self) -> int:
        """Bytes of the readings; the rest is the memory's own as long as nothing is written."""
        return sum(reading.index.nbytes + reading.weight.nbytes for _, reading in self.readings)

    def votes(self, query: int) -> tuple[Int64[np.ndarray, " M"], Float32[np.ndarray, "K M"]]:
        """Returns the tokens that any object read for one query, heaviest first, and their weight for each object."""
        weight = torch.zeros(self.share.shape, dtype=torch.float32, device=self.share.device)
        for rows, reading in self.readings:
            for row in rows:
                weight[row, reading.index[query]] = reading.weight[query].to(weight.dtype)
        chosen = torch.nonzero(weight.any(0))[:, 0]
        order = torch.argsort(weight[:, chosen].mean(0), descending=True, stable=True)
        return array(chosen[order]), array(weight[:, chosen[order]])


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The M memories that one pixel's cell was read from, heaviest first.

    Attributes:
        y: row of the pixel.
        x: column of the pixel.
        index: the frame that it is a pixel of.
        object_ids: the objects that were tracked when the frame came.
        grid: how cells lie in a frame.
        query: the pixel's cell; all pixels of a cell read the same.
        frame: source frame of each memory.
        cell: its cell there.
        weight: with which each object read it; sums to 1 over M, or to 0 for an object without memories.
        share: how much of the memory's cell each object filled, 0 to 1.
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
    share: Float32[np.ndarray, "K M"]

    @property
    def query_box(self) -> Float64[np.ndarray, " 4"]:
        """Left, top, right and bottom of the pixel's cell, in pixels."""
        box: Float64[np.ndarray, " 4"] = self.grid.boxes(np.array([self.query]))[0]
        return box

    @property
    def box(self) -> Float64[np.ndarray, "M 4"]:
        """Left, top, right and bottom of each memory's cell in pixels of its source frame."""
        return self.grid.boxes(self.cell)

    @property
    def votes(self) -> Float32[np.ndarray, " K"]:
        """How much of what was read is each object, 0 to 1: the mean of its share, weighted."""
        votes: Float32[np.ndarray, " K"] = (self.weight * self.share).sum(1)
        return votes

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON holds of it."""
        return {
            "y": self.y,
            "x": self.x,
            "frame": self.index,
            "query_box": self.query_box.round(2).tolist(),
            "votes": dict(zip(map(str, self.object_ids), self.votes.astype(float).round(4).tolist(), strict=True)),
            "memories": {
                "frame": self.frame.tolist(),
                "cell": self.cell.tolist(),
                "box": self.box.round(2).tolist(),
                "weight": self.weight.astype(float).round(4).tolist(),
                "share": self.share.astype(float).round(3).tolist(),
            },
        }
