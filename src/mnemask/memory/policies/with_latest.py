"""The latest frame always in memory, for a while only (the temporary frame of STM, Oh et al. 2019, and of STCN)."""

from dataclasses import dataclass, field

from mnemask.errors import InputError
from mnemask.memory.policies.base import admit, keep_best
from mnemask.memory.policies.wrapper import Wrapper, hand_over, last_write_apart
from mnemask.memory.tokens import Tokens


@dataclass(frozen=True)
class WithLatest(Wrapper):
    """Keeps the frame written last, and lets the inner policy decide on what lies before it.

    Each frame is written, and is the latest until the next one. Then what there is of it is offered to the inner
    policy if that would have asked for it, and is gone otherwise. It is asked for when the newest older token is the
    inner policy's `write_every` frames older, when it is pinned, and when no older token covers one of its objects.

    Attributes:
        share: the part of the budget that the latest frame may take from the older ones, above 0, at most 1. Where
            it does not suffice for the whole frame, the cells that objects fill most go in first.
        write_every: 1 by default. A larger number N keeps each N-th frame as the latest.
    """

    share: float = 0.5
    write_every: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(f"share of the latest frame is {self.share!r}; give a number above 0, at most 1")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns what the inner policy keeps of memory, and new."""
        older, latest = last_write_apart(memory)
        latest = latest if self._asked_for(older, latest) else latest[:0]
        new = admit(memory, new, budget)
        free = budget - len(older) - len(latest)
        slot = max(int(self.share * budget), free, int(new.pinned.sum()))
        new = keep_best(new, new.share.sum(0), slot)
        return hand_over(self.inner, older, latest, budget - len(new)) + new

    def _asked_for(self, older: Tokens, latest: Tokens) -> bool:
        due = (latest.born[:1] - older.born[-1:] >= self.inner.write_every).any()
        unknown = latest.covers.any(1) & ~older.covers.any(1)
        return bool(due | latest.pins.any() | unknown.any())
