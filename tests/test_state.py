"""A tracker that is forked, frozen, or starts with what another one remembers."""

import copy

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal
from thorough import thorough_but

import mnemask as mm
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.introspection import read_provenance
from mnemask.memory.policies import POLICIES
from mnemask.model.stcn import STCN
from mnemask.types import MAX_OBJECTS, Objects


@pytest.fixture
def half_way(tiny_model):
    """A tracker after 8 of 14 frames, and the frames to come."""
    frames, masks = drawn_clip(14, num_objects=2)
    tracker = mm.Tracker(tiny_model, short_side=None)
    for t in range(8):
        tracker.step(frames[t], {7: masks[0, 0], 3: masks[0, 1]} if t == 0 else None)
    return tracker, frames[8:]


def follow(tracker, frames):
    return torch.stack([tracker.step(frame).probs for frame in frames])


def tokens(tracker):
    return {name: tensor.clone() for name, tensor in tracker.memory.tokens.tensors().items()}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_fork_goes_on_with_identical_masks(half_way):
    tracker, rest = half_way
    fork = tracker.fork()
    assert fork.memory.stats() == tracker.memory.stats()
    assert torch.equal(follow(fork, rest), follow(tracker, rest))


def test_what_is_done_to_a_fork_is_not_seen_by_the_other(half_way):
    tracker, rest = half_way
    untouched, fork = tracker.fork(), tracker.fork()
    before = tokens(tracker)
    fork.remove(7)
    fork.step(rest[0], {9: torch.ones(64, 96, dtype=torch.bool)})
    fork.memory.frozen = True
    assert tracker.object_ids == (7, 3)
    assert same(tokens(tracker), before)
    assert torch.equal(follow(tracker, rest), follow(untouched, rest))


def test_a_shallow_copy_is_a_fork_so_that_the_original_does_not_change_with_it(half_way):
    tracker, rest = half_way
    untouched, twin = tracker.fork(), copy.copy(tracker)
    batch = mm.TrackerBatch([tracker])
    twins = copy.copy(batch)
    twin.step(rest[0])
    twins.step([rest[0]])
    for each in (twin, *twins.trackers):
        each.remove(7)
    twins.add(twin)
    assert (tracker.object_ids, batch.trackers) == ((7, 3), (tracker,))
    assert torch.equal(follow(tracker, rest), follow(untouched, rest))


def test_a_fork_costs_no_copy_of_the_tokens(half_way):
    tracker, _ = half_way
    assert tracker.fork().memory.tokens.value.data_ptr() == tracker.memory.tokens.value.data_ptr()


def test_a_frozen_memory_answers_and_does_not_change(half_way):
    tracker, rest = half_way
    tracker.memory.frozen = True
    before, stats = tokens(tracker), tracker.memory.stats()
    answers = follow(tracker, rest)
    assert same(tokens(tracker), before)
    assert tracker.memory.stats() == stats
    assert answers.shape[1] == 3
    tracker.memory.frozen = False
    tracker.step(rest[0])
    assert tracker.memory.stats().writes == stats.writes + 1  # what was due is written now


def test_a_frozen_memory_refuses_what_would_change_it(half_way):
    tracker, rest = half_way
    tracker.memory.frozen = True
    before = tokens(tracker)
    with refusal(InputError, r"\[9\]"):
        tracker.step(rest[0], {9: torch.ones(64, 96, dtype=torch.bool)})
    with refusal(InputError, "removal"):
        tracker.remove(7)
    assert tracker.object_ids == (7, 3)
    assert same(tokens(tracker), before)


def test_a_frozen_tracker_is_frozen_when_loaded(half_way, tiny_model, tmp_path):
    tracker, _ = half_way
    tracker.memory.frozen = True
    tracker.save(tmp_path / "frozen.bank")
    assert mm.Tracker.load(tmp_path / "frozen.bank", tiny_model).memory.frozen


# Another video


def test_a_warm_start_needs_no_mask_and_keeps_what_was_pinned(half_way, tiny_model, tmp_path):
    tracker, _ = half_way
    tracker.save(tmp_path / "first.bank")
    pinned = tracker.memory.tokens[tracker.memory.tokens.pinned]
    second = mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=None)
    second.warm_start(mm.Tracker.load(tmp_path / "first.bank", tiny_model))
    frames, _ = drawn_clip(12, 80, 128, num_objects=2, seed=5)
    for index, frame in enumerate(frames):
        answer = second.step(frame)
        assert answer.object_ids == (7, 3)
        assert answer.labels.shape == (80, 128)
        assert answer.index == index
    kept = second.memory.tokens[second.memory.tokens.pinned]
    assert torch.equal(kept.key, pinned.key)
    assert torch.equal(kept.value, pinned.value)
    assert bool((kept.frame < 0).all())
    assert second.memory.stats().writes == tracker.memory.stats().writes + 2  # of frames 5 and 10
    assert set(second.memory.provenance().frame) == {5, 10}


def test_after_a_warm_start_the_memory_is_counted_in_frames_of_the_video_to_come(half_way, tiny_model):
    second = mm.Tracker(tiny_model, budget=mm.Budget(tokens=50), short_side=None)
    second.warm_start(half_way[0])
    second.step(drawn_clip(1, 80, 128, num_objects=2, seed=5)[0][0])  # of 40 cells, where the first had 24
    assert (second.stats().frames, second.stats().capacity) == (second.stats().tokens / 40, 50)


@pytest.fixture
def remembered(tiny_model):
    """Returns a tracker of two objects whose memory has 6 frames, or as much as the policy keeps of them."""

    def track(policy="lfu-pinned", frozen=False):
        frames, masks = drawn_clip(8, num_objects=2)
        tracker = mm.Tracker(tiny_model, policy=policy, budget=mm.Budget(frames=6), write_every=1, short_side=None)
        for t, frame in enumerate(frames):
            tracker.step(frame, {7: masks[0, 0], 3: masks[0, 1]} if t == 0 else None)
        tracker.memory.frozen = frozen
        return tracker

    return track


@pytest.mark.parametrize("policy", thorough_but(3, [name for name in POLICIES if name != "keep-all"]))
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
def test_a_warm_start_keeps_to_the_budget_from_the_first_frame_on(remembered, tiny_model, policy, frozen):
    tracker = remembered(policy, frozen)
    second = mm.Tracker(tiny_model, policy=policy, budget=mm.Budget(frames=1.5), short_side=None)
    second.warm_start(tracker)
    held = []
    for frame in drawn_clip(7, num_objects=2, seed=5)[0]:
        assert second.step(frame).object_ids == (7, 3)
        assert second.stats().tokens <= second.stats().capacity == 36
        assert second.stats().pinned == tracker.stats().pinned
        held.append(second.memory.tokens.key)
    assert frozen == torch.equal(held[0], held[-1])
    if frozen:
        assert second.stats().evictions - tracker.stats().evictions == tracker.stats().tokens - len(held[0])


def test_a_warm_start_takes_over_all_that_the_budget_holds(remembered, tiny_model):
    tracker = remembered()
    second = mm.Tracker(tiny_model, policy="lfu-pinned", budget=mm.Budget(frames=6), short_side=None)
    second.warm_start(tracker)
    second.step(drawn_clip(1, num_objects=2, seed=5)[0][0])
    assert torch.equal(second.memory.tokens.key, tracker.memory.tokens.key)
    assert second.stats().evictions == tracker.stats().evictions


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize(
    ("policy", "budget", "fact"),
    [
        ("lfu-pinned", mm.Budget(tokens=10), "10 tokens"),  # less than a frame
        ("keep-all", mm.Budget(tokens=100), "keep-all"),
        ("lfu-pinned", mm.Budget(tokens=20), "may not be evicted"),
    ],
)
def test_what_must_be_kept_and_does_not_fit_is_said_before_the_first_masks(
    remembered, tiny_model, policy, budget, fact, frozen
):
    tracker = remembered(frozen=frozen)
    second = mm.Tracker(tiny_model, policy=policy, budget=budget, short_side=None)
    second.warm_start(tracker)
    frames, before = drawn_clip(2, 48, 80, num_objects=2, seed=5)[0], second.stats()
    for frame in frames:
        with refusal(mm.errors.BudgetError, fact):
            second.step(frame)
    assert (second.steps, second.stats().tokens) == (0, before.tokens)


def test_a_warm_start_gives_corrections_up_before_first_masks(remembered, tiny_model):
    tracker, everywhere = remembered(), torch.ones(64, 96, dtype=torch.bool)
    for object_id, frame in zip((7, 3), drawn_clip(2, num_objects=2, seed=5)[0], strict=True):
        tracker.step(frame, {object_id: everywhere})
    assert tracker.stats().pinned == 3 * 24
    second = mm.Tracker(tiny_model, policy="lfu-pinned", budget=mm.Budget(tokens=30), short_side=None)
    second.warm_start(tracker)
    assert second.step(drawn_clip(1, num_objects=2, seed=5)[0][0]).object_ids == (7, 3)
    assert (second.stats().tokens, second.stats().pinned) == (30, 24)


def test_a_state_goes_to_the_device_of_its_network_whole(half_way):
    state = half_way[0].state().on(torch.device("meta"), torch.bfloat16)
    assert {tensor.device.type for tensor in (*state.tokens.tensors().values(), state.written_area)} == {"meta"}
    assert state.tokens.value.dtype == torch.bfloat16
    assert state.tokens.key.dtype == torch.float32


def test_a_warm_start_takes_corrections_and_leaves_the_other_tracker_as_it_is(half_way, tiny_model):
    tracker, rest = half_way
    untouched = tracker.fork()
    second = mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=None)
    second.warm_start(tracker)
    frames, masks = drawn_clip(2, num_objects=1, seed=5)
    answer = second.step(frames[0], {7: masks[0, 0]})
    assert torch.equal(answer.mask(7), masks[0, 0])
    assert second.step(frames[1]).object_ids == (7, 3)
    assert torch.equal(follow(tracker, rest), follow(untouched, rest))


def test_a_warm_started_tracker_can_be_saved_and_looked_into(half_way, tiny_model, tmp_path):
    second = mm.Tracker(tiny_model, budget=mm.Budget(frames=4), short_side=None)
    second.warm_start(half_way[0])
    frames, _ = drawn_clip(6, 48, 64, seed=5)
    follow(second, frames)
    second.save(tmp_path / "second.bank")
    assert set(read_provenance(tmp_path / "second.bank").frame) == {5}
    assert torch.equal(follow(mm.Tracker.load(tmp_path / "second.bank", tiny_model), frames), follow(second, frames))


def test_a_warm_start_is_refused_where_it_makes_no_sense(half_way, tiny_model):
    tracker, _ = half_way
    with refusal(InputError, "warm-start"):
        tracker.warm_start(tracker.fork())
    with refusal(InputError, r"'l2'"):
        mm.Tracker(tiny_model, metric="dot").warm_start(tracker)
    with refusal(CheckpointError, "another"):
        mm.Tracker(STCN(tiny_model.config).eval()).warm_start(tracker)


def test_more_objects_than_can_be_tracked_are_refused_before_anything_is_computed():
    objects = Objects(range(1, MAX_OBJECTS + 1))
    with refusal(mm.errors.ObjectIdError, rf"{MAX_OBJECTS}"):
        objects.add(MAX_OBJECTS + 1)
    objects.remove(1)
    objects.add(1000)
    assert objects.row(1000) == MAX_OBJECTS - 1
