import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refusal

from mnemask import InputError
from mnemask.memory.tokens import CellGrid
from mnemask.model import preprocess

sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


@given(sizes, st.sampled_from([None, 16, 40]))
def test_the_boxes_of_all_cells_cover_the_frame_once(size, short_side):
    grid = CellGrid(size, short_side)
    left, top, right, bottom = grid.boxes(np.arange(grid.num_cells)).T
    assert (left < right).all()
    assert (top < bottom).all()
    assert ((right - left) * (bottom - top)).sum() == pytest.approx(size[0] * size[1])


@given(sizes, st.sampled_from([None, 16, 40]), st.data())
def test_a_pixel_lies_in_the_box_of_its_cell(size, short_side, data):
    grid = CellGrid(size, short_side)
    y, x = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    left, top, right, bottom = grid.boxes(np.array([grid.cell_at(y, x)]))[0]
    assert left <= x + 0.5 <= right
    assert top <= y + 0.5 <= bottom
    assert grid.cells_under(*size)[y, x] == grid.cell_at(y, x)


@pytest.mark.parametrize("size", [(64, 96), (50, 33), (1, 40)])
def test_cells_are_those_that_the_network_is_shown(size):
    grid = CellGrid(size, None)
    numbers = torch.arange(1, size[0] * size[1] + 1).view(1, *size).float()
    padded = preprocess.pad(numbers)[0].int().numpy()
    assert grid.shape == (padded.shape[0] // 16, padded.shape[1] // 16)
    for cell in range(grid.num_cells):
        row, column = divmod(cell, grid.shape[1])
        shown = padded[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        pixels = numbers[0].numpy()[grid.cells_under(*size) == cell]
        assert set(pixels.astype(int)) == set(shown[shown > 0])


def test_a_frame_that_is_processed_smaller_has_larger_cells():
    grid = CellGrid((480, 854), 240)
    assert grid.shape == (15, 27)
    assert grid.boxes(np.array([grid.cell_at(200, 400)]))[0] == pytest.approx([379, 192, 411, 224], abs=2)


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (64, 0), (0, -1), (0, 96)])
def test_a_pixel_outside_is_refused(y, x):
    with refusal(InputError, r"63", r"95"):
        CellGrid((64, 96), None).cell_at(y, x)
