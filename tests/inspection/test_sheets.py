from dataclasses import replace

import numpy as np
import pytest

from mnemask.inspection import draw_remembered, explained_sheet, memory_sheet
from mnemask.inspection.sheets import MOST_TILES, frames_to_show, mean_weight, sources_of
from mnemask.memory.introspection import Explanation, Provenance
from mnemask.memory.tokens import CellGrid


def remembered(grid, frame, cell, topk_count=None, pinned=None):
    """The provenance of these cells of an object that fills them."""
    frame, cell = np.array(frame, np.int64), np.array(cell, np.int64)
    return replace(
        Provenance.empty(grid),
        frame=frame,
        cell=cell,
        topk_count=np.ones_like(frame) if topk_count is None else np.array(topk_count, np.int64),
        attention_mass=np.ones(len(frame), np.float32),
        age=np.ones_like(frame),
        mask_fraction=np.ones((1, len(frame)), np.float32),
        pinned=np.zeros(len(frame), bool) if pinned is None else np.array(pinned),
    )


def explanation(grid, frames, weights, query=0):
    """An explanation by the first cell of these frames."""
    frame, weight = np.array(frames, np.int64), np.array(weights, np.float32)
    return Explanation(
        1, 1, 9, (1,), grid, query, frame, np.zeros_like(frame), weight[None], np.ones_like(weight)[None]
    )


def colourful(picture):
    """Where a picture is not grey."""
    return picture.max(-1).astype(int) - picture.min(-1) > 20


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(60, 200, (64, 96, 3)).astype(np.uint8)


def test_remembered_cells_are_tinted_where_they_lie_and_the_rest_is_dim_and_grey(photo):
    grid = CellGrid((64, 96), None)
    memory = remembered(grid, [3, 3, 4], [0, 8, 23])
    before = photo.copy()
    picture = draw_remembered(photo, memory, 3, width=96)
    assert np.array_equal(photo, before)
    inside = np.isin(grid.cells_under(64, 96), [0, 8])
    assert colourful(picture)[inside].mean() > 0.95
    assert not colourful(picture)[~inside].any()
    assert picture[~inside].mean() < 0.5 * photo[~inside].mean()
    assert not colourful(draw_remembered(photo, memory, 5, width=96)).any()


def test_more_hits_are_yellower(photo):
    grid = CellGrid((64, 96), None)
    picture = draw_remembered(np.full_like(photo, 200), remembered(grid, [0, 0], [0, 1], [1, 500]), 0, width=96)
    few, many = picture[8, 8].astype(int), picture[8, 24].astype(int)
    assert many[0] > few[0] + 50
    assert many[2] < few[2]


def test_pinned_cells_are_outlined(photo):
    grid = CellGrid((64, 96), None)
    picture = draw_remembered(photo, remembered(grid, [0, 0], [7, 8], pinned=[True, False]), 0, width=96)
    white = (picture > 230).all(-1)
    assert white[16:32, 16].all()
    assert white[16:32, 31].all()
    assert not white[:, 33:].any()
    assert not white[20:28, 20:28].any()


def test_the_frames_with_most_cells_are_shown_in_order_of_time():
    grid = CellGrid((640, 960), None)
    frames = np.repeat(np.arange(30), np.arange(30) % 15 + 1)
    shown = frames_to_show(remembered(grid, frames, np.arange(len(frames))))
    assert len(shown) == MOST_TILES
    assert shown == sorted(shown)
    assert {14, 29, 13, 28} <= set(shown)
    assert frames_to_show(Provenance.empty(grid)) == []


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (1, 40), (200, 16)])
@pytest.mark.parametrize("have", [True, False])
def test_a_sheet_of_frames_of_any_shape(size, have):
    grid = CellGrid(size, None)
    photo = np.full((*size, 3), 120, np.uint8)
    sources = {0: photo, 4: photo} if have else {}
    memory = remembered(grid, [0, 4], [0, grid.num_cells - 1], [3, 9])
    sheet = memory_sheet(memory, sources, title="t", facts="f", last_frame=9, now=photo)
    assert sheet.shape[1] == 1280
    assert colourful(sheet).sum() > 500
    told = explained_sheet(explanation(grid, [0, 4, 4], [0.6, 0.3, 0.1]), photo, sources)
    assert told.shape[1] == 1280
    assert colourful(told).sum() > 500


def test_a_memory_of_nothing_has_a_sheet_too():
    sheet = memory_sheet(Provenance.empty(CellGrid((64, 96), None)), {}, title="t", facts="f", last_frame=0)
    assert sheet.shape[1] == 1280


def test_tokens_of_an_earlier_video_have_no_frame_to_be_drawn_in():
    grid = CellGrid((64, 96), None)
    told = replace(explanation(grid, [-1, 4, -3], [0.5, 0.3, 0.2]), cell=np.array([5000, 3, 24]))
    assert sources_of(told) == [4]
    assert explained_sheet(told, np.zeros((64, 96, 3), np.uint8), {}).shape[1] == 1280


def test_the_heaviest_frames_come_first_and_weight_is_the_mean_over_objects_that_read():
    grid = CellGrid((64, 96), None)
    told = explanation(grid, [0, 4, 4, 7], [0.4, 0.35, 0.2, 0.05])
    assert sources_of(told) == [4, 0, 7]
    silent = replace(
        told,
        object_ids=(1, 2),
        weight=np.concatenate([told.weight, 0 * told.weight]),
        mask_fraction=np.concatenate([told.mask_fraction, 0 * told.mask_fraction]),
    )
    assert mean_weight(silent) == pytest.approx(told.weight[0])
    assert mean_weight(replace(told, weight=0 * told.weight)) == pytest.approx([0, 0, 0, 0])
