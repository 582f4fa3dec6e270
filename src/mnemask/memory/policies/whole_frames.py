"""Policies that keep whole frames.

Every k-th one for ever (STM, STCN; thesis Fig. 8 top), or the annotated ones and the latest (thesis Fig. 8 middle).
"""

from dataclasses import dataclass

from mnemask.errors import BudgetError
from mnemask.memory.policies.base import Policy, admit
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class KeepAll(Policy):
    """Keeps everything that was ever written; grows with the video."""

    default_frames: float | None = None

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns memory and new together; raises BudgetError where they do not fit."""
        needed = len(memory) + len(new)
        if needed > budget:
            raise BudgetError(
                f"keep-all needs {needed} tokens but the budget is {budget}",
                "choose a policy that evicts, such as diverse",
            )
        return memory + new


@dataclass(frozen=True)
class FirstAndLatest(Policy):
    """Keeps the annotated frames and the frame written last; writes every frame."""

    write_every: int = 1
    default_frames: float | None = None

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned part of memory, and as much of new as fits."""
        return memory[memory.pinned] + admit(memory, new, budget)
