"""Tokens, the entries of the memory, and the grid of a frame's cells, from which they come.

The legend of all tensor shapes in the project:

====  =====================================================  ====  ==========================================
K     objects (rows; the caller's ids live in the tracker)   H W   pixels
N     tokens in memory                                       h w   cells of stride 16
P     query cells, P = h·w                                   B     batch, in the network only
Ck    channels of a key                                      k     tokens read per query (top-k)
Cv    channels of a value                                    D     channels of a detail's window (stride 8)
====  =====================================================  ====  ==========================================

A token is one cell of one past frame: a key that queries are compared with, and a value per object. It also carries the
metadata that memory policies use; the bank updates its usage at each read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.model import preprocess
from mnemask.model.stcn import STRIDE


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of stride 16 of one video's frames, numbered row by row.

    Attributes:
        size: height and width of the frames, in pixels.
        short_side: the short side to which frames are resized for the network; None keeps their size.

    Example:
        >>> grid = CellGrid((480, 854), short_side=480)
        >>> grid.shape, grid.cell_at(y=120, x=300)
        ((30, 54), 397)
    """

    size: tuple[int, int]
    short_side: int | None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = preprocess.working_size(self.size, self.short_side)
        return -(-height // STRIDE), -(-width // STRIDE)

    @property
    def num_cells(self) -> int:
        """Rows times columns."""
        rows, columns = self.shape
        return rows * columns

    def boxes(self, cell: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 4"]:
        """Returns left, top, right and bottom of cells in pixels of the frame, clipped at its edges."""
        (scale_y, above), (scale_x, before) = self._axes()
        row, column = np.divmod(cell, self.shape[1])
        edges = (
            np.clip((STRIDE * column - before) / scale_x, 0, self.size[1]),
            np.clip((STRIDE * row - above) / scale_y, 0, self.size[0]),
            np.clip((STRIDE * (column + 1) - before) / scale_x, 0, self.size[1]),
            np.clip((STRIDE * (row + 1) - above) / scale_y, 0, self.size[0]),
        )
        return np.stack(edges, axis=-1)

    def cell_at(self, y: int, x: int) -> int:
        """Returns the cell in which a pixel's centre lies; raises InputError for a pixel outside the frame."""
        height, width = self.size
        whole = isinstance(y, int | np.integer) and isinstance(x, int | np.integer)
        if not (whole and 0 <= y < height and 0 <= x < width):
            raise InputError(
                f"pixel (y={y}, x={x}) lies outside the frame" if whole else f"y={y!r}, x={x!r} is not a pixel",
                f"give y from 0 to {height - 1}, x from 0 to {width - 1}",
            )
        return int(self.cells_under(height, width, slice(y, y + 1), slice(x, x + 1))[0, 0])

    def cells_under(
        self, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> Int64[np.ndarray, "h w"]:
        """Returns the cell under each pixel of a picture of the whole frame at any size, or of a part of it."""
        (scale_y, above), (scale_x, before) = self._axes()
        y = (np.arange(height)[rows] + 0.5) * (self.size[0] / height) * scale_y + above
        x = (np.arange(width)[columns] + 0.5) * (self.size[1] / width) * scale_x + before
        return (y // STRIDE).astype(np.int64)[:, None] * self.shape[1] + (x // STRIDE).astype(np.int64)

    def _axes(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Returns, for y and for x, the scale from the frame to its working size, and the padding before it."""
        working = preprocess.working_size(self.size, self.short_side)
        before, _, above, _ = preprocess.padding(working)
        return (working[0] / self.size[0], above), (working[1] / self.size[1], before)


@dataclass(frozen=True, slots=True)
class Tokens:
    """N tokens, oldest write first.

    Attributes:
        key: the keys, float32.
        value: the values per object, in the network's precision; zero where `valid` is False.
        valid: whether the object existed when the token was written; it reads no other tokens.
        mask_fraction: how much of the cell each object filled, 0 to 1.
        frame: index of the source frame in the video.
        cell: position in the source frame's h × w grid, row by row.
        written_at: the tracker's step at which the token was written.
        topk_count: (query, top-k slot) pairs that chose this token since it was written.
        attention_mass: sum of the softmax weights it was read with.
        last_used: step at which a query last chose it; `written_at` if none has.
        pins: which objects' annotations keep it from being evicted.
        detail: descriptors of the cell's 2 × 2 windows at stride 8; without channels if reads are not refined.
    """

    key: Float[Tensor, "N Ck"]
    value: Float[Tensor, "K N Cv"]
    valid: Bool[Tensor, "K N"]
    mask_fraction: Float[Tensor, "K N"]
    frame: Int64[Tensor, " N"]
    cell: Int64[Tensor, " N"]
    written_at: Int64[Tensor, " N"]
    topk_count: Int64[Tensor, " N"]
    attention_mass: Float[Tensor, " N"]
    last_used: Int64[Tensor, " N"]
    pins: Bool[Tensor, "K N"]
    detail: Float16[Tensor, "N 4 D"]

    @classmethod
    def from_frame(
        cls,
        key: Float[Tensor, "P Ck"],
        value: Float[Tensor, "K P Cv"],
        mask_fraction: Float[Tensor, "K P"],
        *,
        frame: int,
        step: int,
        pins: Bool[Tensor, "K P"],
        detail: Float16[Tensor, "P 4 D"] | None = None,
    ) -> "Tokens":
        """Returns the tokens of one frame, without any usage."""
        cells = torch.arange(len(key), device=key.device)
        return cls(
            key=key,
            value=value,
            valid=torch.ones(mask_fraction.shape, dtype=torch.bool, device=key.device),
            mask_fraction=mask_fraction,
            frame=torch.full_like(cells, frame),
            cell=cells,
            written_at=torch.full_like(cells, step),
            topk_count=torch.zeros_like(cells),
            attention_mass=torch.zeros(len(cells), dtype=torch.float32, device=key.device),
            last_used=torch.full_like(cells, step),
            pins=pins,
            detail=key.new_empty((len(key), 4, 0), dtype=torch.float16) if detail is None else detail,
        )

    def __len__(self) -> int:
        return self.key.shape[0]

    def __getitem__(self, which: Bool[Tensor, " N"] | Int64[Tensor, " M"] | slice) -> "Tokens":
        """Returns the chosen tokens."""
        chosen = {
            name: tensor[:, which] if name in PER_OBJECT else tensor[which] for name, tensor in self.tensors().items()
        }
        return Tokens(**chosen)

    def __add__(self, newer: "Tokens") -> "Tokens":
        """Returns these tokens followed by newer ones of the same objects."""
        theirs = newer.tensors()
        joined = {
            name: torch.cat((tensor, theirs[name]), dim=1 if name in PER_OBJECT else 0)
            for name, tensor in self.tensors().items()
        }
        return Tokens(**joined)

    def joined(self, which: Int64[Tensor, " M"], newer: "Tokens") -> "Tokens":
        """Returns the chosen tokens followed by newer ones: `self[which] + newer` with one copy instead of two."""
        joined = {}
        for name, theirs in newer.tensors().items():
            axis = 1 if name in PER_OBJECT else 0
            sizes = list(theirs.shape)
            sizes[axis] += len(which)
            both = theirs.new_empty(sizes)
            torch.index_select(getattr(self, name), axis, which, out=both.narrow(axis, 0, len(which)))
            both.narrow(axis, len(which), len(newer)).copy_(theirs)
            joined[name] = both
        return Tokens(**joined)

    def without_values(self) -> "Tokens":
        """Returns the tokens with values without channels: enough for choosing tokens, and cheap to copy."""
        return replace(self, value=self.value[:, :, :0])

    def tensors(self) -> dict[str, Tensor]:
        """Returns every tensor by the name of its attribute."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def num_objects(self) -> int:
        """K."""
        return self.valid.shape[0]

    @property
    def pinned(self) -> Bool[Tensor, " N"]:
        """Whether each token is pinned, that is, never evicted."""
        return self.pins.any(0)

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def add_object(self) -> "Tokens":
        """Returns the tokens with one more row, for an object that none of them covers."""
        return replace(
            self, **{name: torch.cat((rows := getattr(self, name), torch.zeros_like(rows[:1]))) for name in PER_OBJECT}
        )

    def remove_object(self, row: int) -> "Tokens":
        """Returns the tokens without one object's row, and without those that no other object reads."""
        others = [other for other in range(self.num_objects) if other != row]
        rest = replace(self, **{name: getattr(self, name)[others] for name in PER_OBJECT})
        return rest[rest.valid.any(0)]

    def without_corrections(self, rows: Sequence[int]) -> "Tokens":
        """Returns the tokens with only the first annotation of these objects pinned, for a new correction."""
        pins = self.pins.clone()
        for row in rows:
            if bool(pins[row].any()):
                pins[row] &= self.written_at == self.written_at[pins[row]].min()
        return replace(self, pins=pins)

    def with_oldest_pins(self) -> "Tokens":
        """Returns the tokens with only those pinned that are from the first of the frames with pinned ones."""
        if not bool(self.pins.any()):
            return self
        return replace(self, pins=self.pins & (self.written_at == self.written_at[self.pinned].min()))


PER_OBJECT = ("value", "valid", "mask_fraction", "pins")


@dataclass(frozen=True, slots=True)
class Readers:
    """Objects that read the same tokens.

    Attributes:
        rows: the rows of the objects.
        count: the number of tokens that they read.
        places: the slice of these tokens, None if they are not contiguous; tokens are in the order of writing, so those
            written since an object appeared are.
    """

    rows: tuple[int, ...]
    count: int
    places: slice | None


def readers_of(valid: Bool[Tensor, "K N"]) -> list[Readers]:
    """Returns the objects in groups that read the same tokens; the group that reads the most comes first."""
    table = valid.cpu().numpy()
    rows_by_pattern: dict[bytes, list[int]] = {}
    for row, covered in enumerate(table):
        rows_by_pattern.setdefault(covered.tobytes(), []).append(row)
    groups = []
    for _, rows in sorted(rows_by_pattern.items()):
        places = table[rows[0]].nonzero()[0].tolist()
        first, last = (places[0], places[-1]) if places else (0, -1)
        together = last - first + 1 == len(places)
        groups.append(Readers(tuple(rows), len(places), slice(first, last + 1) if together else None))
    return sorted(groups, key=lambda group: -group.count)


def runs_of(rows: Sequence[int], at_most: int) -> list[slice]:
    """Returns ascending rows as slices, each of at most `at_most` consecutive rows."""
    runs: list[slice] = []
    for row in rows:
        if runs and runs[-1].stop == row and row - runs[-1].start < at_most:
            runs[-1] = slice(runs[-1].start, row + 1)
        else:
            runs.append(slice(row, row + 1))
    return runs


def bytes_per_token(num_objects: int, key_channels: int, value_channels: int, value_bytes: int) -> int:
    """Returns the bytes that one token takes in a bank: key, values and metadata; not its detail."""
    per_object = value_channels * value_bytes + 1 + 4 + 1  # value, valid, mask_fraction, pins
    once = 4 * key_channels + 4 + 5 * 8 + 4  # key, |key|², five int64, attention_mass
    return num_objects * per_object + once


def cells_around(mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "K h w"]:
    """Returns the cells in which each object has at least a pixel, and those next to them."""
    shown = mask_fraction > 0.5 / STRIDE**2
    return F.max_pool2d(shown.float(), 3, stride=1, padding=1) > 0
