"""The thesis's Table 4: softmax weights as the index."""

from dataclasses import replace

import torch
from hypothesis import given
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same, write

from mnemask.config import TrackerConfig
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LFU, POLICIES, AttentionMass


@given(cases())
def test_the_least_mass_for_its_age_goes_just_as_many_tokens_as_needed(case):
    memory, new, budget = without_pins(case)
    attention_mass, written_at, now = memory.attention_mass, memory.written_at, int(new.written_at[0])
    by_hand = evicting_lowest(
        memory, new, budget, lambda i: float(attention_mass[i] / max(now - int(written_at[i]), 1))
    )
    assert same(AttentionMass(pin=False).update(memory, new, budget), by_hand)


def test_it_differs_from_the_count_where_one_read_outweighs_many():
    memory = replace(random_tokens([0, 0, 0], [9, 1, 5], [False] * 3), attention_mass=torch.tensor([0.2, 0.9, 0.5]))
    new = random_tokens([5], [0], [False], seed=1)
    assert AttentionMass().update(memory, new, 3).topk_count.tolist() == [1, 5, 0]
    assert LFU().update(memory, new, 3).topk_count.tolist() == [9, 5, 0]


def test_in_a_bank_the_index_is_the_sum_of_the_weights_of_all_queries():
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


def test_the_registered_one_is_the_thesis_and_protects_nothing():
    assert POLICIES["attention-mass"] == AttentionMass(pin=False)
    assert POLICIES["attention-mass"].write_every == POLICIES["lfu"].write_every == 5
    assert POLICIES["attention-mass"].default_frames == POLICIES["lfu"].default_frames == 2
