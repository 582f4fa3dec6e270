import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from refusals import refusal

from mnemask.errors import MaskError
from mnemask.metrics import region_similarity
from mnemask.metrics.davis import check_pair

stacks = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(lambda s: arrays(np.bool_, (3, *s)))


@settings(deadline=None, max_examples=100)
@given(stacks)
def test_j_equals_the_reference_implementation(oracle, masks):
    assert region_similarity(masks[0], masks[1]) == pytest.approx(oracle.region(masks[0], masks[1]), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(stacks)
def test_j_is_a_count_over_the_pixels_that_are_not_void(masks):
    prediction, truth, void = masks
    kept = [(p, t) for p, t, v in zip(prediction.flat, truth.flat, void.flat, strict=True) if not v]
    union = sum(p or t for p, t in kept)
    expected = sum(p and t for p, t in kept) / union if union else 1
    assert region_similarity(prediction, truth, void) == expected


def test_j_of_the_degenerate_cases():
    full, empty = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    assert region_similarity(empty, empty) == 1
    assert region_similarity(full, full) == 1
    assert region_similarity(full, empty) == 0
    assert region_similarity(full, empty, void=full) == 1


@given(st.data())
def test_j_does_not_change_the_masks(data):
    masks = data.draw(stacks)
    before = masks.copy()
    region_similarity(masks[0], masks[1], masks[2])
    np.testing.assert_array_equal(masks, before)


def test_masks_of_two_sizes_are_refused_with_both_sizes():
    with refusal(MaskError, r"4x5", r"5x4"):
        check_pair(np.zeros((4, 5), bool), np.zeros((5, 4), bool))
    with refusal(MaskError, r"2x2"):
        check_pair(np.zeros((4, 5), bool), np.zeros((4, 5), bool), np.zeros((2, 2), bool))


def test_labels_are_refused_where_a_mask_is_expected():
    with refusal(MaskError, r"uint8"):
        check_pair(np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool))
    with refusal(MaskError, "truth"):
        check_pair(np.zeros((4, 5), bool), np.zeros((1, 4, 5), bool))
