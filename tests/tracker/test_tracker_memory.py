import gc
import weakref

import pytest
import torch
from thorough import thorough_but
from tracking import CELLS, assert_same_state, equal, run

from mnemask import Budget
from mnemask.memory.policies import LFU, POLICIES, KeepAll


@pytest.mark.parametrize(
    ("write_every", "prompted", "expected"),
    [
        (5, (0,), [0, 5, 10]),
        (5, (0, 3), [0, 3, 8]),
        (5, (2, 9), [2, 7, 9]),
        (1, (0,), list(range(12))),
        (3, (4, 5), [4, 5, 8, 11]),
    ],
)
def test_a_frame_is_written_so_many_frames_after_the_last_and_a_prompt_starts_anew(
    make, clip, write_every, prompted, expected
):
    frames, masks = clip
    tracker = make(KeepAll(write_every=write_every))
    run(tracker, frames, {t: {1: masks[t, 0]} for t in prompted})
    assert tracker.memory.tokens.frame.unique().tolist() == expected
    assert len(tracker.memory.tokens) == CELLS * len(expected)


def test_a_correction_is_memory_at_once(make, clip):
    frames, masks = clip
    tracker, twin = make(KeepAll(write_every=100)), make(KeepAll(write_every=100))
    for t in range(3):
        tracker.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
        twin.step(frames[t], {1: masks[0, 0]} if t == 0 else None)
    corrected = tracker.step(frames[3], {1: masks[3, 1]})
    twin.step(frames[3])
    assert torch.equal(corrected.mask(1), masks[3, 1])
    assert tracker.object_ids == (1,)
    assert tracker.memory.tokens.frame.unique().tolist() == [0, 3]
    with_it, without = tracker.step(frames[4]), twin.step(frames[4])
    assert float((with_it.probs - without.probs).abs().max()) > 0.05
    # the frame that was corrected now reads as it was given
    share = tracker.memory.tokens[tracker.memory.tokens.frame == 3].mask_fraction[0].view(4, 6)
    given = torch.nn.functional.avg_pool2d(masks[3, 1].float()[None], 16)[0]
    torch.testing.assert_close(share, given, atol=1e-4, rtol=0)


def test_the_first_annotated_frame_is_pinned_whole_and_a_later_one_around_its_object(make, clip):
    frames, _ = clip
    mask = torch.zeros(64, 96, dtype=torch.bool)
    mask[:16, :16] = True
    tracker = make(LFU(), budget=Budget(frames=4))
    run(tracker, frames[:4], {0: {1: mask.flip(0)}, 2: {2: mask}})
    tokens = tracker.memory.tokens
    assert tokens.pinned[tokens.frame == 0].all()
    corner = torch.zeros(4, 6, dtype=torch.bool)
    corner[:2, :2] = True
    assert torch.equal(tokens.pinned[tokens.frame == 2].view(4, 6), corner)
    unpinned = make("lfu")
    run(unpinned, frames[:4], {0: {1: mask}})
    assert not unpinned.memory.tokens.pinned.any()


@pytest.mark.parametrize("policy", thorough_but(1, ["lfu-pinned", "lfu", "first-and-latest"]))
def test_memory_never_grows_beyond_the_budget(make, clip, policy):
    frames, masks = clip
    tracker = make(policy, budget=Budget(frames=2.5))
    prompts = {0: {1: masks[0, 0]}, 20: {2: masks[8, 1]}, 41: {1: masks[5, 0]}}
    for t in range(60):
        tracker.step(frames[t % 12], prompts.get(t))
        assert len(tracker.memory.tokens) <= 2.5 * CELLS
    assert len(tracker.memory.tokens) == 2.5 * CELLS
    assert tracker.memory.stats().evictions > 0


def test_a_pinned_frame_and_the_newest_fill_two_frames_and_beyond_them_use_decides(make, clip):
    frames, masks = clip
    policy = LFU(write_every=2)
    two, three = make(policy), make(policy, budget=Budget(frames=3))
    for tracker in (two, three):
        run(tracker, frames, {0: {1: masks[0, 0]}})
    assert two.memory.tokens.frame.unique().tolist() == [0, two.last_write]
    assert len(three.memory.tokens.frame.unique()) > 3


def reachable(root):
    """All tensors that an object keeps alive by way of Python attributes and containers."""
    seen, found, queue = set(), [], [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type | torch.nn.Module):
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif isinstance(item, dict | list | tuple | set) or type(item).__module__.startswith("mnemask"):
            queue.extend(gc.get_referents(item))
    return found


def test_a_tracker_holds_on_to_nothing_but_its_memory_and_what_the_last_read_chose(make, clip):
    frames, masks = clip
    tracker, watched = make("lfu"), []
    for t in range(12):
        frame = frames[t].clone()
        found = tracker.step(frame, {1: masks[0, 0].clone()} if t == 0 else None)
        watched += [weakref.ref(item) for item in (frame, found.labels, found.probs)]
        del frame, found
    gc.collect()
    assert [ref for ref in watched if ref() is not None] == []
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in reachable(tracker)}
    stats, to_explain = tracker.memory.stats(), tracker.memory.last_read.num_bytes
    assert sum(storages.values()) == stats.bank_bytes + to_explain
    assert to_explain <= stats.buffer_bytes


@pytest.mark.parametrize("policy", thorough_but(2, POLICIES))
def test_two_runs_are_equal_to_the_last_bit(make, clip, policy):
    frames, masks = clip
    prompts = {0: {1: masks[0, 0], 2: masks[0, 1]}, 7: {3: masks[7, 2]}}
    first, second = make(policy, budget=Budget(frames=5)), make(policy, budget=Budget(frames=5))
    for a, b in zip(run(first, frames, prompts), run(second, frames, prompts), strict=True):
        assert equal(a, b)
    assert_same_state(first, second)
