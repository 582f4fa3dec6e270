"""The base class of policies, and what they share: keeping the best-scored tokens and making room for new ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64, Real
from torch import Tensor

from mnemask.errors import BudgetError, InputError
from mnemask.memory.tokens import Tokens
from mnemask.types import take_numpy_numbers

KINDS: dict[object, type | tuple[type, ...]] = {
    int: int,
    bool: bool,
    float: (int, float),
    float | None: (int, float, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """Decides what is kept: a pure function of the old and the new tokens, without state, only with hyper-parameters.

    A subclass is a frozen dataclass with an `update`. Contract, tested for every policy: the result never exceeds the
    budget, it contains every pinned token unchanged, the inputs are not modified, the same inputs give the same result.
    A policy inside another one (`Wrapper`) may be given parts of frames, and a budget smaller than `new`, down to 0.

    Attributes:
        write_every: frames from one write to the next, unless `write_on_growth` makes it earlier.
        write_on_growth: writes a frame earlier, but no sooner than 2 frames after the last write, once an object's area
            exceeds its largest area in any written frame by more than this fraction; below 1, and 0 disables it.
        pin: whether the tracker pins tokens of annotated frames, so that they are never evicted. Without pins, the
            policy treats the first frame like any other.
        default_frames: the budget in frames if the user gives none; None for no limit.
    """

    write_every: int = 5
    write_on_growth: float = 0.0
    pin: bool = True
    default_frames: float | None = 2.0

    def __post_init__(self) -> None:
        take_numpy_numbers(self)

    @abstractmethod
    def update(self, memory: Tokens, new: Tokens, budget: int) -> Tokens:
        """Returns the tokens that are kept.

        Args:
            memory: the tokens in memory, oldest write first; may be empty.
            new: the tokens of the frame that is written now; at least one.
            budget: how many tokens may be kept.

        Raises:
            BudgetError: if what must be kept exceeds the budget.
        """

    def check_fields(self) -> None:
        """Raises TypeError or ValueError for a hyper-parameter of the wrong type or out of range."""
        for field in fields(self):
            value, wanted = getattr(self, field.name), KINDS.get(field.type, object)
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted not in (bool, object)):
                raise TypeError(f"{field.name} is {value!r}, but must be of type {field.type}")
        if self.write_every < 1:
            raise ValueError(f"write_every is {self.write_every}, but must be 1 or more")
        if not 0 <= self.write_on_growth < 1:
            raise ValueError(f"write_on_growth is {self.write_on_growth}, but must be at least 0 and below 1")

    def pinned_part(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
        """Returns which cells of the first annotated frame are pinned if `pin` is set; all of them by default.

        Args:
            mask_fraction: how much of each cell each object fills, 0 to 1.
        """
        return torch.ones_like(mask_fraction[0], dtype=torch.bool)


def keep_best(tokens: Tokens, score: Real[Tensor, " N"], count: int) -> Tokens:
    """Returns the pinned tokens and the best-scored others, `count` in all, in the order they were in.

    Ties are broken by age, then by position: the older token is evicted first.

    Raises:
        BudgetError: if more than `count` tokens are pinned.
        InputError: if there is not one score per token, or a score is NaN.
    """
    _check_one_each(tokens, score)
    if missing := int(score.isnan().sum()):
        raise InputError(
            f"{missing} of {len(tokens)} scores are NaN",
            "give each token a number; where the score is a rate, divide by age.clamp_min(1), "
            "since a new token has an age of 0",
        )
    return best_of(tokens, score, count)


def best_of(tokens: Tokens, score: Real[Tensor, " N"], count: int) -> Tokens:
    """Returns what `keep_best` does; NaN is not looked for, which would make the host wait for a GPU.

    Raises:
        BudgetError: if more than `count` tokens are pinned.
    """
    return tokens if len(tokens) <= count else tokens[best_places(tokens, score, count)]


def _check_one_each(tokens: Tokens, score: Real[Tensor, "*shape"]) -> None:
    if score.shape != (len(tokens),):
        raise InputError(
            f"there are scores of shape {list(score.shape)} for {len(tokens)} tokens", "give one per token"
        )


def best_places(tokens: Tokens, score: Real[Tensor, " N"], count: int) -> Int64[Tensor, " count"]:
    """Returns the places of the tokens that `keep_best` keeps of more than `count`.

    Raises:
        BudgetError: if more than `count` tokens are pinned.
    """
    _check_one_each(tokens, score)
    pinned = int(tokens.pinned.sum())
    if pinned > count:
        raise BudgetError(
            f"{pinned} tokens of annotated frames may not be evicted, but there is room for {count}",
            "give a larger budget, or a policy that does not pin them, such as lfu",
        )
    # Tokens are in the order of writing and position, which a stable sort keeps among equal scores. Pinned ones come
    # last. Masks would give the same result, but counting them makes the host wait for a GPU.
    order = torch.argsort(score, stable=True)
    order = order[torch.argsort(tokens.pinned[order].to(torch.uint8), stable=True)]
    return order[len(tokens) - count :].sort().values


def room_beside_pins(memory: Tokens, new: Tokens, budget: int) -> int:
    """Returns how many tokens fit in addition to the pinned ones; raises BudgetError if the latter do not fit."""
    needed = int(memory.pinned.sum()) + int(new.pinned.sum())
    if needed > budget:
        raise BudgetError(
            f"the annotated frames need {needed} tokens, which may not be evicted, but the budget is {budget}",
            "give a larger budget, or a policy that does not pin them, such as lfu",
        )
    return budget - needed


def admit(memory: Tokens, new: Tokens, budget: int) -> Tokens:
    """Returns as much of a new frame as fits in addition to the pinned tokens of memory.

    The cells that objects fill most come first.

    Raises:
        BudgetError: if the pinned tokens of both do not fit.
    """
    return best_of(new, new.mask_fraction.sum(0), room_beside_pins(memory, new, budget) + int(new.pinned.sum()))


def make_room(memory: Tokens, score: Real[Tensor, " N"], new: Tokens, budget: int) -> Tokens:
    """Returns the best-scored tokens of memory, and new; only as many tokens are evicted as new needs.

    Raises:
        BudgetError: if the pinned tokens of both do not fit.
    """
    new = admit(memory, new, budget)
    room = budget - len(new)
    return memory + new if len(memory) <= room else memory.joined(best_places(memory, score, room), new)


def ages(memory: Tokens, new: Tokens) -> Float[Tensor, " N"]:
    """Returns how many frames were processed since each token of memory was written, at least 1, as float32."""
    return (new.written_at[0] - memory.written_at).clamp_min(1).float()
