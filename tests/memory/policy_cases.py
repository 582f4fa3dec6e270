"""What the tests of all policies share: memories as they come up in a bank, and eviction worked out by hand."""

import copy
from dataclasses import replace

import torch
from hypothesis import strategies as st
from random_tokens import random_tokens, same

from mnemask.errors import BudgetError


@st.composite
def cases(draw):
    """A memory, a new frame and a budget, as they come up in a bank: oldest write first, more or less full."""
    num_objects, per_frame = draw(st.integers(1, 2)), draw(st.integers(1, 5))
    num_old = draw(st.integers(0, 12))
    written_at = sorted(draw(st.lists(st.integers(0, 6), min_size=num_old, max_size=num_old)))
    topk_count = draw(st.lists(st.integers(0, 4), min_size=num_old, max_size=num_old))
    pinned = draw(st.lists(st.booleans(), min_size=num_old, max_size=num_old))
    new_pinned = draw(st.lists(st.booleans(), min_size=per_frame, max_size=per_frame) | st.just([False] * per_frame))
    step = draw(st.integers(7, 12))
    memory = random_tokens(written_at, topk_count, pinned, num_objects)
    new = random_tokens([step] * per_frame, [0] * per_frame, new_pinned, num_objects, seed=1)
    scarce = draw(st.sampled_from((1, 9)))  # objects that fill each cell, or few
    memory, new = (replace(tokens, mask_fraction=tokens.mask_fraction**scarce) for tokens in (memory, new))
    return memory, new, draw(st.integers(per_frame, num_old + per_frame + 2))


def without_pins(case):
    """The same case with nothing pinned."""
    memory, new, budget = case
    return *(replace(tokens, pins=torch.zeros_like(tokens.pins)) for tokens in (memory, new)), budget


def updated(policy, memory, new, budget):
    """What is kept, or None where the policy says that it cannot be done."""
    try:
        return policy.update(memory, new, budget)
    except BudgetError:
        return None


def places(kept, both):
    """Where the kept tokens come from; `cell` starts again in a new frame, so that (born, cell) names a token."""
    names = list(zip(both.written_at.tolist(), both.cell.tolist(), strict=True))
    return [names.index(pair) for pair in zip(kept.written_at.tolist(), kept.cell.tolist(), strict=True)]


def chooses(kept, both):
    """Whether the kept tokens are some of these, unchanged and in their order."""
    where = places(kept, both)
    return where == sorted(set(where)) and same(kept, both[torch.tensor(where, dtype=torch.int64)])


def pure(policy, case):
    """Whether a policy leaves its inputs as they are and repeats itself."""
    memory, new, budget = case
    before = copy.deepcopy((memory, new))
    first, second = (updated(policy, memory, new, budget) for _ in range(2))
    unchanged = same(memory, before[0]) and same(new, before[1])
    return unchanged and ((first is None and second is None) or same(first, second))


def evicting_lowest(memory, new, budget, rank):
    """What is left where just enough of the lowest ranks go, of equals the oldest first, then by position."""
    count = max(0, len(memory) + len(new) - budget)
    written_at = memory.written_at.tolist()
    order = sorted(range(len(memory)), key=lambda i: (rank(i), written_at[i], i))
    return memory[torch.tensor(sorted(order[count:]), dtype=torch.int64)] + new
