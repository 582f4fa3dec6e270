"""The thesis's own policy: forget what was used least often for its age (thesis 3.3.4)."""

from dataclasses import dataclass

from mnemask.memory.policies.base import Policy, ages, make_room
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class LeastUsed(Policy):
    """Evicts the least frequently used tokens, LFU = index / age, to make room for a frame.

    index: how many (query, top-k slot) pairs chose the token since it was written; one counter for all objects.
    age: frames processed since it was written, at least 1.
    Just as many tokens go as the new frame needs, before it comes in; ties oldest first, then by position; nothing is
    merged. `pin=False` is the thesis: the first frame withers like any other. `pin=True` protects annotated frames.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most used of memory, and new."""
        return make_room(memory, memory.hits / ages(memory, new), new, budget)
