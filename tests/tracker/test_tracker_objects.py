import copy

import pytest
import torch
from refusals import refusal
from thorough import thorough_but
from tracking import CELLS, assert_same_state, equal

from mnemask import Budget, Tracker
from mnemask.errors import BudgetError
from mnemask.memory.policies import POLICIES


@pytest.mark.parametrize("policy", thorough_but(3, POLICIES))
def test_a_late_object_is_covered_only_by_what_was_written_since_it_came(make, clip, policy):
    frames, masks = clip
    tracker = make(policy, budget=Budget(frames=6))
    prompts = {0: {1: masks[0, 0]}, 3: {9: masks[3, 1]}, 6: {4: masks[6, 2]}}
    for t, frame in enumerate(frames):
        found = tracker.step(frame, prompts.get(t))
        assert found.object_ids == (1, 9, 4)[: 1 + (t >= 3) + (t >= 6)]
        for object_id in prompts.get(t, {}):
            assert found.mask(object_id).any()
    tokens = tracker.memory.tokens
    for row, since in enumerate((0, 3, 6)):
        assert torch.equal(tokens.valid[row], tokens.written_at >= since)
        assert torch.count_nonzero(tokens.value[row, ~tokens.valid[row]]) == 0


def test_a_late_object_is_the_same_as_one_that_was_there_alone(make, clip):
    # One key bank serves all: what another object left behind must not be read by a late one.
    frames, masks = clip
    both, alone = make("keep-all"), make("keep-all")
    both.step(frames[0], {1: masks[0, 0]})
    both.step(frames[1])
    both.remove(1)
    assert both.memory.tokens is None
    alone.step(frames[0])
    alone.step(frames[1])
    for t in range(2, 9):
        prompts = {2: masks[2, 1]} if t == 2 else None
        assert equal(both.step(frames[t], prompts), alone.step(frames[t], prompts))


def test_other_objects_give_way_to_a_given_mask_however_sure_they_are(clip, tiny_model):
    frames, masks = clip
    sure = copy.deepcopy(tiny_model)
    sure.decoder.pred.bias.fill_(60)  # every prediction is certain
    tracker = Tracker(sure, policy="keep-all", short_side=None)
    tracker.step(frames[0], {1: masks[0, 0]})
    assert float(tracker.step(frames[1]).probs[1].min()) > 0.99
    found = tracker.step(frames[2], {2: masks[2, 1]})
    assert float(found.probs[2][masks[2, 1]].min()) > 0.99
    assert torch.equal(found.mask(1), ~masks[2, 1])


def test_an_id_that_was_removed_and_comes_again_is_a_new_object(make, clip):
    frames, masks = clip
    again, never = make("keep-all"), make("keep-all")
    for tracker, object_id in ((again, 1), (never, 8)):
        tracker.step(frames[0], {object_id: masks[0, 0], 2: masks[0, 1]})
        for t in range(1, 6):
            tracker.step(frames[t])
        tracker.remove(object_id)
        assert tracker.object_ids == (2,)
    for t in range(6, 12):
        prompts = {1: masks[6, 2]} if t == 6 else None
        assert equal(again.step(frames[t], prompts), never.step(frames[t], prompts))


def test_removing_one_object_leaves_the_others_where_they_were(make, clip):
    frames, masks = clip
    tracker = make("keep-all")
    tracker.step(frames[0], {k + 1: masks[0, k] for k in range(3)})
    twin = copy.deepcopy(tracker)
    tracker.remove(2)
    found, expected = tracker.step(frames[1]), twin.step(frames[1])
    assert found.object_ids == (1, 3)
    assert found.probs.shape == (3, 64, 96)
    # Odds against the background: of each object alone, and of the others' competition in the background only.
    assert not torch.equal(found.probs[0], expected.probs[0])
    for row, was in ((1, 1), (2, 3)):
        ratio = (found.probs[row] / found.probs[0]) / (expected.probs[was] / expected.probs[0])
        assert (ratio <= 1 + 1e-3).all()  # without the removed object there is more background


def test_objects_that_come_and_go_do_not_use_the_budget_up(make, clip):
    frames, masks = clip
    tracker = make("lfu-pinned", budget=Budget(frames=2))
    for t in range(40):
        prompts = {t + 1: masks[t % 12, t % 3]} if t % 2 == 0 else None
        tracker.step(frames[t % 12], prompts)
        if t % 2 == 0 and t > 0:
            tracker.remove(t - 1)
    assert tracker.memory.stats().pinned <= 2 * CELLS


def test_corrections_do_not_use_the_budget_up(make, clip):
    frames, masks = clip
    tracker = make("lfu-pinned", budget=Budget(frames=2))
    for t in range(12):
        tracker.step(frames[t], {1: masks[t, 0]})
    assert tracker.memory.stats().tokens <= 2 * CELLS


def test_corrections_of_objects_in_turn_do_not_use_the_budget_up(make, clip, caplog):
    frames, masks = clip
    wide = torch.zeros_like(masks[0, 0])
    wide[:40] = True
    tracker = make("diverse", budget=Budget(frames=2))
    tracker.step(frames[0], {1: masks[0, 0], 2: masks[0, 1], 3: masks[0, 2]})
    with caplog.at_level("INFO", "mnemask"):
        for t in range(1, 9):
            answer = tracker.step(frames[t], {1 + t % 3: wide.roll(t, 0)})
            assert torch.equal(answer.labels == 1 + t % 3, wide.roll(t, 0))
    assert "do not fit the budget" in caplog.text
    assert tracker.memory.stats().tokens <= 2 * CELLS


@pytest.mark.parametrize("policy", ["diverse", "lfu-pinned", "fifo"])
def test_first_masks_of_objects_that_come_one_after_the_other_do_not_use_the_budget_up(make, clip, caplog, policy):
    frames, masks = clip
    high = torch.zeros_like(masks[0, 0])
    high[:24] = True
    tracker = make(policy, budget=Budget(frames=2))
    with caplog.at_level("INFO", "mnemask"):
        for t in range(10):
            answer = tracker.step(frames[t % 12], {t + 1: high.roll(4 * t, 0)})
            assert torch.equal(answer.labels == t + 1, high.roll(4 * t, 0))
            assert tracker.memory.stats().tokens <= 2 * CELLS
    assert "first masks of later objects up to frame" in caplog.text
    pinned = tracker.memory.tokens.frame[tracker.memory.tokens.pinned]
    assert (pinned == 0).sum() >= CELLS // 4, "the first annotated frame stays"
    kept = make(policy, budget=Budget(frames=2), keep_corrections=True)
    with refusal(BudgetError, r"annotated frames need \d+ tokens", "give a larger budget"):
        for t in range(10):
            kept.step(frames[t % 12], {t + 1: high.roll(4 * t, 0)})


def test_a_correction_beside_first_masks_that_fill_the_budget_is_not_pinned(make, clip, caplog):
    frames, masks = clip
    above = torch.zeros_like(masks[0, 0])
    above[:24] = True
    tracker = make("lfu-pinned", budget=Budget(frames=2))
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.step(frames[1], {2: above})
    first = tracker.memory.tokens.pins.sum(1).tolist()
    with caplog.at_level("INFO", "mnemask"):
        for t, object_id in ((2, 1), (3, 2), (4, 1)):
            answer = tracker.step(frames[t], {object_id: ~above})
            assert torch.equal(answer.labels == object_id, ~above)
            assert tracker.memory.tokens.pins.sum(1).tolist() == first
            assert bool((tracker.memory.tokens.frame == t).any())
    assert caplog.text.count("up to frame") == 3
    kept = make("lfu-pinned", budget=Budget(frames=2), keep_corrections=True)
    kept.step(frames[0], {1: masks[0, 0]})
    kept.step(frames[1], {2: above})
    before = kept.fork()
    with refusal(BudgetError, "budget"):
        kept.step(frames[2], {1: ~above})
    assert_same_state(kept, before)
    with caplog.at_level("INFO", "mnemask"):
        tracker.step(frames[5], {3: ~above})
    assert "first masks of later objects up to frame 5" in caplog.text
    tokens = tracker.memory.tokens
    assert bool((tokens.mask_fraction[2, tokens.frame == 5] > 0).any())
    assert not bool(tokens.pins[2].any())


def test_an_object_for_which_there_is_no_room_beside_the_first_frame_is_refused(make, clip):
    frames, masks = clip
    tracker = make("lfu-pinned", budget=Budget(frames=1))
    tracker.step(frames[0], {1: masks[0, 0]})
    before = tracker.fork()
    with refusal(BudgetError, "annotated frames need", "larger budget"):
        tracker.step(frames[1], {2: masks[1, 1]})
    assert_same_state(tracker, before)


def test_corrections_that_are_all_kept_need_a_budget_for_them(make, clip):
    frames, masks = clip
    wide = torch.zeros_like(masks[0, 0])
    wide[:40] = True
    tracker = make("diverse", budget=Budget(frames=2), keep_corrections=True)
    tracker.step(frames[0], {1: masks[0, 0], 2: masks[0, 1], 3: masks[0, 2]})
    with refusal(BudgetError, "budget"):
        for t in range(1, 12):
            tracker.step(frames[t], {1 + t % 3: wide.roll(t, 0)})
    assert tracker.fork().config.keep_corrections


def test_objects_that_come_and_go_beside_one_that_stays_do_not_use_the_budget_up(make, clip):
    frames, masks = clip
    tracker = make("lfu-pinned", budget=Budget(frames=2))
    tracker.step(frames[0], {1: masks[0, 0]})
    for t in range(1, 12):
        tracker.step(frames[t], {t + 1: masks[t, 1]})
        tracker.remove(t + 1)
    assert tracker.object_ids == (1,)


def test_without_objects_left_all_is_background_again(make, clip):
    frames, masks = clip
    tracker = make()
    tracker.step(frames[0], {1: masks[0, 0]})
    tracker.step(frames[1])
    tracker.remove(1)
    found = tracker.step(frames[2])
    assert found.object_ids == ()
    assert torch.count_nonzero(found.labels) == 0
    assert tracker.memory.stats().tokens == 0
