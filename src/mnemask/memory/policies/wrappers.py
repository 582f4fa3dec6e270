"""Policies around another policy: wrap a policy rather than branch inside it.

`Pinned` keeps annotated frames, whatever the inner policy does (as in SAM 2, Cutie, RMem and the project's
`lfu-pinned`). `WithLatest` keeps the latest frame in memory temporarily (the temporary frame of STM, Oh et al. 2019,
and of STCN). `PerObject` gives each object a part of the memory, so that none is lost while only others are visible;
the thesis (4, occlusion) loses occluded objects, whose tokens are not read and are therefore evicted first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from mnemask.errors import InputError
from mnemask.memory.policies.base import Policy, admit, best_of, room_beside_pins
from mnemask.memory.tokens import PER_OBJECT, Tokens

MAX_DEPTH = 20  # each level takes some of Python's stack, in every update


@dataclass(frozen=True)
class Wrapper(Policy):
    """A policy that leaves most of its decision to an inner one, from which it also takes settings not given.

    Attributes:
        inner: any policy, including a wrapper.
        write_every: by default the inner policy's; likewise `write_on_growth`, `pin` and `default_frames`.
    """

    inner: Policy
    # None is never visible from outside: `__post_init__` replaces it by the inner policy's value.
    write_every: int = field(default=None, kw_only=True)  # type: ignore[assignment]
    write_on_growth: float = field(default=None, kw_only=True)  # type: ignore[assignment]
    pin: bool = field(default=None, kw_only=True)  # type: ignore[assignment]
    default_frames: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.inner, Policy):
            raise InputError(
                f"the inner policy of {type(self).__name__} is {self.inner!r}", "give a Policy such as LFU()"
            )
        if self._depth() > MAX_DEPTH:
            raise InputError(f"a policy is inside more than {MAX_DEPTH} others", "nest fewer, such as Pinned(LFU())")
        for name in ("write_every", "write_on_growth", "pin", "default_frames"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self.inner, name))

    def _depth(self) -> int:
        """Returns the number of policies around the innermost one."""
        return 1 + (self.inner._depth() if isinstance(self.inner, Wrapper) else 0)

    def pinned_part(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns which cells of the first annotated frame the inner policy pins."""
        return self.inner.pinned_part(mask_fraction)


def hand_over(inner: Policy, memory: Tokens, new: Tokens, budget: int) -> Tokens:
    """Returns the tokens that the inner policy keeps of a part of the memory.

    A part without new tokens does not change; if it must shrink, its newest write stands in for the new frame, so that
    ages are counted up to there while an object is out of sight. When the object returns, its absence counts.
    """
    if not len(new):
        if len(memory) <= budget:
            return memory
        memory, new = last_write_apart(memory)
    return inner.update(memory, new, budget)


def last_write_apart(memory: Tokens) -> tuple[Tokens, Tokens]:
    """Returns the tokens from before the last write, and those of the last write, without a copy."""
    count = int((memory.written_at != memory.written_at[-1:]).sum())
    return memory[:count], memory[count:]


def in_order(parts: Sequence[Tokens]) -> Tokens:
    """Returns the tokens of all parts, at least one, in the order of writing and position."""
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
    place = tokens.written_at * (tokens.cell.max() + 1) + tokens.cell
    if bool((place[1:] >= place[:-1]).all()):
        return tokens
    return tokens[torch.argsort(place, stable=True)]


@dataclass(frozen=True)
class Pinned(Wrapper):
    """Keeps the tokens of annotated frames and lets the inner policy decide on the others.

    The policies of this package honour pins themselves, so that `pin=True` does the same for them; the wrapper is for a
    custom policy that does not handle pins, or that must not see annotated frames.
    """

    pin: bool = field(default=True, kw_only=True)

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the pinned tokens, and what the inner policy keeps of the others."""
        room = room_beside_pins(memory, new, budget)
        others = hand_over(self.inner, memory[~memory.pinned], new[~new.pinned], room)
        return in_order([memory[memory.pinned], new[new.pinned], others])


@dataclass(frozen=True)
class WithLatest(Wrapper):
    """Keeps the frame written last, and lets the inner policy decide on older ones.

    Each frame is written, and is the latest until the next one. Then its tokens are offered to the inner policy if that
    would have written it, and dropped otherwise. It would have if the newest older token is at least its `write_every`
    frames older, if the frame has pinned tokens, or if no older token covers one of its objects.

    Attributes:
        share: the share of the budget that the latest frame may take from the older ones, above 0, at most 1. If it
            does not suffice for the whole frame, the cells that objects fill most come first.
        write_every: 1 by default. A larger number N keeps every N-th frame as the latest.
        write_on_growth: 0 by default, even if the inner policy has another value: each frame is written anyway.
    """

    share: float = 0.5
    write_every: int = field(default=1, kw_only=True)
    write_on_growth: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise InputError(f"share of the latest frame is {self.share!r}", "give a number above 0, at most 1")

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens that the inner policy keeps of memory, and new."""
        older, latest = last_write_apart(memory)
        latest = latest if self._asked_for(older, latest) else latest[:0]
        new = admit(memory, new, budget)
        free = budget - len(older) - len(latest)
        slot = max(int(self.share * budget), free, int(new.pinned.sum()))
        new = best_of(new, new.mask_fraction.sum(0), slot)
        return hand_over(self.inner, older, latest, budget - len(new)) + new

    def _asked_for(self, older: Tokens, latest: Tokens) -> bool:
        due = (latest.written_at[:1] - older.written_at[-1:] >= self.inner.write_every).any()
        unknown = latest.valid.any(1) & ~older.valid.any(1)
        return bool(due | latest.pins.any() | unknown.any())


LEAST_SHARE = 0.1  # a soft mask is not quite 0 in any cell, and a small object does not fill one


@dataclass(frozen=True)
class PerObject(Wrapper):
    """Divides the budget among the objects and the background, and applies the inner policy to each part.

    A token belongs to the object that fills most of its cell, if that is at least a tenth of the cell, else to the
    background. Quotas are proportional to extent ** exponent, where the extent is the largest number of the part's
    tokens in one frame, in memory or new. What a part does not need goes to the others by the same rule. Each quota
    holds at least the part's pinned tokens. The tokens of an object out of sight do not change if they fit its quota.

    Attributes:
        exponent: 1 divides by area, 0 equally; 0.5 is the square-root rule of Cohen and Shenker (2002).
    """

    exponent: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.exponent, int | float) or not 0 <= self.exponent <= 1:
            raise InputError(
                f"exponent of the quotas is {self.exponent!r}", "give a number from 0 (equal) to 1 (by area)"
            )

    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens that the inner policy keeps of each part."""
        room_beside_pins(memory, new, budget)
        old, arrived = owners(memory), owners(new)
        owner, written_at = torch.cat((old, arrived)), torch.cat((memory.written_at, new.written_at))
        pinned = torch.cat((memory.pinned, new.pinned))
        present, most = (each.tolist() for each in owner.unique(return_counts=True))
        least = torch.bincount(owner[pinned], minlength=present[-1] + 1)[present].tolist()
        weight = [float(extent) ** self.exponent for extent in extents(owner, written_at)[present].tolist()]
        quotas = split_budget(budget, weight, least, most)
        parts = [
            hand_over(self.inner, memory[of(old, one)], new[of(arrived, one)], quota)
            for one, quota in zip(present, quotas, strict=True)
        ]
        return in_order(parts)


def split_budget(total: int, weight: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Returns quotas proportional to weights of 1 or more, within limits; they use up the total, or are all at `most`.

    Each quota is level · weight, clipped to its limits; the level that fits is found by bisection.
    """
    if sum(most) <= total:
        return list(most)
    fits, exceeds = 0.0, float(max(most))
    for _ in range(64):
        level = (fits + exceeds) / 2
        fits, exceeds = (level, exceeds) if sum(_quotas(level, weight, least, most)) <= total else (fits, level)
    quotas = _quotas(fits, weight, least, most)
    # What is left goes to the first of the parts that the next level would enlarge.
    for part, more in enumerate(_quotas(exceeds, weight, least, most)):
        quotas[part] += min(more - quotas[part], total - sum(quotas))
    return quotas


def _quotas(level: float, weight: Sequence[float], least: Sequence[int], most: Sequence[int]) -> list[int]:
    return [min(max(int(level * w), low), high) for w, low, high in zip(weight, least, most, strict=True)]


def of(owner: Int64[Tensor, " N"], one: int) -> Int64[Tensor, " M"]:
    """Returns which tokens belong to one owner."""
    return torch.nonzero(owner == one)[:, 0]


def owners(tokens: Tokens) -> Int64[Tensor, " N"]:
    """Returns the owner of each token: 0 for the background, else the object's row + 1."""
    share, row = tokens.mask_fraction.max(0)
    return torch.where(share >= LEAST_SHARE, row + 1, 0)


def extents(owner: Int64[Tensor, " N"], written_at: Int64[Tensor, " N"]) -> Int64[Tensor, " K1"]:
    """Returns the largest number of tokens in one frame for each owner."""
    frames, frame = written_at.unique(return_inverse=True)
    counts = torch.bincount(owner * len(frames) + frame, minlength=(int(owner.max()) + 1) * len(frames))
    return counts.view(-1, len(frames)).amax(1)
