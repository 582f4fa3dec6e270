"""Annotated frames stay, whatever the policy inside does (as in SAM 2, Cutie, RMem and the project's `least-used`)."""

from dataclasses import dataclass, field

from mnemask.memory.policies.base import room_beside_pins
from mnemask.memory.policies.wrapper import Wrapper, hand_over, in_order
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class Pinned(Wrapper):
    """Holds the tokens of annotated frames back and lets the inner policy decide on the others.

    The policies of this package honour pins by themselves, so that for them the flag `pin=True` does the same; the
    wrapper is for a policy of one's own that knows nothing of pins, and for one that must not see annotated frames.
    """

    pin: bool = field(default=True, kw_only=True)

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned tokens, and what the inner policy keeps of the others."""
        room = room_beside_pins(memory, new, budget)
        others = hand_over(self.inner, memory[~memory.pinned], new[~new.pinned], room)
        return in_order([memory[memory.pinned], new[new.pinned], others])
