import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.prompts import Box, parse_box
from mnemask.prompts.box import clip_box, doubts_of_mask

SIZE = (120, 160)


def test_two_corners_are_the_same_box_as_a_corner_and_a_size():
    assert parse_box("100,40,140,90", "xyxy") == parse_box("100,40,40,50") == (100, 40, 40, 50)
    assert parse_box("100,40,40,50").in_words == "100,40 to 140,90 (40x50)"


@pytest.mark.parametrize("text", ["10,10,10,20", "10,10,20,10", "10,10,5,20", "10,10,20,-3"])
def test_corners_in_the_wrong_order_are_refused(text):
    with refusal(MaskError, r"x2", r"x1"):
        parse_box(text, "xyxy")


@pytest.mark.parametrize(
    "box", [(100, 40, 140, 90), (90, 60, 150, 110), (10, 100, 60, 115), (150, 10, 158, 100), (80, 60, 120, 100)]
)
def test_a_box_that_fits_as_two_corners_only_is_refused_with_both_ways_out(box):
    x, y, x2, y2 = box
    with refusal(MaskError, r"--box-format", r"--box", rf"{x},{y},{x2 - x},{y2 - y}"):
        clip_box(Box(*box), SIZE)


def test_a_box_of_two_corners_is_not_told_to_be_one():
    box = parse_box("20,8,75,44", "xyxy")
    found, (doubt,) = clip_box(Box.of(box), (48, 64))
    assert found == (20, 8, 44, 36)
    assert "20,8,64,44 (x1,y1,x2,y2)" in doubt
    with refusal(MaskError, r"60,8,90,44 \(x1,y1,x2,y2\)", r"60,8,64,44") as refused:
        clip_box(parse_box("60,8,90,44", "xyxy"), (48, 64))
    assert all("--box-format" not in said for said in (doubt, str(refused.value)))


@pytest.mark.parametrize("box", [(-90, 40, 100, 40), (150, 40, 100, 40), (140, 100, 40, 40), (20, -70, 50, 100)])
def test_a_box_that_lies_outside_for_the_most_part_is_refused(box):
    with refusal(MaskError, r"160x120"):
        clip_box(Box(*box), SIZE)


@pytest.mark.parametrize(
    ("box", "inside"),
    [((-10, 40, 60, 40), (0, 40, 50, 40)), ((120, 90, 50, 40), (120, 90, 40, 30)), ((5, -4, 30, 20), (5, 0, 30, 16))],
)
def test_a_box_that_lies_inside_for_the_most_part_is_cut_and_it_is_said(box, inside):
    found, doubts = clip_box(Box(*box), SIZE)
    assert found == inside
    assert [f"is cut to {Box(*inside)}" in doubt for doubt in doubts] == [True]


def test_a_box_within_the_image_is_not_doubted():
    for box in ((0, 0, 159, 100), (20, 30, 60, 60), (159, 119, 1, 1)):
        assert clip_box(Box(*box), SIZE) == (box, [])


def mask_of(height, width, top=20, left=20):
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "doubt"),
    [
        (mask_of(60, 80), "nearly fills it"),
        (mask_of(58, 78), "nearly fills it"),
        (mask_of(3, 80), "is only"),
        (mask_of(20, 25), "is only"),
        (mask_of(60, 12), "spans only part"),
        (mask_of(25, 80), "spans only part"),
        (mask_of(60, 110), "reaches outside it"),
    ],
)
def test_a_mask_that_cannot_be_the_object_in_its_box_is_doubted(mask, doubt):
    (said,) = doubts_of_mask(mask, Box(20, 20, 80, 60))
    assert doubt in said


@pytest.mark.parametrize("mask", [mask_of(50, 70), mask_of(38, 50), mask_of(40, 60, 30, 30)])
def test_a_likely_mask_is_not_doubted(mask):
    assert doubts_of_mask(mask, Box(20, 20, 80, 60)) == []


def test_four_numbers_of_any_kind_are_a_box():
    box = (30, 20, 40, 50)
    for given in (
        Box(*box),
        Box(29.6, 20.4, 40.0, 50.0),
        list(box),
        np.array(box),
        torch.tensor(box),
        np.array(box) + 0.4,
        (29.6, 20.0, np.float32(40), 50),
    ):
        assert Box.of(given) == box
        assert all(type(number) is int for number in Box.of(given))


@pytest.mark.parametrize(
    "given",
    [None, 3, "1,2,3,4", (1, 2, 3), (1, 2, 3, 4, 5), ["1", "2", "3", "4"], ((1, 2), (3, 4)), np.ones((1, 4)),
     (float("nan"), 2, 3, 4), Box(float("nan"), 2, 3, 4), Box(0.1, 0.2, 0.5, 0.5),
     (0, 0, float("inf"), 4), (0.1, 0.2, 0.5, 0.5)],
)  # fmt: skip
def test_anything_else_is_no_box(given):
    with refusal(MaskError, "in pixels"):
        Box.of(given)
