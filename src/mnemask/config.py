"""How a video is tracked: the one value that a tracker, its saved state, the command line and reports share.

With `tta` a video is followed in several views at once and the probabilities are averaged, as STCN, XMem and Cutie are
evaluated with flips and at several sizes; each view has a memory of its own.
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
from mnemask.types import Frame, Masks

SCALES = (0.8, 1.25)  # that tta calls "scales"
LEAST_SCALE, MOST_SCALE = 0.5, 2.0


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """What a tracker remembers, how it reads that, and at which size frames are processed.

    A value: it is validated when it is made, compares by content, and can be sent to other processes. None stands for
    what the policy or the network prefers; `Tracker.config` has the values that are used.

    Args:
        policy: what is kept in memory: a `Policy`, or its name in `POLICIES`.
        budget: how much is kept; None for the policy's own (2 frames' worth of tokens, for most).
        write_every: the write interval in frames, 1 or more; None for the policy's own (5, for most). A number is kept
            to: with it, `write_on_growth` is 0 unless it is given too.
        write_on_growth: a frame is written before the interval is over, from the second on, as soon as an object is
            larger by more than this part than in any frame written so far (a cell of 16×16 pixels more in both areas),
            such as 0.25; below 1. 0 disables it; None for the policy's own (0.25 of `diverse`, 0 of others).
        write_above_certainty: a frame without given masks is written only if the mean probability of the pixels in its
            masks is at least this, such as 0.9; the write waits for one that is. Below 1; 0 disables it.
        top_k: tokens that each query cell reads, 1 or more (20 in STCN).
        metric: the affinity of a query and a memory key: "l2" (negative squared distance, for which the shipped weights
            are trained), "dot" or "cosine".
        kmn_sigma: σ of the KMN kernel as a fraction of the frame's short side, 0.01 or more; 0 disables it, as in STCN;
            None is the network's own (0.2 for `compact`). See docs/kmn-kernel.md.
        stride8_weight: weight of a second affinity at stride 8 that re-ranks the tokens found at stride 16, from 0
            (off) to about 8. It helps to separate objects that look alike, at 128 bytes a token (docs/multi-scale.md).
        keep_corrections: True makes every correction a permanent memory (as in XMem++); by default the next correction
            of an object takes the place of the one before, and all are given up where the budget cannot hold them.
        tta: views of each frame of which the probabilities are averaged: "flip" (mirrored too), "scales" (0.8 and 1.25
            times as large too), factors such as "1.5", or several after commas. Each view has a memory of its own with
            the whole budget, and takes the time of a tracker: "flip" 2 of them, "flip,scales" 6. "" for none.
        short_side: pixels of the short side at which frames are processed, 16 or more; masks have the size of the
            frame all the same. None processes frames as they are.

    Raises:
        InputError: for an unknown or impossible value.

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
            if not _is_number(value) or not 0 <= value < 1:
                raise InputError(f"{name} is {value!r}", "give a number above 0 and below 1, or 0 to disable it")
        _check_whole("top_k", self.top_k, 1, "such as 20")
        if self.metric not in get_args(Metric):
            raise InputError(f"metric {self.metric!r} is unknown", f"choose one of {', '.join(get_args(Metric))}")
        resolve_kmn_sigma(self.kmn_sigma, 0)
        if not _is_number(self.stride8_weight) or not 0 <= self.stride8_weight <= 1000:
            raise InputError(
                f"stride8_weight is {self.stride8_weight!r}",
                "give a number from 0, which disables it, to about 8, at most 1000",
            )
        if not isinstance(self.keep_corrections, bool):
            raise InputError(f"keep_corrections is {self.keep_corrections!r}", "give True or False")
        if self.short_side is not None:
            _check_whole("short_side", self.short_side, STRIDE, "such as 480, or None")
        if not isinstance(self.tta, str):
            raise InputError(f"tta is {self.tta!r}", 'give "flip", "scales", "flip,scales" or ""')
        self.views()

    def used_policy(self) -> Policy:
        """Returns the policy itself, with this write interval and what makes it shorter."""
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
        """Returns how frames are seen: as they are, and in what `tta` adds."""
        return views_of(self.tta, self.short_side)

    def used_budget(self) -> Budget:
        """Returns the budget, or the policy's own where there is none."""
        return self.budget or Budget(frames=self.used_policy().default_frames)

    def filled(self, kmn_sigma: int | float) -> "TrackerConfig":
        """Returns the config in which nothing is left to the policy or to the network.

        Args:
            kmn_sigma: the network's own (`STCN.kmn_sigma`).
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
        """Returns plain values that JSON holds; a policy of the package goes by its name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        policy = policy_named(self.policy) if isinstance(self.policy, str) else self.policy
        # By name only what that name always means.
        names = [name for name in POLICY_NAMES if POLICIES[name] == policy]
        return values | {
            "policy": names[0] if names else saved_policy(policy),
            "budget": None if self.budget is None else asdict(self.budget),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], policy: Policy | None = None) -> "TrackerConfig":
        """Returns the config that `to_dict` made these values of.

        Args:
            values: what `to_dict` returned, as JSON gives it back.
            policy: takes the place of the saved one; needed where that is not among `POLICIES`.

        Raises:
            CheckpointError: if the policy is not among `POLICIES`, or the values are not those of a config.
            InputError: if a value is unknown or impossible.
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
                f"the settings of the tracker are garbled ({type(error).__name__} {error})"[:200], "write them again"
            ) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_whole(name: str, value: object, least: int, such_as: str) -> None:
    """Raises InputError unless a setting is a whole number from `least` on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}", f"give a whole number from {least}, {such_as}")


@dataclass(frozen=True, slots=True)
class View:
    """How a tracker sees each frame.

    Attributes:
        flipped: whether left and right are exchanged.
        scale: by which the size is multiplied at which frames are processed.
    """

    flipped: bool = False
    scale: float = 1.0

    def short_side(self, short_side: int | None) -> int | None:
        """Returns the short side at which frames are processed in this view."""
        return None if short_side is None else round(short_side * self.scale)

    def frame(self, frame: Frame) -> Frame:
        """Returns the frame as this view shows it."""
        return replace(frame, image=frame.image.flip(-1)) if self.flipped else frame

    def prompts(self, given: Mapping[int, Bool[Tensor, "H W"]]) -> Mapping[int, Bool[Tensor, "H W"]]:
        """Returns given masks as this view shows them."""
        return {object_id: mask.flip(-1) for object_id, mask in given.items()} if self.flipped else given


def views_of(tta: str, short_side: int | None = 480) -> tuple[View, ...]:
    """Returns the views that a text such as "flip,1.25" names, beginning with the frames as they are.

    Args:
        tta: "flip" (mirrored too), "scales" (0.8 and 1.25 times as large too) and factors from 0.5 to 2, after commas;
            with "flip" each size is mirrored too. "" for none.
        short_side: at which frames are processed; None, for as they are, has no other size.

    Raises:
        InputError: there are no such views.
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
        raise InputError(f"tta is {tta!r} and frames are processed as they are", "give a short_side (--size)")
    sides = (False, True) if "flip" in words else (False,)
    return tuple(View(flipped, scale) for scale in scales for flipped in sides)


def _factor(word: str, tta: str) -> float:
    try:
        scale = float(word)
    except ValueError:
        scale = 0.0
    if not LEAST_SCALE <= scale <= MOST_SCALE:
        raise InputError(
            f"tta is {tta[:40]!r}", f"give flip, scales or factors from {LEAST_SCALE} to {MOST_SCALE}, after commas"
        )
    return scale


def mean_of(views: Sequence[View], answers: Sequence[Masks]) -> Float[Tensor, "K1 H W"]:
    """Returns the mean of the probabilities that each view gives, for the frame as it is."""
    both = zip(views, answers, strict=True)
    return torch.stack([answer.probs.flip(-1) if view.flipped else answer.probs for view, answer in both]).mean(0)
