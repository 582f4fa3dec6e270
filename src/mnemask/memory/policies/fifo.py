"""First in, first out (Belady, *A study of replacement algorithms*, 1966): what is oldest goes first.

With annotated frames pinned it is the memory of SAM 2 (Ravi et al. 2024, section 4): the prompted frames and a queue of
the most recent ones.
"""

from dataclasses import dataclass

from mnemask.memory.policies.base import Policy, make_room
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class Fifo(Policy):
    """Evicts the tokens of the oldest source frame, in a frame from the top left on; use does not count."""

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the most recent of memory, and new."""
        return make_room(memory, memory.frame, new, budget)
