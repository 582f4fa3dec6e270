"""Random eviction that repeats itself."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same
from refusals import refusal

from mnemask.errors import InputError
from mnemask.memory.policies import RandomEviction


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


def test_only_seed_and_provenance_decide():
    written_at = sorted(list(range(10)) * 4)
    new = random_tokens([10] * 4, [0] * 4, [False] * 4, seed=1)
    memory = random_tokens(written_at, [0] * 40, [False] * 40)
    other = replace(random_tokens(written_at, [3] * 40, [False] * 40, num_objects=1, seed=5), frame=memory.frame)
    kept = [RandomEviction().update(tokens, new, 24) for tokens in (memory, other)]
    assert torch.equal(kept[0].cell, kept[1].cell)
    assert torch.equal(kept[0].written_at, kept[1].written_at)
    assert not torch.equal(RandomEviction(seed=1).update(memory, new, 24).cell, kept[0].cell)


def test_what_is_left_of_the_past_is_a_uniform_sample():
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
