"""Least recently used (Mattson et al., *Evaluation techniques for storage hierarchies*, 1970)."""

from dataclasses import dataclass

from mnemask.memory.policies.base import Policy, make_room
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class LeastRecentlyUsed(Policy):
    """Evicts the tokens that no query has had among its top k for longest; ties oldest first, then by position.

    A token that was never read counts from the frame it was written in. With top-k reads of every cell most useful
    tokens are hit in the very last frame, so ties are common where the budget is small.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most recently read of memory, and new."""
        return make_room(memory, memory.last_hit, new, budget)
