"""A part of the memory for each object."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same
from refusals import refusal

from mnemask.errors import InputError
from mnemask.memory.policies import LFU, Fifo, PerObject
from mnemask.memory.policies.wrappers import extents, owners


def frame(step, owner, topk_count=0):
    """A frame of two objects; owner tells for each cell whose it is, 0 nobody's."""
    owner = torch.tensor(owner)
    tokens = random_tokens([step] * len(owner), [topk_count] * len(owner), [False] * len(owner), 2, seed=step)
    return replace(tokens, mask_fraction=torch.stack([owner == 1, owner == 2]).float())


def counts(tokens):
    return torch.bincount(owners(tokens), minlength=3).tolist()


def test_a_cell_belongs_to_the_object_that_fills_most_of_it_if_that_is_a_tenth():
    tokens = replace(
        frame(0, [0] * 5), mask_fraction=torch.tensor([[0.0, 0.09, 0.1, 0.3, 0.6], [0.0, 0.05, 0.0, 0.5, 0.4]])
    )
    assert owners(tokens).tolist() == [0, 0, 1, 2, 1]


def test_the_extent_is_the_most_that_was_seen_in_one_frame():
    owner, written_at = torch.tensor([0, 0, 2, 0, 2, 2, 0]), torch.tensor([0, 0, 0, 5, 5, 5, 9])
    assert extents(owner, written_at).tolist() == [2, 0, 2]


@settings(max_examples=50)
@given(cases())
def test_with_all_of_one_kind_it_is_the_policy_inside(case):
    memory, new, budget = without_pins(case)
    memory, new = (replace(tokens, mask_fraction=torch.zeros_like(tokens.mask_fraction)) for tokens in (memory, new))
    frames = memory.frame.tolist()
    by_hand = evicting_lowest(memory, new, budget, lambda i: frames[i])
    assert same(PerObject(Fifo()).update(memory, new, budget), by_hand)


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [8, 8, 8]), (1.0, [16, 4, 4]), (0.5, [12, 6, 6])])
def test_quotas_follow_the_extents(exponent, expected):
    layout = [0] * 8 + [1] * 2 + [2] * 2
    policy, memory = PerObject(Fifo(), exponent=exponent), frame(0, layout)
    for step in range(1, 6):
        memory = policy.update(memory, frame(step, layout), 24)
    assert counts(memory) == expected
    assert set(memory[owners(memory) == 2].written_at.tolist()) == set(range(6 - expected[2] // 2, 6))


def test_an_object_out_of_sight_is_not_forgotten_where_the_thesis_forgets_it():
    seen, hidden = [0] * 8 + [1] * 2 + [2] * 2, [0] * 10 + [1] * 2
    kept = {}
    for name, policy in {"lfu": LFU(pin=False), "per object": PerObject(LFU(pin=False))}.items():
        memory = policy.update(frame(0, seen)[:0], frame(0, seen), 24)
        for step in range(1, 40):
            used = (owners(memory) != 2) * 3
            memory = policy.update(replace(memory, topk_count=memory.topk_count + used), frame(step, hidden), 24)
        kept[name] = counts(memory)
    assert kept["lfu"][2] == 0
    assert kept["per object"][2] == 2
    assert sum(kept["per object"]) == 24


def test_what_a_part_does_not_need_goes_to_the_others():
    memory, new = frame(0, [0] * 10 + [1, 2]), frame(5, [0] * 12)
    kept = PerObject(Fifo(), exponent=0.0).update(memory, new, 20)
    assert counts(kept) == [18, 1, 1]


def test_pinned_tokens_of_a_part_enlarge_its_quota():
    memory = frame(0, [1] * 10 + [2] * 2)
    memory = replace(memory, pins=torch.stack([owners(memory) == 1, torch.zeros(12, dtype=torch.bool)]))
    kept = PerObject(Fifo(), exponent=0.0).update(memory, frame(5, [2] * 12), 14)
    assert counts(kept) == [0, 10, 4]
    assert int(kept.pinned.sum()) == 10


@pytest.mark.parametrize("exponent", [-0.1, 1.5, float("nan"), "area"])
def test_an_exponent_that_is_none_is_refused(exponent, as_users_call_it):
    with refusal(InputError, "exponent"):
        PerObject(Fifo(), exponent=exponent)
