"""A frame is written sooner where objects grow, and later where their masks are not certain."""

import pytest
import torch
import torch.nn.functional as F
from drawn_clip import drawn_clip
from tracking import equal

import mnemask as mm
from mnemask.memory.policies import POLICIES, Diverse, PerObject
from mnemask.state import _areas
from mnemask.step import SOONEST, areas, certainty, growth, largest_areas, write_is_due

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
    ("size", "moved", "since", "due"),
    [
        (4, 0, 2, False),
        (4, 5, 2, False),
        (5, 0, 2, True),
        (3, 0, 2, False),
        (5, 0, SOONEST - 1, False),
        (4, 0, 5, True),
    ],
)
def test_a_frame_is_written_sooner_where_an_object_has_grown_and_not_where_it_moved_or_shrank(size, moved, since, due):
    now = square(moved * CELL, size=size)
    assert write_is_due(rule(write_on_growth=0.25), since, now, areas(square(0)[1:])) is due
    assert write_is_due(rule(), since, now, None) is (since >= 5)


def test_growth_is_that_of_the_object_that_grew_most_over_the_largest_it_ever_was():
    small, large = areas(square(0, 1.0)[1:]), areas(square(0, 1.0, size=8)[1:])
    assert (small.tolist(), large.tolist()) == ([16.0], [64.0])
    assert growth(large, small) == pytest.approx(65 / 17 - 1)
    assert growth(torch.cat((small, large)), torch.cat((large, large))) == 0
    assert growth(torch.full((1,), 0.2), torch.zeros(1)) < 0.25, "a speck"
    assert largest_areas(small, None).tolist() == [16]
    assert largest_areas(small, large).tolist() == [64]
    assert largest_areas(torch.cat((small, large)), large).tolist() == [64, 64], "a new object comes last"


def test_a_frame_of_doubtful_masks_waits_until_they_are_certain():
    careful = rule(write_above_certainty=0.9)
    assert [write_is_due(careful, 7, square(0, certain), None) for certain in (0.6, 0.99, 0.0)] == [False, True, False]
    assert certainty(square(0, 0.75)) == pytest.approx(0.75)


def test_only_diverse_writes_sooner_by_itself():
    assert {name: policy.write_on_growth for name, policy in POLICIES.items() if policy.write_on_growth} == {
        "diverse": 0.25
    }


@pytest.mark.parametrize(
    ("policy", "settings", "every", "by"),
    [
        ("diverse", {}, 5, 0.25),
        ("diverse", {"write_on_growth": 0}, 5, 0),
        ("diverse", {"write_on_growth": 0.5}, 5, 0.5),
        ("diverse", {"write_every": 5}, 5, 0),
        ("diverse", {"write_every": 3, "write_on_growth": 0.5}, 3, 0.5),
        (Diverse(write_every=3), {}, 3, 0.25),
        (PerObject(Diverse()), {"write_on_growth": 0}, 5, 0),
        ("lfu", {}, 5, 0),
        ("lfu", {"write_on_growth": 0.7}, 5, 0.7),
    ],
)
def test_frames_are_written_as_the_policy_says_unless_an_interval_or_a_growth_is_given(policy, settings, every, by):
    config = mm.TrackerConfig(policy, **settings)
    filled = config.filled(0.0)
    assert (filled.write_every, filled.write_on_growth) == (every, by)
    for each in (config, filled, mm.TrackerConfig.from_dict(filled.to_dict())):
        assert (each.used_policy().write_every, each.used_policy().write_on_growth) == (every, by)


@pytest.mark.parametrize(
    ("settings", "larger", "written"),
    [({}, 1, 5), ({}, 1.5, 3), ({"write_on_growth": 0}, 1.5, 5), ({"policy": "lfu"}, 1.5, 5)],
)
def test_by_default_what_grows_is_written_at_once_and_what_stays_as_it_is_at_the_interval(settings, larger, written):
    (frame,), ((mask,),) = drawn_clip(1, 96, 160)
    tracker = mm.Tracker(mm.load_model("compact", device="cpu"), short_side=96, **settings)
    middle = [
        (2 * where.float().mean() + 1) / side - 1 for where, side in zip(mask.nonzero().T, mask.shape, strict=True)
    ]
    zoom = torch.tensor([[[1 / larger, 0, middle[1]], [0, 1 / larger, middle[0]]]])
    grid = F.affine_grid(zoom, [1, 3, *mask.shape], align_corners=False)
    nearer = F.grid_sample(frame[None].float(), grid, padding_mode="border", align_corners=False)[0].byte()
    for t in range(6):
        tracker.step(nearer if t >= 3 else frame, {1: mask} if t == 0 else None)
    assert (tracker.memory.writes, tracker.last_write) == (2, written)


@pytest.fixture
def lively(make, clip):
    """A tracker that any change of two objects makes write, after five frames."""
    frames, masks = clip
    tracker = make(write_on_growth=0.0001)
    for t in range(5):
        tracker.step(frames[t], {7: masks[0, 0], 3: masks[0, 1]} if t == 0 else None)
    return tracker


def test_more_is_written_and_a_saved_tracker_goes_on_alike(lively, clip, tiny_model, tmp_path):
    assert lively.memory.writes == 3
    lively.save(tmp_path / "lively.bank")
    loaded = mm.Tracker.load(tmp_path / "lively.bank", tiny_model)
    assert torch.equal(loaded.written_area, lively.written_area)
    for frame in clip[0][5:10]:
        assert equal(lively.step(frame), loaded.step(frame))
    assert loaded.memory.writes == lively.memory.writes > 3


def test_what_was_written_of_a_removed_object_is_forgotten(lively, clip):
    rest = lively.written_area[1:].clone()
    lively.remove(7)
    assert torch.equal(lively.written_area, rest)
    assert lively.step(clip[0][5]).object_ids == (3,)


@pytest.mark.parametrize("garbled", [{}, [[1.0]], [-1.0], [float("nan")], ["1"], 3.0])
def test_garbled_areas_are_refused(garbled):
    assert _areas(None, torch.device("cpu")) is None
    with pytest.raises((ValueError, TypeError)):
        _areas(garbled, torch.device("cpu"))
