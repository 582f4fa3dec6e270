"""What each policy that scores its tokens evicts."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same, write
from refusals import refusal

from mnemask.config import TrackerConfig
from mnemask.errors import InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LFU, POLICIES, AttentionMass, Fifo, LeastRecentlyUsed, RandomEviction


@given(cases())
def test_the_oldest_frames_go_just_as_many_tokens_as_needed(case):
    memory, new, budget = without_pins(case)
    written = memory.written_at.tolist()
    assert same(Fifo().update(memory, new, budget), evicting_lowest(memory, new, budget, lambda i: written[i]))


def test_the_oldest_write_goes_first_where_a_video_is_tracked_back():
    memory, new = random_tokens(range(5), [0] * 5, [False] * 5), random_tokens([9] * 2, [0] * 2, [False] * 2)
    back = replace(memory, frame=100 - memory.frame)
    assert Fifo().update(back, new, 5).written_at.tolist() == [2, 3, 4, 9, 9]


def test_first_in_first_out_does_not_look_at_use():
    memory, new = random_tokens(range(5), [90, 9, 0, 9, 0], [False] * 5), random_tokens([9] * 2, [0] * 2, [False] * 2)
    busier = replace(
        memory, topk_count=memory.topk_count + 7, attention_mass=torch.zeros(5), last_used=memory.last_used + 3
    )
    assert Fifo().update(memory, new, 5).written_at.tolist() == [2, 3, 4, 9, 9]
    assert Fifo().update(busier, new, 5).written_at.tolist() == [2, 3, 4, 9, 9]


def test_pinned_frames_stay_beside_the_queue():
    memory = random_tokens([0, 0, 3, 4], [0] * 4, [True, True, False, False])
    new = random_tokens([9] * 2, [0] * 2, [False] * 2)
    assert Fifo().update(memory, new, 5).written_at.tolist() == [0, 0, 4, 9, 9]


@given(cases(), st.data())
def test_what_was_not_read_for_longest_goes_just_as_many_tokens_as_needed(case, data):
    memory, new, budget = without_pins(case)
    last = [data.draw(st.integers(written_at, 7)) for written_at in memory.written_at.tolist()]
    memory = replace(memory, last_used=torch.tensor(last, dtype=torch.int64))
    by_hand = evicting_lowest(memory, new, budget, lambda i: last[i])
    assert same(LeastRecentlyUsed().update(memory, new, budget), by_hand)


def test_one_late_hit_outweighs_many_early_ones():
    memory = replace(random_tokens([0, 1, 2], [50, 1, 0], [False] * 3), last_used=torch.tensor([3, 8, 2]))
    new = random_tokens([9], [0], [False], seed=1)
    assert LeastRecentlyUsed().update(memory, new, 3).written_at.tolist() == [0, 1, 9]


@pytest.mark.parametrize("old", [0, 1])
def test_the_reads_of_a_bank_decide_what_was_used_last(old):
    bank = MemoryBank(TrackerConfig(LeastRecentlyUsed(write_every=1), Budget(tokens=2), top_k=1))
    write(bank, 0, num_cells=1)
    write(bank, 1, num_cells=1)
    bank.read(bank.tokens.key[old : old + 1], 2)
    write(bank, 3, num_cells=1)
    assert bank.tokens.written_at.tolist() == [old, 3]


@given(cases())
def test_the_least_mass_for_its_age_goes_just_as_many_tokens_as_needed(case):
    memory, new, budget = without_pins(case)
    attention_mass, written_at, now = memory.attention_mass, memory.written_at, int(new.written_at[0])
    by_hand = evicting_lowest(
        memory, new, budget, lambda i: float(attention_mass[i] / max(now - int(written_at[i]), 1))
    )
    assert same(AttentionMass(pin=False).update(memory, new, budget), by_hand)


def test_mass_differs_from_the_count_where_one_read_outweighs_many():
    memory = replace(random_tokens([0, 0, 0], [9, 1, 5], [False] * 3), attention_mass=torch.tensor([0.2, 0.9, 0.5]))
    new = random_tokens([5], [0], [False], seed=1)
    assert AttentionMass().update(memory, new, 3).topk_count.tolist() == [1, 5, 0]
    assert LFU().update(memory, new, 3).topk_count.tolist() == [9, 5, 0]


def test_in_a_bank_the_mass_is_the_sum_of_the_weights_of_all_queries():
    bank = MemoryBank(TrackerConfig(AttentionMass(), Budget(frames=2), top_k=3))
    write(bank, 0, num_cells=8)
    queries = [torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    expected = torch.zeros(8)
    for step, query in enumerate(queries, start=1):
        bank.read(query, step)
        alike = -torch.cdist(query, bank.tokens.key).square() / 2  # √Ck
        best = alike.topk(3, dim=1)
        expected.index_add_(0, best.indices.flatten(), best.values.softmax(1).flatten())
    assert torch.allclose(bank.tokens.attention_mass, expected, atol=1e-5)


def test_the_registered_attention_mass_is_that_of_the_thesis_and_protects_nothing():
    assert POLICIES["attention-mass"] == AttentionMass(pin=False)
    assert POLICIES["attention-mass"].write_every == POLICIES["lfu"].write_every == 5
    assert POLICIES["attention-mass"].default_frames == POLICIES["lfu"].default_frames == 2


def mixed_by_hand(number):
    number &= 2**31 - 1
    for factor in (0x7FEB352D, 0x2C1B3C6D):
        number = ((number ^ (number >> 16)) * factor) % 2**31
    return number ^ (number >> 15)


@given(cases(), st.integers(0, 2**31 - 1))
def test_the_lowest_hashes_of_seed_frame_and_cell_go_just_as_many_as_needed(case, seed):
    memory, new, budget = without_pins(case)
    frame, cell, first = memory.frame.tolist(), memory.cell.tolist(), mixed_by_hand(seed)
    rank = [mixed_by_hand(mixed_by_hand(first ^ f) ^ c) for f, c in zip(frame, cell, strict=True)]
    by_hand = evicting_lowest(memory, new, budget, lambda i: rank[i])
    assert same(RandomEviction(seed=seed).update(memory, new, budget), by_hand)


def test_of_random_eviction_only_seed_and_provenance_decide():
    written_at = sorted(list(range(10)) * 4)
    new = random_tokens([10] * 4, [0] * 4, [False] * 4, seed=1)
    memory = random_tokens(written_at, [0] * 40, [False] * 40)
    other = replace(random_tokens(written_at, [3] * 40, [False] * 40, num_objects=1, seed=5), frame=memory.frame)
    kept = [RandomEviction().update(tokens, new, 24) for tokens in (memory, other)]
    assert torch.equal(kept[0].cell, kept[1].cell)
    assert torch.equal(kept[0].written_at, kept[1].written_at)
    assert not torch.equal(RandomEviction(seed=1).update(memory, new, 24).cell, kept[0].cell)


def test_what_random_eviction_leaves_of_the_past_is_a_uniform_sample():
    """Of 100 frames of 60 cells, 600 tokens are kept: of each tenth of the past 60, of each tenth of the cells 60."""
    policy, memory = RandomEviction(seed=3), random_tokens([0] * 60, [0] * 60, [False] * 60)
    for step in range(1, 101):
        memory = policy.update(memory, random_tokens([step] * 60, [0] * 60, [False] * 60), 660)
    past = memory[memory.written_at < 100]
    assert len(past) == 600
    by_time = torch.bincount(past.written_at // 10, minlength=10)
    by_place = torch.bincount(past.cell // 6, minlength=10)
    # Chi squared with 9 degrees of freedom exceeds 27.9 once in a thousand.
    for counts in (by_time, by_place):
        assert float(((counts - 60.0) ** 2 / 60).sum()) < 27.9


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, True, "x"])
def test_a_seed_that_is_none_is_refused(seed, as_users_call_it):
    with refusal(InputError, "number"):
        RandomEviction(seed=seed)
