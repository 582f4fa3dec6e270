"""The latest frame for a while only."""

import pytest
import torch
from random_tokens import random_tokens, same
from refusals import refusal

from mnemask.errors import InputError
from mnemask.memory.policies import LFU, Fifo, KeepAll, WithLatest


def frame(step, size=4, pinned=False, num_objects=1):
    return random_tokens([step] * size, [0] * size, [pinned] * size, num_objects, seed=step)


def followed(policy, num_frames, budget, pinned=()):
    """The steps of the frames that are in memory after each write."""
    memory, history = frame(0)[:0], []
    for step in range(num_frames):
        memory = policy.update(memory, frame(step, pinned=step in pinned), budget)
        history.append(sorted(set(memory.written_at.tolist())))
    return history


def test_around_keep_all_it_is_each_fifth_frame_and_the_latest_as_in_stcn():
    history = followed(WithLatest(KeepAll()), 13, 1000)
    assert history == [sorted({*range(0, now + 1, 5), now}) for now in range(13)]


def test_around_fifo_the_latest_frame_takes_no_more_than_its_share():
    history = followed(WithLatest(Fifo(), share=0.5), 17, 12)
    assert history[-1] == [10, 15, 16]
    memory = frame(0)[:0]
    for step in range(17):
        memory = WithLatest(Fifo(), share=0.25).update(memory, frame(step), 8)
    assert torch.bincount(memory.written_at, minlength=17)[[5, 10, 15, 16]].tolist() == [
        2,
        2,
        2,
        2,
    ]  # cut as the latest, so later too


def test_of_a_frame_that_does_not_fit_its_share_the_cells_that_objects_fill_stay():
    policy = WithLatest(Fifo(), share=0.25)
    memory = policy.update(policy.update(frame(0)[:0], frame(0), 8), frame(5), 8)
    kept = policy.update(memory, frame(10), 8)
    best = frame(10).mask_fraction[0].topk(2).indices.sort().values
    assert same(kept[kept.written_at == 10], frame(10)[best])


def test_an_annotated_frame_stays_for_good_and_restarts_the_count():
    history = followed(WithLatest(Fifo()), 15, 1000, pinned=(0, 3))
    assert history[-1] == [0, 3, 8, 13, 14]


def test_the_first_frame_of_a_late_object_stays_for_the_policy_inside_without_pins_too():
    policy = WithLatest(LFU(pin=False))
    memory = policy.update(frame(0)[:0], frame(0), 100)
    memory = policy.update(memory, frame(1), 100).add_object()
    for step in (2, 3, 4):
        memory = policy.update(memory, frame(step, num_objects=2), 100)
    assert sorted(set(memory.written_at.tolist())) == [0, 2, 4]


def test_at_a_budget_of_one_frame_each_half_goes_to_one_of_both():
    memory = frame(0)[:0]
    for step in range(8):
        memory = WithLatest(Fifo()).update(memory, frame(step), 4)
    assert torch.bincount(memory.written_at, minlength=8)[[5, 7]].tolist() == [2, 2]


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan"), "half"])
def test_a_share_that_is_none_is_refused(share, as_users_call_it):
    with refusal(InputError, "latest"):
        WithLatest(Fifo(), share=share)
