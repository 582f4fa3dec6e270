"""The contract of memory policies and its checks; a run stops at the frame in which a custom policy breaks it."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.errors import BudgetError, InputError, MnemaskError, PolicyError
from mnemask.memory.policies.base import Policy
from mnemask.memory.tokens import PER_OBJECT, Tokens
from mnemask.model.stcn import COMPACT
from mnemask.plugins import describe_error

REMEDY = "fix its `update`; mnemask.testing.check_policy reproduces the error without a video"


def violation(memory: Tokens, new: Tokens, budget: int, kept: object) -> str:
    """Returns how the result of an `update` breaks the contract, as a part of a sentence; empty if it does not.

    Args:
        memory: the tokens in memory.
        new: the tokens of the frame that was written.
        budget: how many tokens may be kept.
        kept: the result of `update`.
    """
    if not isinstance(kept, Tokens):
        return f"returned a {type(kept).__name__} instead of Tokens"
    lengths = {tensor.shape[1 if name in PER_OBJECT else 0] for name, tensor in kept.tensors().items()}
    if len(lengths) > 1 or kept.num_objects != new.num_objects:
        return f"returned tensors of {sorted(lengths)} tokens and {kept.num_objects} of {new.num_objects} objects"
    if len(kept) > budget:
        return f"kept {len(kept)} tokens, but the budget is {budget}"
    later, further = kept.written_at.diff(), kept.cell.diff()
    if bool(((later < 0) | ((later == 0) & (further <= 0))).any()):
        return "kept a token twice, or not in the order of writing and position (sort by written_at, then by cell)"
    pinned, still = memory[memory.pinned] + new[new.pinned], kept[kept.pinned]
    if len(still) != len(pinned):
        return f"kept {len(still)} of {len(pinned)} pinned tokens"
    theirs = still.tensors()
    changed = [name for name, tensor in pinned.tensors().items() if not torch.equal(tensor, theirs[name])]
    return f"changed the {changed[0]} of pinned tokens" if changed else ""


def checked_update(policy: Policy, memory: Tokens, new: Tokens, budget: int, when: str) -> Tokens:
    """Returns the tokens that a custom policy keeps.

    Args:
        policy: the policy.
        memory: the tokens in memory.
        new: the tokens of the frame that is written now.
        budget: how many tokens may be kept.
        when: a phrase for the message, such as "at frame 5".

    Raises:
        PolicyError: if the policy breaks the contract, or fails.
        BudgetError: if the policy raises it because the budget does not suffice.
    """
    try:
        kept = policy.update(memory, new, budget)
    except InputError as error:
        raise PolicyError(f"policy {policy} failed {when}: {error.problem}", error.remedy) from error
    except (MnemaskError, torch.OutOfMemoryError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise PolicyError(f"policy {policy} failed {when}: {describe_error(error)}", REMEDY) from error
    if wrong := violation(memory, new, budget, kept):
        raise PolicyError(f"policy {policy} {wrong}, {when}", REMEDY)
    return kept


def checked_pins(policy: Policy, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "h w"]:
    """Returns which cells of the first annotated frame a policy pins; raises PolicyError if its result is invalid."""
    try:
        pins = policy.pinned_part(mask_fraction)
    except (MnemaskError, torch.OutOfMemoryError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise PolicyError(f"policy {policy} failed in pinned_part: {describe_error(error)}", REMEDY) from error
    if not isinstance(pins, Tensor) or pins.dtype != torch.bool or pins.shape != mask_fraction.shape[1:]:
        raise PolicyError(
            f"policy {policy} returned {getattr(pins, 'dtype', type(pins).__name__)} of shape "
            f"{list(getattr(pins, 'shape', ()))} from pinned_part, not bool of shape {list(mask_fraction.shape[1:])}",
            REMEDY,
        )
    return pins


CELLS = 6
KEY_CHANNELS, VALUE_CHANNELS = COMPACT.key_channels, COMPACT.value_channels  # a policy may have weights for them


def check_policy(policy: Policy, name: str = "") -> None:
    """Raises PolicyError unless a policy keeps the contract on generated memories, also with pins and several objects.

    The contract: it never keeps more than the budget; every pinned token is kept unchanged; what it keeps is in the
    order of writing; its inputs are not modified; the same inputs give the same result. It may raise BudgetError if the
    pinned tokens exceed the budget, and in any case if its `default_frames` is None.

    Keys have 64 channels here, as in both networks, and values 256, as in `compact`; those of `stcn` have 512.

    Args:
        policy: the custom policy. With `pin=False` no token is pinned here, as in a tracker.
        name: the policy's name in messages.

    Raises:
        PolicyError: if the policy breaks the contract; the message states how, and in which case.

    Example:
        >>> from mnemask.memory.policies import LFU
        >>> check_policy(LFU(write_every=2))
    """
    for memory, new, budget in drawn_cases(policy.pin):
        case = f"with {len(memory)} tokens in memory, {len(new)} new ones and a budget of {budget}"
        before = copy.deepcopy((memory, new))
        try:
            kept, again = (checked_update(policy, memory, new, budget, case) for _ in range(2))
        except BudgetError as error:
            if policy.default_frames is None or int(memory.pinned.sum() + new.pinned.sum()) > budget:
                continue
            raise PolicyError(f"policy {name or policy} raised BudgetError {case}: {error.problem}", REMEDY) from error
        if not (same(memory, before[0]) and same(new, before[1])):
            raise PolicyError(f"policy {name or policy} modified its inputs {case}", REMEDY)
        if not same(kept, again):
            raise PolicyError(f"policy {name or policy} kept other tokens when called again {case}", REMEDY)


def drawn_cases(pin: bool = True) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Yields memories, new frames and budgets as they occur in a bank; they are always the same.

    Args:
        pin: whether the first frame is pinned, entirely in one half of the cases and partly in the other.
    """
    for seed, (num_frames, num_objects, room) in enumerate(
        (frames, objects, room) for frames in range(5) for objects in (1, 3) for room in (0, 1, 3 * CELLS // 2, 99)
    ):
        generator = torch.Generator().manual_seed(seed)
        memory = _frame(0, num_objects, generator)[:0]
        for step in range(num_frames):
            memory = memory + _frame(step, num_objects, generator)
        new = _frame(num_frames + 2, num_objects, generator)
        if pin:
            first = memory if num_frames else new
            share = 1.0 if seed % 2 else 0.5
            pins = (first.written_at == first.written_at[0]) & (torch.rand(len(first), generator=generator) < share)
            first = replace(first, pins=pins.expand(num_objects, -1).clone())
            memory, new = (first, new) if num_frames else (memory, first)
        if num_frames > 2:  # used, partly evicted, and one object appeared later
            kept = torch.nonzero(memory.pinned | (torch.rand(len(memory), generator=generator) < 0.7))[:, 0]
            memory = _used(memory[kept], num_frames + 2, generator)
        pinned = int(memory.pinned.sum() + new.pinned.sum())
        yield memory, new, max(len(new), pinned - 1 if seed % 7 == 6 else pinned) + room


def _frame(step: int, num_objects: int, generator: torch.Generator) -> Tokens:
    return Tokens.from_frame(
        torch.randn(CELLS, KEY_CHANNELS, generator=generator),
        torch.randn(num_objects, CELLS, VALUE_CHANNELS, generator=generator),
        torch.rand(num_objects, CELLS, generator=generator) ** 3,
        frame=3 * step,
        step=step,
        pins=torch.zeros(num_objects, CELLS, dtype=torch.bool),
    )


def _used(memory: Tokens, now: int, generator: torch.Generator) -> Tokens:
    valid = memory.valid.clone()
    valid[-1] = memory.written_at > 0
    return replace(
        memory,
        valid=valid if len(valid) > 1 else memory.valid,
        topk_count=torch.randint(4, memory.topk_count.shape, generator=generator),
        attention_mass=torch.rand(memory.attention_mass.shape, generator=generator),
        last_used=torch.minimum(
            memory.written_at + torch.randint(3, memory.written_at.shape, generator=generator), torch.tensor(now)
        ),
    )


def same(first: Tokens, second: Tokens) -> bool:
    """Returns whether two sets of tokens are the same, bit for bit."""
    theirs = second.tensors()
    return all(
        tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name])
        for name, tensor in first.tensors().items()
    )
