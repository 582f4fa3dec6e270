"""Where the cells of a frame lie among its pixels: what is remembered, said in the caller's own coordinates."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from mnemask.errors import InputError
from mnemask.model import geometry
from mnemask.model.stcn import STRIDE


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of stride 16 of one video's frames; they are counted row by row.

    Attributes:
        size: height and width of the frames, in pixels.
        short_side: what the frames' short side is made before the network sees them; None leaves them as they are.

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
        height, width = geometry.working_size(self.size, self.short_side)
        return -(-height // STRIDE), -(-width // STRIDE)

    @property
    def num_cells(self) -> int:
        """Rows times columns."""
        rows, columns = self.shape
        return rows * columns

    def boxes(self, cell: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 4"]:
        """Returns left, top, right and bottom of cells in pixels of the frame, cut off at its edges."""
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
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(
                f"pixel (y={y}, x={x}) lies outside the frame; give y from 0 to {height - 1}, x from 0 to {width - 1}"
            )
        return int(self.cells_under(height, width, slice(y, y + 1), slice(x, x + 1))[0, 0])

    def cells_under(
        self, height: int, width: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> Int64[np.ndarray, "h w"]:
        """Returns the cell under each pixel of a picture that shows the whole frame at any size, or of a part of it."""
        (scale_y, above), (scale_x, before) = self._axes()
        y = (np.arange(height)[rows] + 0.5) * (self.size[0] / height) * scale_y + above
        x = (np.arange(width)[columns] + 0.5) * (self.size[1] / width) * scale_x + before
        return (y // STRIDE).astype(np.int64)[:, None] * self.shape[1] + (x // STRIDE).astype(np.int64)

    def _axes(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Returns, for y and for x, the working pixels of a pixel and the padding that goes before them."""
        working = geometry.working_size(self.size, self.short_side)
        before, _, above, _ = geometry.padding(working)
        return (working[0] / self.size[0], above), (working[1] / self.size[1], before)
