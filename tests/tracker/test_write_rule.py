"""A frame is written sooner where objects change, and later where their masks are not certain."""

import pytest
import torch
from tracking import equal

import mnemask as mm
from mnemask.state import masks_from_json, masks_to_json
from mnemask.step import SOONEST, certainty, least_iou, rounded, write_is_due

CELL = 16


def square(left, certain=0.99, size=4, cells=12):
    """Probabilities of the background and of one object of 4×4 cells, `left` pixels from the left."""
    probs = torch.full((2, cells * CELL, cells * CELL), 0.0)
    probs[1, CELL : (1 + size) * CELL, left : left + size * CELL] = certain
    probs[0] = 1 - probs[1]
    return probs


def rule(**settings):
    return mm.TrackerConfig("lfu", write_every=5, **settings).filled(0.0)


@pytest.mark.parametrize(
    ("moved", "since", "due"),
    [(0, 2, False), (CELL, 2, False), (3 * CELL, 2, True), (3 * CELL, SOONEST - 1, False), (0, 5, True)],
)
def test_a_frame_is_written_sooner_where_an_object_has_moved_by_most_of_itself(moved, since, due):
    assert write_is_due(rule(write_below_iou=0.5), since, square(moved), rounded(square(0)[1:])) is due
    assert write_is_due(rule(), since, square(moved), None) is (since >= 5)


def test_the_iou_is_that_of_the_object_that_changed_most_and_one_cell_is_no_change():
    still, gone = rounded(square(0)[1:]), torch.zeros_like(rounded(square(0)[1:]))
    assert least_iou(still, still) == 1
    assert least_iou(torch.cat((still, gone)), torch.cat((still, still))) == pytest.approx(1 / 17, abs=0.01)
    assert least_iou(gone, gone) == 1


def test_a_frame_of_doubtful_masks_waits_until_they_are_certain():
    careful = rule(write_above_certainty=0.9)
    assert [write_is_due(careful, 7, square(0, certain), None) for certain in (0.6, 0.99, 0.0)] == [False, True, False]
    assert certainty(square(0, 0.75)) == pytest.approx(0.75)


@pytest.fixture
def lively(make, clip):
    """A tracker that any change of two objects' masks makes write, after five frames."""
    frames, masks = clip
    tracker = make(write_below_iou=0.99)
    for t in range(5):
        tracker.step(frames[t], {7: masks[0, 0], 3: masks[0, 1]} if t == 0 else None)
    return tracker


def test_more_is_written_and_a_saved_tracker_goes_on_alike(lively, clip, tiny_model, tmp_path):
    assert lively.memory.writes == 3
    lively.save(tmp_path / "lively.bank")
    loaded = mm.Tracker.load(tmp_path / "lively.bank", tiny_model)
    assert torch.equal(loaded.written, lively.written)
    for frame in clip[0][5:10]:
        assert equal(lively.step(frame), loaded.step(frame))
    assert loaded.memory.writes == lively.memory.writes > 3


def test_what_was_written_of_a_removed_object_is_forgotten(lively, clip):
    rest = lively.written[1:].clone()
    lively.remove(7)
    assert torch.equal(lively.written, rest)
    assert lively.step(clip[0][5]).object_ids == (3,)


@pytest.mark.parametrize("garbled", [{}, {"shape": [1, 2], "content": ""}, {"shape": [1, 1, 9], "content": "AA=="}])
def test_garbled_masks_are_refused(garbled):
    assert masks_from_json(masks_to_json(None), torch.device("cpu")) is None
    with pytest.raises((ValueError, KeyError)):
        masks_from_json(garbled, torch.device("cpu"))
