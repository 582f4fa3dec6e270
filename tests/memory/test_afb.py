"""The adaptive feature bank: what merges into what, and what the result is."""

from dataclasses import replace

import pytest
import torch
from frame_tokens import frame_tokens, joined, steps
from random_tokens import CK, same
from refusals import refusal
from thorough import thorough_but

from mnemask.config import TrackerConfig
from mnemask.errors import InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies.afb import AdaptiveFeatureBank, similarity


def like(tokens, places, step, noise=0.02):
    """Returns a new frame with keys close to those at these places of memory."""
    generator = torch.Generator().manual_seed(step)
    key = tokens.key[places]
    new = frame_tokens(step, len(places), tokens.num_objects)
    return replace(new, key=key + noise * torch.randn(key.shape, generator=generator))


def merged_by_hand(memory, new, metric, threshold, rate):
    """One new token after another: nearest, similarity, blend; several with one nearest enter as their mean."""
    blends, added = {}, []
    for i in range(len(new)):
        best, place = -2.0, None
        for j in range(len(memory)):
            if bool(memory.pinned[j]) or not torch.equal(memory.valid[:, j], new.valid[:, i]):
                continue
            m, q = memory.key[j], new.key[i]
            alike = float(torch.dot(m, q) / m.norm() / q.norm()) if metric == "cosine" else -float((m - q).norm())
            if place is None or alike > best:
                best, place = alike, j
        if place is not None:
            m, q = memory.key[place], new.key[i]
            if metric == "l2":
                best = float(2 * torch.dot(m, q) / (m.dot(m) + q.dot(q)))
        if place is not None and best > threshold and not bool(new.pinned[i]):
            blends.setdefault(place, []).append(i)
        else:
            added.append(i)
    result = {name: tensor.clone() for name, tensor in memory.tensors().items()}
    for place, rows in blends.items():
        old = (1 - rate) ** len(rows)
        result["key"][place] = old * memory.key[place] + (1 - old) * new.key[rows].mean(0)
        for name in ("value", "mask_fraction"):
            mean = getattr(new, name)[:, rows].mean(1)
            result[name][:, place] = old * getattr(memory, name)[:, place] + (1 - old) * mean
    return replace(memory, **result), new[torch.tensor(added, dtype=torch.int64)]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
@pytest.mark.parametrize("seed", range(3))
def test_merging_is_that_of_one_token_at_a_time(metric, seed):
    memory = joined(frame_tokens(0, 5, 2, pinned=True, seed=seed), frame_tokens(1, 8, 2, seed=seed + 9))
    new = like(memory, [2, 6, 6, 6, 8, 12, 12], 5 + seed) + frame_tokens(5 + seed, 3, 2, seed=77)
    policy = AdaptiveFeatureBank(metric=metric, threshold=0.9)
    refreshed, added = merged_by_hand(memory, new, metric, 0.9, 0.1)
    assert 0 < len(added) < len(new)
    kept = policy.update(memory, new, 100)
    assert len(kept) == len(refreshed) + len(added)
    for name, expected in (refreshed + added).tensors().items():
        torch.testing.assert_close(getattr(kept, name), expected, atol=1e-6, rtol=1e-5)


def test_similarity_lies_within_one_and_l2_is_the_cosine_for_keys_of_equal_length():
    q, m = (torch.randn(50, CK, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    cosine, l2 = similarity(q, m, "cosine"), similarity(q, m, "l2")
    assert bool((l2.abs() <= 1 + 1e-6).all())
    assert bool((l2.abs() <= cosine.abs() + 1e-6).all())
    torch.testing.assert_close(similarity(2 * q / q.norm(dim=1)[:, None], 2 * m / m.norm(dim=1)[:, None], "l2"), cosine)
    nothing = torch.zeros(1, CK)
    assert similarity(nothing, nothing, "l2").item() == 1


def test_keys_of_one_direction_and_different_length_merge_by_cosine_only():
    memory = frame_tokens(1, 1)
    new = replace(frame_tokens(5, 1), key=3 * memory.key)
    assert len(AdaptiveFeatureBank(metric="cosine").update(memory, new, 9)) == 1
    assert len(AdaptiveFeatureBank().update(memory, new, 9)) == 2


def test_pinned_tokens_neither_take_nor_give():
    first = frame_tokens(0, 4, pinned=True)
    again = replace(frame_tokens(5, 4), key=first.key)
    assert same(AdaptiveFeatureBank().update(first, again, 99), first + again)
    corrected = replace(frame_tokens(9, 4, pinned=True), key=first.key)
    assert same(AdaptiveFeatureBank().update(again, corrected, 99), again + corrected)


def test_tokens_that_cover_different_objects_never_merge():
    early = frame_tokens(1, 4, 1).add_object()
    later = replace(frame_tokens(5, 4, 2), key=early.key)
    policy = AdaptiveFeatureBank()
    assert same(policy.update(early, later, 99), early + later)
    third = replace(frame_tokens(9, 4, 2), key=early.key)
    kept = policy.update(early + later, third, 99)
    assert len(kept) == 8
    assert same(kept[:4], early)
    assert torch.allclose(kept.value[:, 4:], 0.9 * later.value + 0.1 * third.value, atol=1e-6)


def test_the_least_used_make_room_for_what_is_added():
    memory = replace(frame_tokens(1, 4), topk_count=torch.tensor([5, 1, 9, 3]))
    new = replace(frame_tokens(5, 3), key=torch.cat((memory.key[1:2], 10 + torch.eye(2, CK))))
    kept = AdaptiveFeatureBank().update(memory, new, 5)
    assert kept.cell.tolist() == [0, 2, 3, 1, 2]  # the used least goes although it was just refreshed
    assert kept.topk_count.tolist() == [5, 9, 3, 0, 0]


def test_a_merged_token_keeps_its_place_its_age_and_the_precision_of_its_value():
    memory = frame_tokens(1, 4, 2, topk_count=7)
    memory = replace(memory, value=memory.value.bfloat16())
    new = replace(like(memory, [0, 1, 2, 3], 5), value=memory.value.flip(1))
    kept = AdaptiveFeatureBank().update(memory, new, 4)
    assert kept.value.dtype == torch.bfloat16
    for name in ("frame", "cell", "written_at", "topk_count", "attention_mass", "last_used", "valid", "pins"):
        assert torch.equal(getattr(kept, name), getattr(memory, name)), name


def test_a_still_picture_takes_the_room_of_two_frames():
    bank = MemoryBank(TrackerConfig(AdaptiveFeatureBank(), Budget(frames=8), top_k=3))
    frame = frame_tokens(0, 6)
    for step in range(6):
        pins = torch.full((1, 6), step == 0)
        bank.write(frame.key, frame.value, frame.mask_fraction, frame=step, step=step, pins=pins)
        bank.read(frame.key, step)
    assert len(bank.tokens) == 12  # the pinned frame, and the one that the others went into
    assert steps(bank.tokens) == [0, 1]


@pytest.mark.parametrize("frames", thorough_but(2, [1, 1.5, 2, 8]))
def test_it_works_with_every_budget_with_several_objects_and_late_ones(fill_bank, frames):
    bank = fill_bank(AdaptiveFeatureBank(threshold=0.5), frames, 12, 4)
    uncovered = ~bank.tokens.valid
    assert torch.count_nonzero(bank.tokens.value[uncovered]) == 0
    assert torch.equal(bank.tokens.key[:10], frame_tokens(0, 10).key)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_part_is_refused(rate):
    with refusal(InputError, r"0\.1"):
        AdaptiveFeatureBank(rate=rate)
