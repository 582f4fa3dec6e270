"""Tracking settings: the one value shared by a tracker, its saved state, the command line and reports.

With `tta`, a video is tracked in several views at once and their probabilities are averaged, as in the flip and
multi-scale evaluations of STCN, XMem and Cutie; each view has its own memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemask.choices import POLICY_NAMES
from mnemask.errors import CheckpointError, InputError
from mnemask.memory.budget import Budget
from mnemask.memory.policies import DEFAULT_POLICY, POLICIES, Policy, policy_named, restored_policy, saved_policy
from mnemask.memory.read import Metric, resolve_kmn_sigma
from mnemask.model.stcn import STRIDE
from mnemask.types import Frame, Masks, is_number, take_numpy_numbers

SCALES = (0.8, 1.25)  # added by tta "scales"
LEAST_SCALE, MOST_SCALE = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """What a tracker keeps in memory, how it reads the memory, and the size at which frames are processed.

    An immutable value: validated on construction, compared by content, and picklable. None stands for the default of
    the policy or the network; `Tracker.config` holds the values in use.

    Args:
        policy: the memory policy: a `Policy`, or its name in `POLICIES`.
        budget: how much is kept in memory; None for the policy's default (the tokens of 2 frames, for most).
        write_every: the write interval in frames, 1 or more; None for the policy's default (5 for most). If it is
            given, the interval is fixed: `write_on_growth` is then 0 unless it is given too.
        write_on_growth: writes a frame before the interval is over, but no sooner than 2 frames after the last write,
            once an object's area exceeds its largest area in any written frame by more than this fraction, such as
            0.25; below 1. One cell of 16×16 pixels is added to both areas. 0 disables it; None for the policy's default
            (0.25 for `diverse`, 0 for the others).
        write_above_certainty: the mean probability of the pixels in a frame's masks that a frame without given masks
            must reach to be written, such as 0.9; a write that is due waits for such a frame. Below 1; 0 disables it.
        top_k: the number of tokens that each query cell reads, 1 or more (20 in STCN).
        metric: the affinity of query and memory keys: "l2" (negative squared distance, for which the shipped weights
            are trained), "dot" or "cosine".
        kmn_sigma: σ of the KMN kernel as a fraction of the frame's short side, 0.01 or more; 0 disables it, as in STCN;
            None for the network's default (0.2 for `compact`). See docs/kmn-kernel.md.
        stride8_weight: the weight of a second affinity at stride 8 that re-ranks the tokens found at stride 16, from 0
            (off) to about 8. It helps separate objects that look alike, at 128 bytes per token (docs/multi-scale.md).
        keep_corrections: True pins every correction permanently (as in XMem++). By default, the next correction of an
            object unpins the one before it, and all are unpinned if the budget cannot hold them, as are then the first
            masks of objects that appeared after the first ones.
        tta: further views of each frame whose probabilities are averaged with its own: "flip" (mirrored), "scales"
            (0.8 and 1.25 times the size), factors such as "1.5", or several of these separated by commas. Each view
            has its own memory with the full budget and takes the time of one tracker: "flip" takes that of 2,
            "flip,scales" of 6. "" for none.
        short_side: the length of the short side, in pixels, at which frames are processed, 16 or more; masks always
            have the size of the frame. None processes frames at their own size.

    Raises:
        InputError: if a value is unknown or out of range.

    Example:
        >>> config = TrackerConfig(policy="lfu", budget=Budget(frames=4))
        >>> TrackerConfig.from_dict(config.to_dict()) == config
        True
    """

    policy: Policy | str = DEFAULT_POLICY
    budget: Budget | None = None
    write_every: int | None = None
    write_on_growth: int | float | None = None
    write_above_certainty: int | float = 0.0
    top_k: int = 20
    metric: Metric = "l2"
    kmn_sigma: int | float | None = None
    stride8_weight: int | float = 0.0
    keep_corrections: bool = False
    tta: str = ""
    short_side: int | None = 480

    def __post_init__(self) -> None:
        take_numpy_numbers(self)
        if isinstance(self.policy, str):
            policy_named(self.policy)
        elif not isinstance(self.policy, Policy):
            raise InputError(
                f"policy is {self.policy!r}", f"give one of {', '.join(POLICIES)} or a Policy such as LFU()"
            )
        if not isinstance(self.budget, Budget | None):
            raise InputError(f"budget is {self.budget!r}", "give a Budget such as Budget(frames=2)")
        if self.write_every is not None:
            _check_whole("write_every", self.write_every, 1, "such as 5")
        on_growth = 0 if self.write_on_growth is None else self.write_on_growth
        for name, value in (("write_on_growth", on_growth), ("write_above_certainty", self.write_above_certainty)):
            if not is_number(value) or not 0 <= value < 1:
                raise InputError(f"{name} is {value!r}", "give a number above 0 and below 1, or 0 to disable it")
        _check_whole("top_k", self.top_k, 1, "such as 20")
        if self.metric not in get_args(Metric):
            raise InputError(f"metric {self.metric!r} is unknown", f"choose one of {', '.join(get_args(Metric))}")
        resolve_kmn_sigma(self.kmn_sigma, 0)
        if not is_number(self.stride8_weight) or not 0 <= self.stride8_weight <= 1000:
            raise InputError(
                f"stride8_weight is {self.stride8_weight!r}",
                "give a number from 0 (off) to about 8, at most 1000",
            )
        if not isinstance(self.keep_corrections, bool):
            raise InputError(f"keep_corrections is {self.keep_corrections!r}", "give True or False")
        if self.short_side is not None:
            _check_whole("short_side", self.short_side, STRIDE, "such as 480, or None")
        if not isinstance(self.tta, str):
            raise InputError(f"tta is {self.tta!r}", 'give "flip", "scales", "flip,scales" or ""')
        self.views()

    def used_policy(self) -> Policy:
        """Returns the policy with this config's `write_every` and `write_on_growth`."""
        policy = policy_named(self.policy) if isinstance(self.policy, str) else self.policy
        changes: dict[str, Any] = {}
        if self.write_every is not None:
            changes = {"write_every": self.write_every, "write_on_growth": 0.0}
        if self.write_on_growth is not None:
            changes["write_on_growth"] = float(self.write_on_growth)
        used = replace(policy, **changes) if changes else policy
        if not used.write_every:
            raise InputError(f"policy {used} has no write interval", "give a whole number from 1 as write_every")
        return used

    def views(self) -> "tuple[View, ...]":
        """Returns the views of each frame: the frame itself, and those that `tta` adds."""
        return views_of(self.tta, self.short_side)

    def used_budget(self) -> Budget:
        """Returns the budget, or the policy's default if none is given."""
        return self.budget or Budget(frames=self.used_policy().default_frames)

    def filled(self, kmn_sigma: int | float) -> "TrackerConfig":
        """Returns the config with the defaults of the policy and the network filled in.

        Args:
            kmn_sigma: the network's default (`STCN.kmn_sigma`).
        """
        policy = self.used_policy()
        return replace(
            self,
            budget=self.used_budget(),
            write_every=policy.write_every,
            write_on_growth=policy.write_on_growth,
            kmn_sigma=resolve_kmn_sigma(self.kmn_sigma, kmn_sigma),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as values that JSON can hold; a built-in policy is given by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        policy = policy_named(self.policy) if isinstance(self.policy, str) else self.policy
        # Only the names of built-in policies always mean the same policy.
        names = [name for name in POLICY_NAMES if POLICIES[name] == policy]
        return values | {
            "policy": names[0] if names else saved_policy(policy),
            "budget": None if self.budget is None else asdict(self.budget),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], policy: Policy | None = None) -> "TrackerConfig":
        """Returns the config that these values, from `to_dict`, describe.

        Args:
            values: the result of `to_dict`, which may have been saved as JSON.
            policy: replaces the saved policy; required if that is not in `POLICIES`.

        Raises:
            CheckpointError: if the policy is not in `POLICIES`, or the values are not those of a config.
            InputError: if a value is unknown or out of range.
        """
        try:
            saved = {**values}
            saved["policy"] = policy or (
                saved["policy"] if isinstance(saved["policy"], str) else restored_policy(saved["policy"])
            )
            saved["budget"] = None if saved["budget"] is None else Budget(**saved["budget"])
            return cls(**saved)
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the tracker's settings are malformed ({type(error).__name__} {error})"[:200], "save them again"
            ) from error


def _check_whole(name: str, value: object, least: int, such_as: str) -> None:
    """Raises InputError unless a setting is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}", f"give a whole number of at least {least}, {such_as}")


@dataclass(frozen=True, slots=True)
class View:
    """One view of each frame.

    Attributes:
        flipped: whether the frame is mirrored horizontally.
        scale: the factor applied to the size at which frames are processed.
    """

    flipped: bool = False
    scale: float = 1.0

    def short_side(self, short_side: int | None) -> int | None:
        """Returns the short side at which frames are processed in this view."""
        return None if short_side is None else round(short_side * self.scale)

    def frame(self, frame: Frame) -> Frame:
        """Returns the frame in this view."""
        return replace(frame, image=frame.image.flip(-1)) if self.flipped else frame

    def prompts(self, given: Mapping[int, Bool[Tensor, "H W"]]) -> Mapping[int, Bool[Tensor, "H W"]]:
        """Returns the given masks in this view."""
        return {object_id: mask.flip(-1) for object_id, mask in given.items()} if self.flipped else given


def views_of(tta: str, short_side: int | None = 480) -> tuple[View, ...]:
    """Returns the views that a string such as "flip,1.25" names; the first is the unchanged frame.

    Args:
        tta: "flip" (mirrored), "scales" (0.8 and 1.25 times the size) and factors from 0.5 to 2, separated by commas;
            "flip" adds a mirrored view of every size. "" for none.
        short_side: the short side at which frames are processed; None, for their own size, allows no other sizes.

    Raises:
        InputError: if a view is unknown, or another size is given without a `short_side`.
    """
    words = [word.strip() for word in tta.split(",")] if tta else []
    scales = [1.0]
    for word in words:
        if word == "scales":
            scales += SCALES
        elif word != "flip":
            scales.append(_factor(word, tta))
    scales = list(dict.fromkeys(scales))
    if short_side is None and len(scales) > 1:
        raise InputError(f"tta {tta!r} scales frames, which needs a short_side", "give a short_side (--size)")
    sides = (False, True) if "flip" in words else (False,)
    return tuple(View(flipped, scale) for scale in scales for flipped in sides)


def _factor(word: str, tta: str) -> float:
    try:
        scale = float(word)
    except ValueError:
        scale = 0.0
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        raise InputError(
            f"tta is {tta[:40]!r}",
            f"give flip, scales or factors from {LEAST_SCALE} to {MOST_SCALE}, separated by commas",
        )
    return scale


def mean_of(views: Sequence[View], answers: Sequence[Masks]) -> Float[Tensor, "K1 H W"]:
    """Returns the mean of the views' probabilities, for the unmirrored frame."""
    both = zip(views, answers, strict=True)
    return torch.stack([answer.probs.flip(-1) if view.flipped else answer.probs for view, answer in both]).mean(0)
