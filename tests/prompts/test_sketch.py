import cv2
import numpy as np
import pytest
import torch
from refusals import refusal

from mnemask.errors import MaskError, ObjectIdError
from mnemask.prompts import Box, mask_from_box, mask_from_polygon, mask_from_scribble


def picture(height=120, width=200, discs=(((60, 70), 25, (200, 60, 50)), ((140, 50), 22, (60, 80, 210)))):
    """An image of discs on noise, and their masks."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), (90, 140, 80)) + rng.normal(0, 12, (height, width, 3))
    masks = []
    for centre, radius, colour in discs:
        disc = cv2.circle(np.zeros((height, width), np.uint8), centre, radius, 1, -1) > 0
        image[disc] = colour + rng.normal(0, 12, (disc.sum(), 3))
        masks.append(torch.from_numpy(disc))
    return torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)).permute(2, 0, 1), masks


def overlap(a, b):
    return ((a & b).sum() / (a | b).sum()).item()


def test_a_box_becomes_the_mask_of_what_is_in_it():
    image, (disc, _) = picture()
    mask = mask_from_box(image, Box(33, 43, 55, 55))
    assert mask.shape == disc.shape
    assert mask.dtype == torch.bool
    assert overlap(mask, disc) > 0.95


def test_the_same_box_gives_the_same_mask_from_a_tensor_and_an_array():
    image, _ = picture()
    once = mask_from_box(image, (33, 43, 55, 55))
    cv2.setRNGSeed(7)
    assert torch.equal(once, mask_from_box(image.permute(1, 2, 0).numpy(), (33, 43, 55, 55)))


def test_a_box_on_a_large_image_is_found_at_full_size():
    image, (disc,) = picture(600, 1000, [((450, 250), 130, (200, 60, 50))])
    assert overlap(mask_from_box(image, (310, 112, 280, 275)), disc) > 0.95


def test_small_holes_are_filled_and_strays_left_out():
    image, _ = picture()
    image[:, 68:74, 57:63] = torch.tensor([90, 140, 80], dtype=torch.uint8)[:, None, None]
    image[:, 46:50, 85:88] = torch.tensor([200, 60, 50], dtype=torch.uint8)[:, None, None]
    mask = mask_from_box(image, (33, 43, 55, 55))
    assert mask[70, 60]
    assert not mask[48, 86]


def test_a_box_over_the_edge_is_cut_off():
    image, (disc,) = picture(discs=[((5, 60), 25, (200, 60, 50))])
    assert overlap(mask_from_box(image, (-30, 33, 62, 55)), disc) > 0.9


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 0, 5), "is empty"),
        ((10, 10, 5, -2), "is empty"),
        ((200, 10, 5, 5), "outside the image of 200x120"),
        ((-9, 0, 5, 5), "outside the image"),
        ((0, 0, 200, 120), "covers the whole image"),
        ((-5, -5, 500, 500), "covers the whole image"),
    ],
)
def test_a_box_that_cannot_be_meant_is_refused(box, message):
    with refusal(MaskError, message):
        mask_from_box(picture()[0], box)


@pytest.mark.parametrize("box", [(3, 3, 1, 1), (0, 0, 195, 120), (199, 119, 1, 1), (50, 0, 1, 120)])
def test_any_box_gives_a_mask_or_a_clear_error(box):
    mask_or_refusal(picture()[0], box)


@pytest.mark.parametrize("size", [(2, 2), (3, 1), (1, 8), (5, 5), (2, 3000)])
def test_images_of_a_few_pixels_or_one_colour_give_a_mask_or_a_clear_error(size):
    for image in (torch.zeros(3, *size).byte(), torch.arange(3 * size[0] * size[1]).byte().view(3, *size)):
        for box in ((0, 0, 1, 1), (0, 0, size[1], size[0] // 2)):
            mask_or_refusal(image, box)


def mask_or_refusal(image, box):
    try:
        mask = mask_from_box(image, box)
    except MaskError:
        return
    assert mask.any()


def test_a_polygon_becomes_its_inside():
    mask = mask_from_polygon([(10, 10), (30.4, 10), (30, 20), (10, 20)], (40, 50))
    assert mask.sum() == 21 * 11
    assert mask[10:21, 10:31].all()


def test_a_polygon_is_cut_off_at_the_image():
    assert mask_from_polygon([(-100, -100), (500, -100), (500, 500), (-100, 500)], (40, 50)).all()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(1, 1), (2, 2)], "at least 3"),
        ([(100, 100), (120, 100), (120, 120)], "outside the image of 50x40"),
        ([(1, 1), (float("nan"), 2), (3, 3)], "not a position"),
        ([(1, 1), (1e30, 2), (3, 3)], "not a position"),
        ([1, 1, 30, 1, 1, 30], "are not points"),
        (None, "are not points"),
        ([(0.1, 0.2), (0.3, 0.2), (1, 1)], "fractions"),
        ([(1, 1, 1), (2, 2, 2), (3, 1, 2)], "are not points"),
    ],
)
def test_a_polygon_that_cannot_be_meant_is_refused(points, message, as_users_call_it):
    with refusal(MaskError, message):
        mask_from_polygon(points, (40, 50))


@pytest.mark.parametrize("size", [(40, 50, 3), (40.0, 50.0), (-1, 50), None, 40])
def test_a_polygon_needs_the_size_of_an_image(size, as_users_call_it):
    with refusal(MaskError, "height and width"):
        mask_from_polygon([(1, 1), (30, 1), (1, 30)], size)


def test_strokes_become_the_masks_of_what_they_lie_on():
    image, discs = picture()
    masks = mask_from_scribble(image, {3: [[(45, 70), (75, 70)]], 9: [[(140, 40), (140, 60)]], 0: [[(5, 5), (190, 5)]]})
    assert list(masks) == [3, 9]
    assert overlap(masks[3], discs[0]) > 0.9
    assert overlap(masks[9], discs[1]) > 0.9
    assert not (masks[3] & masks[9]).any()


def test_strokes_on_two_objects_of_one_colour_part_them():
    colour = (200, 60, 50)
    image, discs = picture(discs=[((70, 60), 25, colour), ((118, 60), 25, colour)])
    masks = mask_from_scribble(image, {1: [[(55, 60), (85, 60)]], 2: [[(103, 60), (133, 60)]]})
    assert not (masks[1] & masks[2]).any()
    assert overlap(masks[1], discs[0]) > 0.8
    assert overlap(masks[2], discs[1]) > 0.8


@pytest.mark.parametrize(
    "stroke", [[(45, 70), (75, 70)], [(60, 70)], [(0, 70), (199, 70)], [(0, 0), (199, 119)], [(0, 0), (1, 1)]]
)
def test_one_stroke_and_none_on_the_background_gives_a_mask_that_holds_it(stroke):
    image, discs = picture()
    (mask,) = mask_from_scribble(image, {1: [stroke]}).values()
    x, y = stroke[0]
    assert mask[y, x]
    if stroke[-1] == (75, 70):
        assert overlap(mask, discs[0]) > 0.9


def test_background_strokes_stay_background():
    image, _ = picture()
    assert not mask_from_scribble(image, {1: [[(50, 70), (70, 70)]], 0: [[(60, 50), (60, 55)]]})[1][52, 60]


@pytest.mark.parametrize("empty", [[], None, [[]], [[], []]])
def test_strokes_without_points_are_none(empty, as_users_call_it):
    image, _ = picture()
    expected = mask_from_scribble(image, {1: [[(50, 70), (70, 70)]]})
    assert torch.equal(mask_from_scribble(image, {1: [[], [(50, 70), (70, 70)]], 0: empty})[1], expected[1])


def test_strokes_of_two_objects_on_one_place_are_refused_and_a_mask_of_strokes_alone_is_warned_of(caplog):
    image, _ = picture(discs=[((100, 60), 50, (200, 60, 50))])
    with refusal(MaskError, "object 2"):
        mask_from_scribble(image, {1: [[(90, 60), (110, 60)]], 2: [[(90, 60), (110, 60)]]})
    mask_from_scribble(image, {1: [[(100, 60)]]})
    assert "hardly larger than its strokes" in caplog.text


def test_strokes_that_cannot_be_meant_are_refused(as_users_call_it):
    image, _ = picture()
    for strokes in (
        None,
        [[(1, 1), (5, 5)]],
        {4: [(1, 1), (5, 5)]},
        {4: None},
        {4: 5},
        {0: 5},
        {4: [[("1", "x"), ("2", "y")]]},
    ):
        with refusal(MaskError, r"stroke|points"):
            mask_from_scribble(image, strokes)
    for strokes in ({}, {0: [[(1, 1), (5, 5)]]}):
        with refusal(MaskError, "least"):
            mask_from_scribble(image, strokes)
    for lines in ([], [[]], [[(900, 900), (910, 910)]]):
        with refusal(MaskError, "object"):
            mask_from_scribble(image, {4: lines})
    with refusal(MaskError, "fractions"):
        mask_from_scribble(image, {4: [[(0.2, 0.35), (0.25, 0.35)]]})
    with pytest.raises(ObjectIdError):
        mask_from_scribble(image, {-1: [[(1, 1), (5, 5)]]})
