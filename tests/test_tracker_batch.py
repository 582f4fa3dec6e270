"""Trackers that are stepped together do what each does alone."""

import pytest
import torch
from drawn_clip import drawn_clip
from refusals import refusal

import mnemask as mm
from mnemask.batch import TrackerBatch
from mnemask.errors import BudgetError, FrameError, InputError, MaskError
from mnemask.model.stcn import STCN

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def clips():
    """Frames and masks of three videos, with one, two and one objects."""
    return [drawn_clip(NUM_FRAMES, num_objects=k, seed=seed) for seed, k in enumerate((1, 2, 1))]


@pytest.fixture
def make(tiny_model):
    """Makes a tracker of the tiny network; frames are processed as they are."""
    return lambda policy="diverse", **settings: mm.Tracker(
        tiny_model, policy=policy, **{"short_side": None, **settings}
    )


def first_masks(clip):
    return dict(enumerate(clip[1][0], 1))


def assert_alike(ours, theirs):
    assert ours.object_ids == theirs.object_ids
    assert torch.equal(ours.labels, theirs.labels)
    # The network's weights are random, which makes much of rounding: 3e-5 here, under 5e-6 with trained ones.
    assert torch.allclose(ours.probs, theirs.probs, atol=1e-4, rtol=0)


def step_both(batch, alone, frames, prompts=None):
    """Steps the batch and trackers of their own, and compares; returns the batch's masks."""
    together = batch.step(frames, prompts)
    for ours, tracker, frame, given in zip(together, alone, frames, prompts or [None] * len(frames), strict=True):
        assert_alike(ours, tracker.step(frame, given))
    return together


def test_each_video_gets_the_masks_of_a_tracker_of_its_own(clips, make):
    settings = [("diverse", None), ("keep-all", None), ("first-and-latest", mm.Budget(frames=3))]
    batch = TrackerBatch(make(policy, budget=budget) for policy, budget in settings)
    alone = [make(policy, budget=budget) for policy, budget in settings]
    for t in range(NUM_FRAMES):
        prompts = [first_masks(clip) if t == 0 else None for clip in clips]
        step_both(batch, alone, [frames[t] for frames, _ in clips], prompts)
    for ours, tracker in zip(batch.trackers, alone, strict=True):
        assert ours.memory.stats() == tracker.memory.stats()
        assert (ours.steps, ours.last_write) == (tracker.steps, tracker.last_write)
        assert ours.explain(30, 40).frame.tolist() == tracker.explain(30, 40).frame.tolist()


def test_objects_come_and_go_and_are_corrected_in_one_video_while_others_go_on(clips, make):
    batch, alone = TrackerBatch(make() for _ in clips), [make() for _ in clips]
    given = {
        0: [first_masks(clips[0]), None, {5: clips[2][1][0, 0]}],  # the second has no objects yet
        2: [None, {4: clips[1][1][2, 0]}, None],
        3: [None, {9: clips[1][1][3, 1]}, {5: clips[2][1][3, 0]}],
    }
    for t in range(NUM_FRAMES):
        if t == 5:
            batch.trackers[1].remove(4)
            alone[1].remove(4)
        masks = step_both(batch, alone, [frames[t] for frames, _ in clips], given.get(t))
    assert [each.object_ids for each in masks] == [(1,), (9,), (5,)]


def test_videos_end_and_others_join(clips, make):
    trackers, alone = [make() for _ in clips], [make() for _ in clips]
    batch = TrackerBatch(trackers[:2])
    for t in range(3):
        prompts = [first_masks(clip) if t == 0 else None for clip in clips[:2]]
        step_both(batch, alone[:2], [frames[t] for frames, _ in clips[:2]], prompts)
    batch.remove(trackers[0])
    batch.add(trackers[2])
    assert batch.trackers == (trackers[1], trackers[2])
    step_both(batch, alone[1:], [clips[1][0][3], clips[2][0][0]], [None, first_masks(clips[2])])
    step_both(batch, alone[1:], [clips[1][0][4], clips[2][0][1]])
    assert_alike(trackers[0].step(clips[0][0][3]), alone[0].step(clips[0][0][3]))


def test_an_empty_batch_has_no_masks():
    assert TrackerBatch().step([]) == []


@pytest.fixture
def running(clips, make):
    """A batch of three trackers after two frames."""
    batch = TrackerBatch(make() for _ in clips)
    batch.step([frames[0] for frames, _ in clips], [first_masks(clip) for clip in clips])
    batch.step([frames[1] for frames, _ in clips])
    return batch


def states(batch):
    return [tracker.state() for tracker in batch.trackers]


def refused(batch, frames, prompts, error, sentence):
    """Whether the step is refused and every tracker is as it was."""
    before = states(batch)
    ids = [tracker.object_ids for tracker in batch.trackers]
    with pytest.raises(error, match=sentence):
        batch.step(frames, prompts)
    assert states(batch) == before
    assert [tracker.object_ids for tracker in batch.trackers] == ids


def test_a_bad_prompt_of_one_video_leaves_all_as_they_were(clips, running):
    frames = [frames[2] for frames, _ in clips]
    new, nothing = {8: clips[0][1][2, 0]}, {1: torch.zeros(64, 96, dtype=torch.bool)}
    refused(running, frames, [new, None, nothing], MaskError, "object 1 in frame 2 is empty")


def test_a_memory_that_cannot_hold_the_objects_of_one_video_leaves_all_as_they_were(clips, make):
    trackers = [make(), make(budget=mm.Budget(tokens=24))]
    batch = TrackerBatch(trackers)
    frames = [clips[0][0][0], clips[2][0][0]]
    batch.step(frames, [first_masks(clips[0]), first_masks(clips[2])])
    everywhere = torch.ones(64, 96, dtype=torch.bool)
    # The first video writes before the second one fails.
    refused(batch, frames, [{2: everywhere}, {2: everywhere}], BudgetError, "budget")
    assert all(tracker.step(frame).object_ids == (1,) for tracker, frame in zip(trackers, frames, strict=True))


def test_after_a_failure_the_batch_goes_on_as_if_it_had_not_been(clips, running):
    alone = [tracker.fork() for tracker in running.trackers]
    torn = [clips[0][0][2], clips[1][0][2], clips[2][0][2][:, :32]]
    refused(running, torn, None, FrameError, "frame 2 has 96×32 pixels")
    for t in range(2, NUM_FRAMES):
        step_both(running, alone, [frames[t] for frames, _ in clips])


def test_frames_of_different_sizes_are_refused_and_those_processed_at_one_size_are_not(make, clips):
    frames = [clips[0][0][0], clips[0][0][0][:, :40, :60]]
    refused(TrackerBatch([make(), make()]), frames, None, FrameError, "frame 0 of video 1 has 60×40 .* 96×64 pixels")
    assert [each.labels.shape for each in TrackerBatch([make(short_side=48), make(short_side=48)]).step(frames)] == [
        (64, 96),
        (40, 60),
    ]


def test_a_camera_skips_a_frame_and_another_fails_while_the_third_goes_on(clips, make):
    batch, alone = TrackerBatch(make() for _ in clips), [make() for _ in clips]
    given = [first_masks(clip) for clip in clips]
    for t in range(NUM_FRAMES):
        frames = [frames[t] for frames, _ in clips]
        if t == 2:
            frames[0] = None
        if t in (3, 4):
            frames[1] = frames[1][:, :32]  # of another size than before
        answers = batch.step_each(frames, given if t == 0 else None)
        for answer, tracker, frame, first in zip(answers, alone, frames, given, strict=True):
            if isinstance(answer, mm.Masks):
                assert_alike(answer, tracker.step(frame, first if t == 0 else None))
        kinds = [type(answer) for answer in answers]
        assert kinds == [type(None) if t == 2 else mm.Masks, FrameError if t in (3, 4) else mm.Masks, mm.Masks]
    assert [tracker.steps for tracker in batch.trackers] == [NUM_FRAMES - 1, NUM_FRAMES - 2, NUM_FRAMES]


def test_a_camera_that_fails_only_once_it_is_computed_leaves_the_others_their_masks(clips, make):
    trackers, alone = [make(), make(budget=mm.Budget(tokens=24))], [make(), make()]
    frames = [clips[0][0][0], clips[2][0][0]]
    given = [first_masks(clips[0]), first_masks(clips[2])]
    batch = TrackerBatch(trackers)
    batch.step(frames, given)
    everywhere = torch.ones(64, 96, dtype=torch.bool)
    alone[0].step(frames[0], given[0])
    masks, error = batch.step_each(frames, [{2: everywhere}, {2: everywhere}])
    assert_alike(masks, alone[0].step(frames[0], {2: everywhere}))
    assert isinstance(error, BudgetError)
    assert [tracker.object_ids for tracker in trackers] == [(1, 2), (1,)]


def test_cameras_of_different_sizes_are_stepped_in_one_call(clips, make):
    batch, alone = TrackerBatch([make(), make(), make()]), [make(), make(), make()]
    shapes = [(64, 96), (40, 60), (64, 96)]
    for t in range(3):
        frames = [frames[t][:, :h, :w] for (frames, _), (h, w) in zip(clips, shapes, strict=True)]
        given = [{1: torch.ones(h, w, dtype=torch.bool)} if t == 0 else None for h, w in shapes]
        for ours, tracker, frame, first in zip(batch.step_each(frames, given), alone, frames, given, strict=True):
            assert_alike(ours, tracker.step(frame, first))


def test_without_any_frame_nothing_happens(running):
    before = states(running)
    assert running.step_each([None] * 3) == [None] * 3
    assert states(running) == before


@pytest.mark.parametrize(("num_frames", "num_prompts"), [(2, None), (4, None), (3, 2), (0, None)])
def test_there_is_a_frame_and_an_entry_of_prompts_for_each_tracker(clips, running, num_frames, num_prompts):
    prompts = None if num_prompts is None else [None] * num_prompts
    refused(running, [clips[0][0][2]] * num_frames, prompts, InputError, f"there are {num_frames} frames .* 3 trackers")


def test_a_tracker_joins_once_and_with_the_network_of_the_others(make, tiny_model, as_users_call_it):
    tracker = make()
    batch = TrackerBatch([tracker])
    with refusal(InputError, "STCN"):
        TrackerBatch([tiny_model])
    with refusal(InputError, "already"):
        batch.add(tracker)
    other = STCN(tiny_model.config).eval().requires_grad_(False)
    with refusal(InputError, "different network"):
        batch.add(mm.Tracker(other))
    with refusal(InputError, "batch"):
        batch.remove(make())
    assert batch.trackers == (tracker,)
