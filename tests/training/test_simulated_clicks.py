import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemask.training.click_data import corrupt_mask, depth, drawn_box, first_clicks, iou, next_click

SIZE = 40
rectangles = st.tuples(*[st.integers(0, SIZE - 8)] * 2, *[st.integers(3, 30)] * 2)


def plane(rectangle: tuple[int, int, int, int]) -> np.ndarray:
    x, y, width, height = rectangle
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def test_the_first_click_is_the_most_inner_pixel_of_the_object() -> None:
    truth = plane((10, 5, 21, 11))
    click = next_click(truth, np.zeros((SIZE, SIZE), bool))
    assert click is not None
    assert click.sign == 1
    assert depth(truth == 1)[click.y, click.x] == depth(truth == 1).max()
    assert click.y == 10


@given(rectangles, rectangles, st.none() | st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_click_is_always_on_a_wrong_pixel_and_says_which_kind(
    true: tuple[int, int, int, int], guessed: tuple[int, int, int, int], seed: int | None
) -> None:
    truth, predicted = plane(true), plane(guessed) == 1
    click = next_click(truth, predicted, None if seed is None else np.random.default_rng(seed))
    wrong = (truth == 1) != predicted
    assert (click is None) == (not wrong.any())
    if click is not None:
        assert wrong[click.y, click.x]
        assert click.sign == (1 if truth[click.y, click.x] else -1)


@given(rectangles, rectangles)
@settings(max_examples=40, deadline=None)
def test_the_click_is_in_the_wider_of_what_is_missed_and_what_is_added(
    true: tuple[int, int, int, int], guessed: tuple[int, int, int, int]
) -> None:
    truth, predicted = plane(true), plane(guessed) == 1
    click = next_click(truth, predicted)
    missed, added = depth((truth == 1) & ~predicted).max(), depth((truth == 0) & predicted).max()
    assert click is None or click.sign == (1 if missed >= added else -1)


def test_what_nobody_knows_is_neither_clicked_on_nor_counted() -> None:
    truth = plane((4, 4, 10, 10))
    truth[20:] = 255
    predicted = (truth == 1) | (truth == 255)
    assert next_click(truth, predicted) is None
    assert iou(truth, predicted) == 1


def test_an_object_cut_off_by_the_frame_is_clicked_on_away_from_the_border() -> None:
    click = next_click(plane((0, 0, 20, SIZE)), np.zeros((SIZE, SIZE), bool))
    assert click is not None
    assert click.x in (9, 10)


@given(rectangles, st.integers(1, 4), st.integers(0, 4), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_first_clicks_are_as_many_as_asked_for_each_on_its_side(
    rectangle: tuple[int, int, int, int], positive: int, negative: int, seed: int
) -> None:
    truth = plane(rectangle)
    clicks = first_clicks(truth, np.random.default_rng(seed), positive, negative)
    assert [click.sign for click in clicks].count(1) == positive
    assert [click.sign for click in clicks].count(-1) in (0, negative)
    assert all((truth[click.y, click.x] == 1) == (click.sign == 1) for click in clicks)


@given(rectangles, st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_loosely_drawn_box_stays_in_the_frame_and_near_the_object(
    rectangle: tuple[int, int, int, int], seed: int
) -> None:
    truth = plane(rectangle)
    x, y, width, height = drawn_box(truth, np.random.default_rng(seed))
    assert 0 <= x < x + width <= SIZE
    assert 0 <= y < y + height <= SIZE
    assert (truth[y : y + height, x : x + width] == 1).sum() > 0.5 * (truth == 1).sum()


def test_an_exact_box_is_the_objects_own() -> None:
    assert drawn_box(plane((7, 9, 12, 5))) == (7, 9, 12, 5)


@pytest.mark.parametrize("seed", range(8))
def test_a_corrupted_mask_is_wrong_somewhere_and_the_same_for_the_same_seed(seed: int) -> None:
    truth, other = plane((6, 6, 14, 18)), plane((24, 20, 12, 12))
    once, again = (corrupt_mask(truth, other, np.random.default_rng(seed)) for _ in range(2))
    assert np.array_equal(once, again)
    assert iou(truth, once) < 1
