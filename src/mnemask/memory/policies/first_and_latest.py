"""Annotated frames and the latest one (thesis Fig. 8 middle)."""

from dataclasses import dataclass

from mnemask.memory.policies.base import Policy, admit
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class FirstAndLatest(Policy):
    """Keeps the annotated frames and the frame written last; writes every frame."""

    write_every: int = 1
    default_frames: float | None = None

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned part of memory, and as much of new as fits."""
        return memory[memory.pinned] + admit(memory, new, budget)
