"""What a policy is, and what policies have in common: keeping the best-scored tokens and making room for new ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from mnemask.errors import BudgetError, InputError
from mnemask.memory.tokens import Tokens

KINDS: dict[object, type | tuple[type, ...]] = {
    int: int,
    bool: bool,
    float: (int, float),
    float | None: (int, float, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """Decides what is kept: a pure function of what is remembered and what is new; no state, only hyper-parameters.

    A subclass is a frozen dataclass with an `update`. Contract, tested for every policy: the result never exceeds the
    budget, every pinned token is in it unchanged, the inputs stay as they are, the same inputs give the same result.
    A policy inside another one (`Wrapper`) may see parts of frames, and a budget smaller than `new`, down to nothing.

    Attributes:
        write_every: frames from one write to the next, unless `write_on_growth` asks for one sooner.
        write_on_growth: a frame is written sooner, from the second on, as soon as an object is larger by more than this
            part than in any frame written so far; from 0, which disables it, to below 1.
        pin: whether the tracker marks tokens of annotated frames as never to be evicted. Without marks there are no
            pinned tokens, and the policy treats the first frame like any other.
        default_frames: the budget where the user gives none, in frames; None for no limit.
    """

    write_every: int = 5
    write_on_growth: float = 0.0
    pin: bool = True
    default_frames: float | None = 2.0

    @abstractmethod
    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens that are kept.

        Args:
            memory: what is remembered, oldest write first; may be empty.
            new: the tokens of the frame that is written now; at least one.
            budget: how many tokens may be kept.

        Raises:
            BudgetError: if what must be kept exceeds the budget.
        """

    def check_fields(self) -> None:
        """Raises TypeError or ValueError where a hyper-parameter is of no kind that its class allows."""
        for field in fields(self):
            value, wanted = getattr(self, field.name), KINDS.get(field.type, object)
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in (bool, object)):
                raise TypeError(f"{field.name} is {value!r}, and must be of type {field.type}")
        if self.write_every < 1:
            raise ValueError(f"write_every is {self.write_every}, and must be 1 or more")
        if not 0 <= self.write_on_growth < 1:
            raise ValueError(f"write_on_growth is {self.write_on_growth}, and must be 0 or more, and below 1")

    def pinned_part(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns which cells of the first annotated frame are pinned, where `pin` is set; all of them by default.

        Args:
            mask_fraction: how much of each cell each object fills, 0 to 1.
        """
        return torch.ones_like(mask_fraction[0], dtype=torch.bool)


def keep_best(tokens: Tokens, score: Real[Tensor, " N"], count: int) -> Tokens:
    """Returns the pinned tokens and the best-scored others, `count` in all, in the order they were in.

    Ties are decided by age, then by position: the older token goes first.

    Raises:
        BudgetError: if more than `count` tokens are pinned.
        InputError: if there is not a score for each token.
    """
    return tokens if len(tokens) <= count else tokens[best_places(tokens, score, count)]


def best_places(tokens: Tokens, score: Real[Tensor, " N"], count: int) -> Int64[Tensor, " count"]:
    """Returns where the tokens are that `keep_best` keeps, of which there are more than `count`.

    Raises:
        BudgetError: if more than `count` tokens are pinned.
    """
    if score.shape != (len(tokens),):
        raise InputError(f"there are scores of shape {list(score.shape)} for {len(tokens)} tokens", "give one for each")
    pinned = int(tokens.pinned.sum())
    if pinned > count:
        raise BudgetError(
            f"{pinned} tokens of annotated frames may not be evicted but there is room for {count}",
            "give a larger budget or a policy that does not pin them, such as lfu",
        )
    # Tokens are in order of writing and of position, and a stable sort keeps that order among equal scores. Pinned ones
    # go last. Masks would say the same, but make the host wait for a GPU to count.
    order = torch.argsort(score, stable=True)
    order = order[torch.argsort(tokens.pinned[order].to(torch.uint8), stable=True)]
    return order[len(tokens) - count :].sort().values


def room_beside_pins(memory: Tokens, new: Tokens, budget: int) -> int:
    """Returns how many tokens there is room for besides the pinned ones; raises BudgetError if these do not fit."""
    needed = int(memory.pinned.sum()) + int(new.pinned.sum())
    if needed > budget:
        raise BudgetError(
            f"the annotated frames need {needed} tokens, which may not be evicted, but the budget is {budget}",
            "give a larger budget, or a policy that may evict them, such as lfu",
        )
    return budget - needed


def admit(memory: Tokens, new: Tokens, budget: int) -> Tokens:
    """Returns as much of a new frame as memory's pinned tokens leave room for.

    The cells that objects fill most go in first.

    Raises:
        BudgetError: if the pinned tokens of both do not fit.
    """
    return keep_best(new, new.mask_fraction.sum(0), room_beside_pins(memory, new, budget) + int(new.pinned.sum()))


def make_room(memory: Tokens, score: Real[Tensor, " N"], new: Tokens, budget: int) -> Tokens:
    """Returns the best-scored of memory, and new; just as many tokens go as new needs.

    Raises:
        BudgetError: if the pinned tokens of both do not fit.
    """
    new = admit(memory, new, budget)
    room = budget - len(new)
    return memory + new if len(memory) <= room else memory.joined(best_places(memory, score, room), new)


def ages(memory: Tokens, new: Tokens) -> Float[Tensor, " N"]:
    """Returns how many frames were processed since each token of memory was written, at least 1, as float32."""
    return (new.written_at[0] - memory.written_at).clamp_min(1).float()
