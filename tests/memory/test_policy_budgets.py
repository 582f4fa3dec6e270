"""Every policy in a bank that is written to and read, at small and large budgets."""

import pytest
import torch
from random_tokens import CK, write

from mnemask.config import TrackerConfig
from mnemask.errors import BudgetError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import POLICIES, PerObject, Pinned, WithLatest

CELLS = 12
EVICTING = ("lfu-pinned", "lfu", "fifo", "lru", "random", "attention-mass", "per-object")  # never less than fits
COMPOSED = {"pinned, latest, per object": Pinned(WithLatest(PerObject(POLICIES["lfu"])))}


@pytest.mark.parametrize("frames", [1, 1.5, 2, 8])
@pytest.mark.parametrize("name", [*POLICIES, *COMPOSED])
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
