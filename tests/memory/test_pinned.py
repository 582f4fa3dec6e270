"""Annotated frames stay, whatever the policy inside does."""

from dataclasses import dataclass

import torch
from hypothesis import given
from policy_cases import cases, updated
from random_tokens import random_tokens, same
from refusals import refusal

from mnemask.errors import BudgetError
from mnemask.memory.policies import LFU, Pinned, Policy


@dataclass(frozen=True)
class Newest(Policy):
    """Knows nothing of pins."""

    def update(self, memory, new, budget):
        both = memory + new
        return both[max(0, len(both) - budget) :]


@given(cases())
def test_pins_hold_around_a_policy_that_knows_nothing_of_them(case):
    memory, new, budget = case
    both = memory + new
    free = torch.nonzero(~both.pinned)[:, 0]
    room = budget - (len(both) - len(free))
    kept = updated(Pinned(Newest()), *case)
    if kept is None:
        assert room < 0
        return
    stays = both.pinned.clone()
    stays[free[max(0, len(free) - room) :]] = True
    assert same(kept, both[stays])


@given(cases())
def test_around_a_policy_that_honours_pins_it_does_what_the_flag_does(case):
    if bool(case[1].pinned.all()):  # ages then end with the newest token that is not pinned
        return
    flag, wrapper = updated(LFU(), *case), updated(Pinned(LFU(pin=False)), *case)
    assert (flag is None) == (wrapper is None)
    assert flag is None or same(flag, wrapper)


def test_a_frame_that_is_pinned_whole_still_makes_the_others_shrink():
    memory = random_tokens([0, 0, 1, 1], [9, 0, 0, 9], [False] * 4)
    new = random_tokens([5] * 3, [0] * 3, [True] * 3, seed=1)
    assert same(Pinned(LFU()).update(memory, new, 6), memory[torch.tensor([0, 2, 3])] + new)


def test_pins_beyond_the_budget_are_said_in_whole_numbers():
    memory, new = random_tokens([0] * 4, [0] * 4, [True] * 4), random_tokens([5] * 2, [0] * 2, [True] * 2, seed=1)
    with refusal(BudgetError, "annotated"):
        Pinned(Newest()).update(memory, new, 5)
