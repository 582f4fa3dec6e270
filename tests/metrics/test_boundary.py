import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from refusals import refusal

from mnemask.errors import InputError
from mnemask.metrics import boundary_f, davis, tolerance_pixels

DAVIS = Path(__file__).resolve().parents[2] / "../shared/data/davis2016-dev"

noise = array_shapes(min_dims=2, max_dims=2, max_side=9).flatmap(lambda s: arrays(np.bool_, (3, *s)))


@st.composite
def blobs(draw):
    """Three masks of one size, each some rectangles that may lie across the edge, empty and full ones among them."""
    height, width = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    masks = np.zeros((3, height, width), bool)
    for mask in masks:
        for _ in range(draw(st.integers(0, 3))):
            y, x = draw(st.integers(-20, height)), draw(st.integers(-20, width))
            h, w = draw(st.integers(1, 80)), draw(st.integers(1, 80))
            mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] ^= True
    return masks


def by_definition(prediction, truth, void, radius):
    """F pixel by pixel, straight from the definition."""

    def outline(mask):
        mask = mask & ~void
        height, width = mask.shape
        on = set()
        for y, x in itertools.product(range(height), range(width)):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(v < height and u < width and mask[v, u] != mask[y, x] for v, u in neighbours):
                on.add((y, x))
        return on

    def fraction(of, near):
        return sum(any(math.dist(p, q) <= radius for q in near) for p in of) / len(of)

    predicted, true = outline(prediction), outline(truth)
    if not predicted or not true:
        return float(predicted == true)
    precision, recall = fraction(predicted, true), fraction(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(deadline=None, max_examples=150)
@given(blobs(), st.sampled_from([0.008, 0.05, 0.2, 1.0, 3.0]))
@example(np.ones((3, 1, 1), bool), 0.008)
@example(np.zeros((3, 30, 40), bool), 0.008)
@example(np.ones((3, 30, 40), bool), 0.008)
def test_f_equals_the_reference_implementation(oracle, masks, bound_ratio):
    prediction, truth, void = masks
    assert boundary_f(prediction, truth, bound_ratio=bound_ratio) == pytest.approx(
        oracle.boundary(prediction, truth, bound_ratio), abs=1e-12
    )
    assert boundary_f(prediction, truth, void, bound_ratio) == pytest.approx(
        oracle.boundary(prediction & ~void, truth & ~void, bound_ratio), abs=1e-12
    )


@settings(deadline=None, max_examples=150)
@given(noise, st.sampled_from([1.0, 2.0, 3.0]))
def test_f_equals_its_definition_on_noise(masks, radius):
    prediction, truth, void = masks
    expected = by_definition(prediction, truth, void, radius)
    assert boundary_f(prediction, truth, void, bound_ratio=radius) == pytest.approx(expected, abs=1e-12)


def test_f_equals_its_definition_on_every_pair_of_2x2_masks():
    every = [np.array(bits).reshape(2, 2) for bits in itertools.product([False, True], repeat=4)]
    nothing = np.zeros((2, 2), bool)
    for prediction, truth in itertools.product(every, every):
        assert boundary_f(prediction, truth, bound_ratio=1.0) == pytest.approx(
            by_definition(prediction, truth, nothing, 1), abs=1e-12
        )


@settings(deadline=None, max_examples=100)
@given(blobs())
def test_the_outline_equals_the_reference_implementation(oracle, masks):
    np.testing.assert_array_equal(davis.outline(masks[0]).view(bool), oracle.outline(masks[0]))


def test_an_object_cut_off_by_the_frame_has_no_outline_there():
    mask = np.zeros((6, 6), bool)
    mask[:, 3:] = True
    assert davis.outline(mask).nonzero()[1].tolist() == [2] * 6
    assert not davis.outline(np.ones((6, 6), bool)).any()


def test_f_of_the_degenerate_cases():
    empty, full = np.zeros((20, 20), bool), np.ones((20, 20), bool)
    square = empty.copy()
    square[5:9, 5:9] = True
    assert boundary_f(empty, empty) == 1
    assert boundary_f(full, empty) == 1  # neither has an outline
    assert boundary_f(square, empty) == 0
    assert boundary_f(empty, square) == 0
    assert boundary_f(square, square) == 1
    assert boundary_f(np.roll(square, 9, axis=1), square) == 0


def test_an_outline_is_right_up_to_the_tolerance_and_not_beyond():
    assert tolerance_pixels(480, 854) == 8
    truth = np.zeros((480, 854), bool)
    truth[100:300, 200:500] = True
    assert boundary_f(np.roll(truth, 8, axis=1), truth) == 1
    assert boundary_f(np.roll(truth, 9, axis=1), truth) < 0.75  # the upright sides are lost


def test_the_tolerance_is_rounded_up_and_from_1_on_counts_pixels():
    assert tolerance_pixels(300, 400, 0.008) == 4
    assert tolerance_pixels(301, 400, 0.008) == 5
    assert tolerance_pixels(3, 4, 0.008) == 1
    assert tolerance_pixels(300, 400, 7.0) == 7


@pytest.mark.parametrize("bound_ratio", [0, -0.1, 1.5, math.nan, math.inf])
def test_a_tolerance_that_makes_no_sense_is_refused(bound_ratio):
    mask = np.zeros((4, 4), bool)
    with refusal(InputError, r"bound_ratio", r"0\.008"):
        boundary_f(mask, mask, bound_ratio=float(bound_ratio))


def test_the_memory_layout_of_the_masks_does_not_matter():
    rng = np.random.default_rng(0)
    prediction, truth = cv2.blur(rng.random((2, 64, 50)).transpose(1, 2, 0), (9, 9)).transpose(2, 0, 1) > 0.5
    expected = boundary_f(prediction.copy(), truth.copy(), bound_ratio=2.0)
    assert 0 < expected < 1
    assert boundary_f(np.asfortranarray(prediction), truth.T.copy().T, bound_ratio=2.0) == expected
    wide = np.zeros((128, 100), bool)
    wide[::2, ::2] = prediction
    assert boundary_f(wide[::2, ::2], np.ascontiguousarray(truth[:, ::-1])[:, ::-1], bound_ratio=2.0) == expected


@pytest.mark.shared
def test_f_equals_the_reference_implementation_on_real_masks(oracle):
    if not DAVIS.is_dir():
        pytest.skip("DAVIS is not at hand")
    for name in ("bmx-trees", "breakdance", "soapbox"):
        files = sorted((DAVIS / "Annotations/480p" / name).glob("*.png"))
        prediction, truth = (np.asarray(Image.open(files[index])) > 0 for index in (10, 20))
        assert boundary_f(prediction, truth) == pytest.approx(oracle.boundary(prediction, truth), abs=1e-12)
