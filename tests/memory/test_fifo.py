"""First in, first out."""

from dataclasses import replace

import torch
from hypothesis import given
from policy_cases import cases, evicting_lowest, without_pins
from random_tokens import random_tokens, same

from mnemask.memory.policies import Fifo


@given(cases())
def test_the_oldest_frames_go_just_as_many_tokens_as_needed(case):
    memory, new, budget = without_pins(case)
    frame = memory.frame.tolist()
    assert same(Fifo().update(memory, new, budget), evicting_lowest(memory, new, budget, lambda i: frame[i]))


def test_use_does_not_count():
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
