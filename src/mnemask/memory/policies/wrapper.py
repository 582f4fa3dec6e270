"""A policy around another one: what the three wrappers share. Wrap a policy rather than branch inside it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy
from mnemask.memory.tokens import PER_OBJECT, Tokens


@dataclass(frozen=True)
class Wrapper(Policy):
    """A policy that leaves most of its decision to an inner one; what it is not told itself, it takes from there.

    Attributes:
        inner: any policy, a wrapper too.
        write_every: by default the inner policy's; so for `pin` and `default_frames`.
    """

    inner: Policy
    # None is never seen from outside: it is replaced as soon as there is an inner policy to ask.
    write_every: int = field(default=None, kw_only=True)  # type: ignore[assignment]
    pin: bool = field(default=None, kw_only=True)  # type: ignore[assignment]
    default_frames: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.inner, Policy):
            raise InputError(
                f"the inner policy of {type(self).__name__} is {self.inner!r}; give a Policy such as LeastUsed()"
            )
        for name in ("write_every", "pin", "default_frames"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.inner, name))

    def pinned_part(self, share: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns which cells of the first annotated frame the inner policy wants pinned."""
        return self.inner.pinned_part(share)


def hand_over(inner: Policy, memory: Tokens, new: Tokens, budget: int) -> Tokens:
    """Returns what the inner policy keeps of a part of the memory.

    Where nothing in the part is new, it stays as it is; if it must shrink, its newest write stands in for the new
    frame, so that ages are counted up to there: they stand still while an object is out of sight.
    """
    if not len(new):
        if len(memory) <= budget:
            return memory
        memory, new = last_write_apart(memory)
    return inner.update(memory, new, budget)


def last_write_apart(memory: Tokens) -> tuple[Tokens, Tokens]:
    """Returns what was written before the last write, and what was written then; without a copy."""
    count = int((memory.born != memory.born[-1:]).sum())
    return memory[:count], memory[count:]


def in_order(parts: Sequence[Tokens]) -> Tokens:
    """Returns the tokens of all parts, at least one, in the order of writing and of position."""
    tokens = parts[0]
    if len(parts) > 1:
        names = tokens.tensors()
        joined = {
            name: torch.cat([getattr(part, name) for part in parts], dim=1 if name in PER_OBJECT else 0)
            for name in names
        }
        tokens = Tokens(**joined)
    if not len(tokens):
        return tokens
    place = tokens.born * (tokens.cell.max() + 1) + tokens.cell
    if bool((place[1:] >= place[:-1]).all()):
        return tokens
    return tokens[torch.argsort(place, stable=True)]
