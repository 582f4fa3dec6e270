"""Every k-th frame, for ever (STM, STCN; thesis Fig. 8 top)."""

from dataclasses import dataclass

from mnemask.errors import BudgetError
from mnemask.memory.policies.base import Policy
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
                f"keep-all needs {needed} tokens but the budget is {budget}; choose a policy that forgets (distinct)"
            )
        return memory + new
