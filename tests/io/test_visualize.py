"""Colours of DAVIS, and masks drawn over their frames."""

import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.errors import FrameError, InputError, MaskError
from mnemask.io import colors_of, contact_sheet, davis_palette, draw_overlay
from mnemask.types import Frame

GREY = np.full((48, 64, 3), 100, np.uint8)


def square(object_id):
    labels = np.zeros((48, 64), np.int32)
    labels[10:40, 15:50] = object_id
    return labels


def test_the_tint_is_the_palette_color_at_the_given_opacity():
    for opacity in (0.0, 0.45, 1.0):
        inside = draw_overlay(GREY, square(1), opacity=opacity)[25, 30]
        assert np.abs(inside - (np.array([128, 0, 0]) * opacity + 100 * (1 - opacity))).max() <= 1


def test_the_outline_is_bright_and_all_beyond_it_unchanged():
    drawn = draw_overlay(GREY, square(1))
    assert drawn[10, 30, 0] > 200
    changed = (drawn != GREY).any(axis=-1)
    assert changed[10:40, 15:50].all()
    assert not changed[:8].any()
    assert not changed[:, 52:].any()


def test_neighbours_keep_their_outlines_and_holes_stay_open():
    labels = square(2)
    labels[:, 32:] = np.where(labels[:, 32:], 1, 0)
    labels[20:30, 20:28] = 0
    drawn = draw_overlay(GREY, labels)
    assert np.array_equal(drawn[25, 24], GREY[25, 24])
    assert drawn[15, 22, 1] > drawn[15, 22, 0]
    assert drawn[15, 45, 0] > drawn[15, 45, 1]
    assert drawn[25, 31:33].max() > 200


def test_tensors_and_arrays_give_the_same_and_stay_unchanged():
    image, labels = torch.from_numpy(GREY.copy()).permute(2, 0, 1), torch.from_numpy(square(300))
    assert np.array_equal(draw_overlay(image, labels), draw_overlay(GREY, square(300)))
    assert (image == 100).all()
    assert np.array_equal(labels, square(300))


@pytest.mark.parametrize("object_id", [0, 1, 255, 256, 65_535])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (48, 64)])
def test_every_id_and_size_can_be_drawn(object_id, size):
    image = np.full((*size, 3), 100, np.uint8)
    drawn = draw_overlay(image, np.full(size, object_id, np.int64))
    assert drawn.shape == (*size, 3)
    assert np.array_equal(drawn, image) == (object_id == 0)


def test_labels_that_do_not_fit_are_refused():
    with refusal(MaskError, r"\(48", r"64", r"\(47"):
        draw_overlay(GREY[1:], square(1))
    for object_id in (-1, 65_536):
        with refusal(MaskError, r"65535"):
            draw_overlay(GREY, square(object_id))


@pytest.mark.parametrize("labels", [None, [[0, 1]], square(1) / 2])
def test_what_is_no_label_map_is_refused(labels, as_users_call_it):
    with refusal(MaskError, "masks.labels"):
        draw_overlay(GREY, labels)


@pytest.mark.parametrize("opacity", [-1, 1.5, float("nan"), "half"])
def test_an_opacity_is_from_0_to_1(opacity, as_users_call_it):
    with refusal(InputError, "opacity"):
        draw_overlay(GREY, square(1), opacity=opacity)


def test_a_contact_sheet_has_a_tile_for_each_frame():
    frames = [Frame(torch.from_numpy(GREY).permute(2, 0, 1), index) for index in range(5)]
    sheet = contact_sheet([(frame, torch.from_numpy(square(1))) for frame in frames], columns=3, tile_width=160)
    assert sheet.shape == (2 * 120, 3 * 160, 3)
    assert (sheet[120:, 320:] == 255).all(), "the last row is filled up with white"
    first, bare = contact_sheet([(frames[0], square(1))]), contact_sheet([(frames[0], None)])
    assert first.shape == bare.shape == (240, 320, 3)
    assert not np.array_equal(first, bare)


def test_a_contact_sheet_of_nothing_is_refused():
    with refusal(FrameError, "frames"):
        contact_sheet([])


def test_the_palette_is_that_of_davis():
    expected = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128),
                6: (0, 128, 128), 7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 15: (192, 128, 128),
                20: (0, 64, 128), 255: (224, 224, 192)}  # fmt: skip
    palette = davis_palette()
    assert palette.shape == (256, 3)
    assert {index: tuple(palette[index].tolist()) for index in expected} == expected


def test_every_id_has_its_own_color():
    assert len(np.unique(davis_palette(65_536), axis=0)) == 65_536


def test_labels_take_their_colors():
    labels = np.array([[0, 1], [300, 65_535]])
    assert np.array_equal(colors_of(labels), davis_palette(65_536)[labels])
