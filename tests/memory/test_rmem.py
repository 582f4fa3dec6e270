"""The restricted memory: which frames stay."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch
from frame_tokens import frame_tokens, joined, steps
from random_tokens import same
from refusals import refusal
from thorough import thorough_but

from mnemask.errors import InputError
from mnemask.memory.policies.whole_frames import DiverseMemory, RestrictedMemory


def scores_by_hand(frames, now, policy):
    """Relevance + freshness of each frame, one at a time."""
    attention, lived = [], []
    for frame in frames:
        age = now - int(frame.written_at[0])
        filled = frame.mask_fraction.sum(0).clamp(max=1)
        attention.append(sum(float(m) * float(f) for m, f in zip(frame.attention_mass, filled, strict=True)) / age)
        lived.append(1 + age / policy.write_every)
    bonus = [policy.freshness * sqrt(log(sum(lived)) / (t + policy.patience)) for t in lived]
    return [part / sum(attention) + more for part, more in zip(attention, bonus, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_the_frames_with_the_best_scores_stay_whole(seed):
    generator = torch.Generator().manual_seed(seed)
    policy = RestrictedMemory(freshness=0.5)
    frames = [
        replace(
            frame_tokens(step, 6, 2, pinned=step == 0),
            attention_mass=9 * torch.rand(1, generator=generator) * torch.rand(6),
        )
        for step in range(0, 35, 5)
    ]
    new = frame_tokens(35, 6, 2)
    score = scores_by_hand(frames, 35, policy)
    best = sorted(sorted(range(1, 7), key=lambda index: -score[index])[:3])
    kept = policy.update(joined(*frames), new, 33)  # 5 whole frames and a half that stays empty
    assert same(kept, joined(frames[0], *(frames[index] for index in best), new))


def test_relevance_alone_keeps_what_is_read_and_freshness_alone_keeps_what_is_new():
    frames = [frame_tokens(step, 6, pinned=step == 0, attention_mass=(20.0 - step) ** 2) for step in (0, 5, 10, 15)]
    new = frame_tokens(20)
    assert steps(RestrictedMemory(freshness=0.0).update(joined(*frames), new, 18)) == [0, 5, 20]
    assert steps(RestrictedMemory(freshness=9.0).update(joined(*frames), new, 18)) == [0, 15, 20]


def test_attention_counts_where_objects_are():
    background, object_frame = (frame_tokens(step, 6) for step in (5, 10))
    background = replace(background, mask_fraction=torch.zeros(1, 6), attention_mass=torch.full((6,), 50.0))
    object_frame = replace(object_frame, mask_fraction=torch.ones(1, 6), attention_mass=torch.full((6,), 1.0))
    memory = joined(frame_tokens(0, 6, pinned=True), background, object_frame)
    assert steps(RestrictedMemory(freshness=0.0).update(memory, frame_tokens(15), 18)) == [0, 10, 15]


def test_frames_of_which_nothing_was_read_go_oldest_first():
    memory = joined(*(frame_tokens(step, 6, pinned=step == 0) for step in (0, 5, 10, 15)))
    assert steps(RestrictedMemory().update(memory, frame_tokens(20), 24)) == [0, 10, 15, 20]
    assert steps(RestrictedMemory(freshness=0.0).update(memory, frame_tokens(20), 18)) == [0, 15, 20]


def test_pinned_tokens_of_a_frame_that_is_dropped_stay():
    corrected = replace(frame_tokens(5, 6), pins=torch.tensor([[True, False, True, False, False, False]]))
    memory = joined(frame_tokens(0, 6, pinned=True), corrected, frame_tokens(10, 6, attention_mass=9.0))
    policy, new = RestrictedMemory(), frame_tokens(15)
    assert same(policy.update(memory, new, 20), joined(memory[:6], corrected[corrected.pinned], memory[12:], new))
    assert same(policy.update(memory, new, 19), joined(memory[:6], corrected[corrected.pinned], new))


@pytest.mark.parametrize("policy", [RestrictedMemory(), DiverseMemory()])
@pytest.mark.parametrize("frames", thorough_but(2, [1, 1.5, 2, 8]))
def test_whole_frames_are_kept_with_every_budget_with_several_objects_and_late_ones(fill_bank, frames, policy):
    bank = fill_bank(policy, frames, 14, 4)
    sizes = bank.tokens.written_at.bincount()
    assert sizes[0] == 10
    assert sizes[sizes > 0].tolist() == ([10, 5] if frames == 1.5 else [10] * frames)


@pytest.mark.parametrize("values", [(-1.0, 8.0), (1.5, 0.0), (float("nan"), 8.0)])
def test_weights_that_make_no_sense_are_refused(values):
    with refusal(InputError, "RestrictedMemory"):
        RestrictedMemory(freshness=values[0], patience=values[1])
