"""Averages over views of each frame: mirrored, larger and smaller, each with a memory of its own."""

from dataclasses import replace

import pytest
import torch
from refusals import refusal
from tracking import assert_same_state, equal

import mnemask as mm
from mnemask.config import View, views_of
from mnemask.errors import BudgetError, FrameError, InputError


@pytest.mark.parametrize(
    ("tta", "views"),
    [
        ("", [View()]),
        ("flip", [View(), View(True)]),
        ("scales", [View(), View(False, 0.8), View(False, 1.25)]),
        ("1.5, flip", [View(), View(True), View(False, 1.5), View(True, 1.5)]),
        ("1", [View()]),
    ],
)
def test_views_are_named_after_commas(tta, views):
    assert list(views_of(tta)) == views


@pytest.mark.parametrize("tta", ["mirror", "flip,", "0.1", "nan", "3"])
def test_other_views_are_refused(tta):
    with refusal(InputError, str(tta)):
        mm.TrackerConfig(tta=tta)


def test_another_scale_needs_a_size_to_scale():
    with refusal(InputError, "scales"):
        mm.TrackerConfig(tta="scales", short_side=None)


@pytest.fixture
def several(make, clip):
    """A tracker of two views after five frames, and the frames to come."""
    frames, masks = clip
    tracker = make(tta="flip")
    for t in range(5):
        tracker.step(frames[t], {7: masks[0, 0], 3: masks[0, 1]} if t == 0 else None)
    return tracker, frames[5:]


def test_masks_are_those_of_the_mean_of_what_trackers_of_each_view_say(make, clip):
    frames, masks = clip
    tracker, plain, mirrored = make(tta="flip"), make(), make()
    for t, frame in enumerate(frames[:8]):
        prompts = {7: masks[t, 0]} if t in (0, 6) else {3: masks[t, 1]} if t == 3 else {7: None} if t == 7 else None
        answer, first = tracker.step(frame, prompts), plain.step(frame, prompts)
        flipped = prompts and {key: None if mask is None else mask.flip(-1) for key, mask in prompts.items()}
        second = mirrored.step(frame.flip(-1), flipped)
        assert torch.equal(answer.probs, torch.stack((first.probs, second.probs.flip(-1))).mean(0))
        assert answer.object_ids == first.object_ids
        for object_id, mask in (prompts or {}).items():
            assert mask is None or torch.equal(answer.labels == object_id, mask)
    assert tracker.stats().tokens == plain.memory.stats().tokens + mirrored.memory.stats().tokens


def test_views_of_other_sizes_answer_at_the_size_of_the_frame(make, clip):
    frames, masks = clip
    tracker = make(tta="1.5", short_side=48)
    assert [each.short_side for each in tracker.trackers] == [48, 72]
    assert tracker.step(frames[0], {1: masks[0, 0]}).probs.shape == (2, *frames.shape[2:])


def test_a_saved_tracker_goes_on_in_all_its_views(several, tiny_model, tmp_path):
    tracker, rest = several
    tracker.save(tmp_path / "views.bank")
    loaded = mm.Tracker.load(tmp_path / "views.bank", tiny_model)
    for frame in rest:
        assert equal(tracker.step(frame), loaded.step(frame))
    for mine, its in zip(tracker.trackers, loaded.trackers, strict=True):
        assert_same_state(mine, its)


def test_what_fails_in_one_view_undoes_all(several):
    tracker, rest = several
    before = [(each.steps, each.memory.reads) for each in tracker.trackers]
    step, tracker.others[0].memory.read = tracker.others[0].memory.read, None
    with pytest.raises(TypeError):
        tracker.step(rest[0])
    tracker.others[0].memory.read = step
    assert [(each.steps, each.memory.reads) for each in tracker.trackers] == before
    with refusal(FrameError, "has"):
        tracker.step(torch.zeros(3, 32, 32, dtype=torch.uint8))


def test_removal_and_a_warm_start_reach_all_views(several, make, clip):
    tracker, _ = several
    tracker.remove(7)
    assert [each.object_ids for each in tracker.trackers] == [(3,), (3,)]
    new = make(tta="flip")
    new.warm_start(tracker)
    assert new.step(clip[0][0]).object_ids == (3,)
    assert new.others[0].object_ids == (3,)
    with refusal(InputError, "flip"):
        make().warm_start(tracker)


def test_an_object_can_be_removed_from_a_memory_that_was_frozen_for_a_while(several):
    tracker, rest = several
    tracker.memory.frozen = True
    tracker.step(rest[0])
    tracker.memory.frozen = False
    tracker.remove(7)
    assert [each.object_ids for each in tracker.trackers] == [(3,), (3,)]
    tracker.memory.frozen = True
    tracker.step(rest[1])
    tracker.memory.frozen = False
    assert tracker.step(rest[2], {3: None}).object_ids == ()


def test_a_removal_that_fails_in_one_view_is_undone_in_all(several, monkeypatch):
    tracker, rest = several
    other = tracker.others[0].memory
    monkeypatch.setattr(other, "remove_object", None)
    with pytest.raises(TypeError):
        tracker.remove(7)
    monkeypatch.undo()
    assert [each.object_ids for each in tracker.trackers] == [(7, 3), (7, 3)]
    assert tracker.step(rest[0]).object_ids == (7, 3)


def test_a_mean_for_which_there_is_no_memory_undoes_all_views(several, monkeypatch):
    def without_memory(views, answers):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    tracker, rest = several
    monkeypatch.setattr("mnemask.tracker.mean_of", without_memory)
    with refusal(BudgetError, "2 objects"):
        tracker.step(rest[0])
    assert [each.steps for each in tracker.trackers] == [5, 5]


def test_a_batch_refuses_a_tracker_of_several_views(several):
    with refusal(InputError, "flip"):
        mm.TrackerBatch([several[0]])


def test_a_config_keeps_its_views(make):
    config = replace(make().config, tta="flip,1.5", short_side=64)
    assert mm.TrackerConfig.from_dict(config.to_dict()).views() == config.views()
