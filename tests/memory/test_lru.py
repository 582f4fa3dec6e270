"""Least recently used."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same, write

from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LeastRecentlyUsed


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
def test_the_reads_of_a_bank_decide(old):
    bank = MemoryBank(TrackerConfig(LeastRecentlyUsed(write_every=1), Budget(tokens=2), top_k=1))
    write(bank, 0, num_cells=1)
    write(bank, 1, num_cells=1)
    bank.read(bank.tokens.key[old : old + 1], 2)
    write(bank, 3, num_cells=1)
    assert bank.tokens.written_at.tolist() == [old, 3]
