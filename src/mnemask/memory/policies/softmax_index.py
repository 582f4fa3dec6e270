"""The thesis's alternative index: softmax weights instead of top-k counts (Table 4, Fig. 10)."""

from dataclasses import dataclass

from mnemask.memory.policies.base import Policy, ages, make_room
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class SoftmaxIndex(Policy):
    """Evicts the tokens of the lowest index / age, to make room for a frame.

    index: sum of the softmax weights that the token was read with since it was written; one sum for all objects.
    age: frames processed since it was written, at least 1.
    All else is as in `LeastUsed`. The weights favour the closest few of the k memories, so that a token that once
    dominated outlives its use; the thesis finds it worse. `pin=False` is the thesis.
    """

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens of memory that were read with the most weight, and new."""
        return make_room(memory, memory.mass / ages(memory, new), new, budget)
