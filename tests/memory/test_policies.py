"""The contract of every policy, what some do alone, and their budgets."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_cases import cases, chooses, evicting_lowest, places, pure, updated, without_pins
from random_tokens import CK, random_tokens, same, write
from refusals import refusal
from thorough import thorough_but

from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError, InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import (
    DEFAULT_POLICY,
    LFU,
    POLICIES,
    FirstAndLatest,
    KeepAll,
    PerObject,
    Pinned,
    WithLatest,
    keep_best,
    policy_named,
)
from mnemask.memory.policies.wrappers import split_budget

every_policy = pytest.mark.parametrize("name", POLICIES)
BLENDED = {
    "afb": ("key", "value", "mask_fraction"),
    "prototypes": ("value",),
}  # what these policies mix; all else they keep


@every_policy
@given(cases())
def test_a_policy_never_keeps_more_than_the_budget(name, case):
    kept = updated(POLICIES[name], *case)
    assert kept is None or len(kept) <= case[2]


@every_policy
@given(cases())
def test_a_policy_gives_up_only_where_pinned_tokens_or_its_own_nature_leave_no_way(name, case):
    memory, new, budget = case
    if updated(POLICIES[name], *case) is None:
        needed = len(memory) + len(new) if name == "keep-all" else int(memory.pinned.sum() + new.pinned.sum())
        assert needed > budget


@every_policy
@given(cases())
def test_a_policy_keeps_pinned_tokens_as_they_are(name, case):
    memory, new, _ = case
    kept = updated(POLICIES[name], *case)
    if kept is not None:
        assert same(kept[kept.pinned], (memory + new)[(memory + new).pinned])


@every_policy
@given(cases())
def test_a_policy_keeps_tokens_unchanged_and_in_the_order_of_writing(name, case):
    memory, new, _ = case
    kept = updated(POLICIES[name], *case)
    if kept is not None:
        both = memory + new
        source = both[torch.tensor(places(kept, both), dtype=torch.int64)]
        kept = replace(kept, **{field: getattr(source, field) for field in BLENDED.get(name, ())})
        assert chooses(kept, both)


@every_policy
@given(cases())
def test_a_policy_changes_no_input_and_repeats_itself(name, case):
    assert pure(POLICIES[name], case)


@every_policy
def test_a_policy_remembers_the_first_frame_whole(name):
    new = random_tokens([0] * 5, [0] * 5, [True] * 5)
    assert same(POLICIES[name].update(new[:0], new, 5), new)


def test_the_default_policy_is_registered_and_an_unknown_one_is_named_with_the_choices():
    assert policy_named(DEFAULT_POLICY) == POLICIES[DEFAULT_POLICY]
    with refusal(InputError, "lfu-pinned"):
        policy_named("newest")


@given(cases())
def test_least_used_evicts_as_many_as_needed_by_the_rule_of_the_thesis(case):
    memory, new, budget = without_pins(case)
    topk_count, written_at, now = memory.topk_count.tolist(), memory.written_at.tolist(), int(new.written_at[0])
    by_hand = evicting_lowest(memory, new, budget, lambda i: Fraction(topk_count[i], max(now - written_at[i], 1)))
    assert same(LFU(pin=False).update(memory, new, budget), by_hand)


def test_least_used_takes_a_token_written_in_this_step_as_one_frame_old():
    memory, new = random_tokens([4, 5], [3, 2], [False, False]), random_tokens([5], [0], [False], seed=1)
    kept = LFU().update(memory, new, 2)
    assert same(kept, memory[:1] + new)  # 3 hits in a frame against 2, not against 2 in no time


def test_least_used_admits_the_cells_that_objects_fill_where_pins_leave_no_room_for_all():
    memory = random_tokens([0] * 4, [0] * 4, [True] * 4)
    new = random_tokens([5] * 4, [0] * 4, [False] * 4, num_objects=1, seed=1)
    kept = LFU().update(memory, new, 6)
    best = new.mask_fraction[0].topk(2).indices.sort().values
    assert same(kept, memory + new[best])


def test_keep_all_says_what_it_needs_and_what_would_help():
    memory, new = random_tokens([0] * 4, [0] * 4, [False] * 4), random_tokens([5] * 4, [0] * 4, [False] * 4)
    assert same(KeepAll().update(memory, new, 8), memory + new)
    with refusal(BudgetError, "keep-all"):
        KeepAll().update(memory, new, 7)


def test_first_and_latest_keeps_annotated_frames_and_the_newest_one():
    first, middle, newest = (random_tokens([t] * 3, [9] * 3, [t == 0] * 3, seed=t) for t in range(3))
    policy = FirstAndLatest()
    memory = policy.update(policy.update(first[:0], first, 100), middle, 100)
    assert same(memory, first + middle)
    assert same(policy.update(memory, newest, 100), first + newest)
    assert policy.write_every == 1


def test_what_cannot_be_evicted_and_does_not_fit_is_said_in_whole_numbers():
    memory, new = random_tokens([0] * 4, [0] * 4, [True] * 4), random_tokens([5] * 4, [0] * 4, [False] * 4)
    for policy in (LFU(), FirstAndLatest()):
        with refusal(BudgetError, "annotated"):
            policy.update(memory, new, 3)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=True), min_size=6, max_size=6), st.integers(2, 6))
def test_keep_best_keeps_the_pinned_and_the_best_whatever_the_scores_are(scores, count):
    tokens = random_tokens(range(6), [0] * 6, [False, True, False, False, True, False])
    kept = keep_best(tokens, torch.tensor(scores, dtype=torch.float32), count)
    assert len(kept) == count
    assert kept.written_at.tolist() == sorted(kept.written_at.tolist())
    assert {1, 4} <= set(kept.written_at.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_keep_best_lets_the_older_of_two_equals_go(dtype):
    tokens = random_tokens(range(5), [0] * 5, [False] * 5)
    kept = keep_best(tokens, torch.tensor([2, 1, 2, 1, 1]).to(dtype), 3)
    assert kept.written_at.tolist() == [0, 2, 4]
    assert keep_best(tokens, torch.zeros(5, dtype=dtype), 5) is tokens


@pytest.mark.parametrize("count", [3, 9])
def test_keep_best_refuses_a_score_that_is_no_number_and_scores_of_another_length(count, as_users_call_it):
    tokens = random_tokens(range(5), [0] * 5, [False] * 5)
    with refusal(InputError, "1 of 5 scores are NaN.*clamp_min"):
        keep_best(tokens, torch.tensor([1.0, 2.0, float("nan"), 4.0, 5.0]), count)
    for shape in ((4,), (5, 1), ()):
        with refusal(InputError, "for 5 tokens"):
            keep_best(tokens, torch.zeros(shape), count)


def test_keep_best_refuses_to_evict_pinned_tokens():
    tokens = random_tokens(range(5), [0] * 5, [True] * 3 + [False] * 2)
    with refusal(BudgetError, "tokens"):
        keep_best(tokens, torch.zeros(5), 2)


parts = st.lists(
    st.tuples(st.floats(1, 1000), st.integers(0, 30), st.integers(0, 60)).map(lambda p: (p[0], p[1], p[1] + p[2])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=50)
@given(parts, st.integers(0, 400))
def test_quotas_use_up_the_total_or_fill_every_part_within_its_limits(parts, spare):
    weight, least, most = (list(column) for column in zip(*parts, strict=True))
    total = sum(least) + spare
    quotas = split_budget(total, weight, least, most)
    assert sum(quotas) == min(total, sum(most))
    assert all(low <= quota <= high for quota, low, high in zip(quotas, least, most, strict=True))


@settings(max_examples=50)
@given(parts, st.integers(0, 400))
def test_parts_within_their_limits_have_the_same_level_up_to_one_token(parts, spare):
    weight, least, most = (list(column) for column in zip(*parts, strict=True))
    quotas = split_budget(sum(least) + spare, weight, least, most)
    has_more = [(quota - 1) / w for quota, w, low in zip(quotas, weight, least, strict=True) if quota > low]
    wants_more = [(quota + 1) / w for quota, w, high in zip(quotas, weight, most, strict=True) if quota < high]
    # Whoever could give has no more than whoever could take, but for the one token that rounding moves.
    assert not has_more or not wants_more or max(has_more) <= min(wants_more) * (1 + 1e-9)


def test_a_worked_example():
    assert split_budget(100, [1.0, 1.0, 8.0], [0, 0, 0], [100, 100, 100]) == [10, 10, 80]
    assert split_budget(100, [1.0, 1.0, 8.0], [0, 0, 0], [4, 100, 100]) == [4, 10, 86]
    assert split_budget(100, [1.0, 1.0, 8.0], [40, 0, 0], [100, 100, 100]) == [40, 6, 54]


CELLS = 12
EVICTING = ("lfu-pinned", "lfu", "fifo", "lru", "random", "attention-mass", "per-object")  # never less than fits
COMPOSED = {"pinned, latest, per object": Pinned(WithLatest(PerObject(POLICIES["lfu"])))}


@pytest.mark.parametrize("frames", [1, 1.5, 2, 8])
@pytest.mark.parametrize("name", thorough_but(4, [*POLICIES, *COMPOSED]))
def test_a_bank_stays_within_its_budget_and_can_be_read(name, frames):
    policy = (POLICIES | COMPOSED)[name]
    bank = MemoryBank(TrackerConfig(policy, Budget(frames=frames), top_k=4))
    for step in range(0, 12 * policy.write_every, policy.write_every):
        if step:
            query = torch.randn(CELLS, CK, generator=torch.Generator().manual_seed(step))
            assert bool(torch.isfinite(bank.read(query, step)).all())
        try:
            write(bank, step, CELLS, num_objects=2, pinned=policy.pin and step == 0)
        except BudgetError:
            assert name == "keep-all"
            assert len(bank.tokens) + CELLS > frames * CELLS
            return
        assert len(bank.tokens) <= int(frames * CELLS)
        if policy.pin:
            assert int((bank.tokens.written_at == 0).sum()) >= CELLS
        if name in EVICTING:
            assert len(bank.tokens) == min(bank.writes * CELLS, int(frames * CELLS))
    assert bank.evictions == bank.writes * CELLS - len(bank.tokens)
