"""All hyper-parameters of all runs: a recipe is a function of the number of steps, its docstring states the result.

`static` and `main` are the two stages of the thesis (3.4, 4.2), `compact` is the origin of the weights in the package,
`real_video` continues from them, `finetune` adapts weights to your own video. What is counted in steps scales with
the number of steps: gaps between frames, the fraction of pixels in the loss, the learning rate. Its warm-up becomes
shorter in short runs but not longer in long ones. Fixed are the warm-up of `real_video`, which is open-ended, and the
decay of the weights' average.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor, inf
from typing import Any, Literal

import numpy as np

from mnemask.datasets.clips import ClipShape
from mnemask.datasets.real_video import RealVideoMixture
from mnemask.errors import InputError
from mnemask.model.stcn import STRIDE
from mnemask.training.clip_tracker import MemoryInUse, MemoryPlan
from mnemask.training.custom import CustomLoss, CustomRegularizer
from mnemask.training.losses import Bootstrap, Cosine, RootDecay, Schedule, StepDecay, WarmUpStable
from mnemask.training.regularizers import Regularizer


@dataclass(frozen=True, slots=True)
class GapCurriculum:
    """The maximum gap between successive frames of a training clip (thesis 4.2.2; the defaults are its values).

    Attributes:
        start: initial gap in frames, at least 1.
        step: increase of the gap, in frames, at each of `raise_at`.
        raise_at: progress values, ascending from 0 to 1, at which the gap increases.
        back_at: progress at which the gap returns to `start`.

    Raises:
        InputError: a value is out of range.
    """

    start: int = 5
    step: int = 5
    raise_at: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    back_at: float = 0.9

    def __post_init__(self) -> None:
        if self.start < 1 or self.step < 0:
            raise InputError(
                f"gaps cannot rise from {self.start} in steps of {self.step}",
                "expected a start of at least 1 and a step of at least 0",
            )
        points = (0.0, *self.raise_at, self.back_at, 1.0)
        if any(not before <= after for before, after in pairwise(points)):
            raise InputError(
                f"gaps cannot rise at {self.raise_at} and fall at {self.back_at} of a run",
                "expected ascending fractions from 0 to 1",
            )

    def max_gap(self, progress: int | float) -> int:
        """Returns the maximum gap in frames at a progress from 0 to 1."""
        if progress >= self.back_at:
            return self.start
        return self.start + self.step * bisect_right(self.raise_at, progress)


# Seeds for different purposes must differ in their first number; those for the clips themselves are in `data`.
LENGTHS, PLANS = 3, 4


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run: until this fraction of its steps, clips have this crop size and this number of frames.

    Of several numbers of frames, one is drawn at random for each step.
    """

    until: float
    size: int
    num_frames: int | tuple[int, ...] = 3

    @property
    def lengths(self) -> tuple[int, ...]:
        """The possible numbers of frames."""
        return (self.num_frames,) if isinstance(self.num_frames, int) else self.num_frames


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of a run; with a seed and the data they determine its result.

    Attributes:
        name: name on the command line.
        steps: number of updates of the weights.
        batch: number of clips per step, over all processes and accumulated parts.
        sets: the training sets that the recipe is meant for, each with its repetitions; others may be given.
        mixture: shares of all kinds of clips, if the recipe is meant for one folder of many sets instead.
        phases: phases in order, the last one until 1.
        max_objects: maximum number of objects followed in a clip.
        min_objects: lower limit of the number of objects; the number followed in a step's clips, if they have as many,
            is drawn from this one to `max_objects`.
        gap: maximum distance in frames between successive frames of a clip from real video.
        optimizer: "adam" adds the weight decay to the gradient, "adamw" subtracts it from the weight.
        learning_rate: learning rate before the schedule's factor.
        key_encoder_rate, value_encoder_rate: factors on the learning rate for the two encoders' ResNets.
        frozen: prefixes of the names of parameters that are not trained.
        clip_norm: maximum norm of the gradient; None for no limit.
        bootstrap: fraction of the pixels that the loss counts.
        dice: weight of the soft dice term relative to the cross-entropy.
        ema: decay of the moving average of the weights, which is a run's result; with None that is the last weights.
        regularizer: regularizer of the affinity (thesis chapter 4), in training only.
        loss: loss that replaces bootstrapped cross-entropy and dice.
        memory: which earlier frames a frame reads, and how.
        seed: seed of the clips and their order.
    """

    name: str
    steps: int
    batch: int
    sets: tuple[tuple[str, int], ...] = ()
    mixture: RealVideoMixture | None = None
    phases: tuple[Phase, ...] = (Phase(1.0, 384),)
    max_objects: int = 2
    min_objects: int = 1
    gap: GapCurriculum = GapCurriculum()
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-7
    schedule: Schedule = StepDecay()
    key_encoder_rate: float = 1.0
    value_encoder_rate: float = 1.0
    frozen: tuple[str, ...] = ()
    clip_norm: float | None = None
    bootstrap: Bootstrap = Bootstrap()
    dice: float = 0.0
    ema: float | None = None
    regularizer: Regularizer | CustomRegularizer | None = None
    loss: CustomLoss | None = None
    memory: MemoryInUse = MemoryInUse()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise InputError(
                f"a run of {self.steps} steps of {self.batch} clips cannot be trained", "give at least one of each"
            )
        if not 1 <= self.min_objects <= self.max_objects:
            raise InputError(
                f"clips of {self.min_objects} to {self.max_objects} objects cannot be drawn",
                "give 1 or more, in ascending order",
            )
        if not self.phases or self.phases[-1].until != 1:
            raise InputError(f"phases {self.phases} do not last until 1", "end the last one at 1")
        if wrong := [phase.size for phase in self.phases if phase.size % STRIDE]:
            raise InputError(f"crops of {wrong[0]} pixels do not suit the network", f"give a multiple of {STRIDE}")
        if not 0 < self.learning_rate < inf:
            raise InputError(
                f"a learning rate of {self.learning_rate} cannot train", "give a positive one such as 1e-5"
            )

    def shape(self, step: int, num_objects: int) -> ClipShape:
        """Returns the shape of a step's clips, with up to `num_objects` objects."""
        progress = step / self.steps
        phase = next(phase for phase in self.phases if progress < phase.until)
        lengths = phase.lengths
        num_frames = lengths[int(np.random.default_rng((LENGTHS, self.seed, step)).integers(len(lengths)))]
        return ClipShape(phase.size, num_frames, num_objects, self.gap.max_gap(progress))

    def plan(self, step: int, num_frames: int) -> MemoryPlan:
        """Returns the memory plan of a step's clips of this many frames."""
        return self.memory.plan(np.random.default_rng((PLANS, self.seed, step)), num_frames)


def static(steps: int = 300_000) -> Recipe:
    """Returns stage 1 of the thesis: three augmented samples of one photograph with one object.

    Shorter side 384, crop 384, batch 16, Adam 1e-5, a tenth of it from halfway. Not run by this project at full length.
    """
    return Recipe(
        name="static",
        steps=steps,
        batch=16,
        sets=(("BIG", 5), ("HRSOD", 5), ("DUTS-TR", 1), ("DUTS-TE", 1), ("FSS-1000", 1), ("ECSSD", 1)),
        max_objects=1,
        bootstrap=Bootstrap(round(steps * 20 / 300), round(steps * 70 / 300)),
    )


def main(steps: int = 150_000) -> Recipe:
    """Returns stage 2 of the thesis: three frames of a video, two objects, increasing gaps, batch 8.

    Not run by this project at full length.
    """
    return Recipe(
        name="main",
        steps=steps,
        batch=8,
        sets=(("YouTube-VOS-train", 1), ("DAVIS-2017-train", 5)),
        min_objects=2,
        bootstrap=Bootstrap(round(steps * 20 / 150), round(steps * 70 / 150)),
    )


def compact(steps: int = 5_000) -> Recipe:
    """Returns the recipe of the compact weights: composites of photographs, and short real clips.

    Figures of the runs so far: benchmarks/results/training.md.
    """
    return Recipe(
        name="compact",
        steps=steps,
        batch=6,
        sets=(("composites", 1),),
        phases=(Phase(0.3, 256), Phase(0.8, 320), Phase(1.0, 384)),
        gap=GapCurriculum(start=10, step=0),
        optimizer="adamw",
        learning_rate=2e-4,
        weight_decay=1e-4,
        schedule=Cosine(warm_up=_warm_up(60, steps / 5_000)),
        key_encoder_rate=0.35,
        value_encoder_rate=0.7,
        frozen=("key_encoder.conv1", "key_encoder.layer1"),
        clip_norm=2.0,
        bootstrap=Bootstrap(round(steps * 0.15), round(steps * 0.55), hardest=0.2),
        dice=0.5,
        ema=0.998,
    )


def _warm_up(most: int, length: float) -> int:
    """The steps of a warm-up in a run of `length` times the usual length, so that a short one reaches its full rate."""
    return min(most, max(1, round(most * length)))


def real_video(steps: int = 1_000_000) -> Recipe:
    """Returns the recipe that continues on real video from weights trained on photographs: an open-ended trunk.

    The learning rate is constant; `decayed` turns a state of the trunk into usable weights, and the trunk continues
    from that state without the decay. More than half of the clips are real video, most of them with objects pasted in.
    Figures: benchmarks/results/training.md.
    """
    return Recipe(
        name="real-video",
        steps=steps,
        batch=4,
        mixture=RealVideoMixture(),
        phases=(Phase(1.0, 320, (3, 3, 3, 4, 5, 6)),),
        max_objects=3,
        gap=GapCurriculum(start=25, step=0),
        optimizer="adamw",
        learning_rate=1.5e-4,
        weight_decay=1e-4,
        schedule=WarmUpStable(),
        key_encoder_rate=0.35,
        value_encoder_rate=0.7,
        frozen=("key_encoder.conv1", "key_encoder.layer1"),
        clip_norm=2.0,
        bootstrap=Bootstrap(0, 1, hardest=0.25),
        dice=0.5,
        ema=0.998,
        memory=MemoryInUse(keep=0.5, latest=0.5, own=0.9, bounded=0.15, kmn_sigma=0.2),
    )


def decayed(trunk: Recipe, steps: int) -> Recipe:
    """Returns a short run that branches off a trunk with a falling learning rate; 20 to 25 % of the trunk's steps.

    It sees different clips than the trunk, more of them with a budget in the loop and with the kernel. The clips are
    closer to unmodified video: frames are hardly rotated individually, zoom is rarer, and in the second half successive
    frames are at most 10 apart (the thesis also returns to small gaps at the end).
    """
    return replace(
        trunk,
        name=f"{trunk.name}-decay",
        steps=steps,
        schedule=RootDecay(),
        ema=None if trunk.ema is None else 0.995,
        mixture=trunk.mixture and replace(trunk.mixture, zoom=min(trunk.mixture.zoom, 2.0), zoomed=0.3, jitter=3.0),
        gap=GapCurriculum(10, 15, (0.0,), 0.5) if trunk.mixture else trunk.gap,
        memory=replace(trunk.memory, bounded=min(1.0, 3 * trunk.memory.bounded), kernelled=0.85),
        seed=trunk.seed + 1,
    )


def _with_mixture(**changes: Any) -> Callable[[Recipe], Recipe]:
    """Returns a function that changes a recipe's mixture."""

    def changed(recipe: Recipe) -> Recipe:
        return replace(recipe, mixture=recipe.mixture and replace(recipe.mixture, **changes))

    return changed


def _with_full_memory(recipe: Recipe) -> Recipe:
    return replace(recipe, memory=replace(recipe.memory, keep=1.0, latest=1.0, bounded=0.0))


def _without_kernel(recipe: Recipe) -> Recipe:
    return replace(recipe, memory=replace(recipe.memory, kmn_sigma=0.0))


def _with_short_clips(recipe: Recipe) -> Recipe:
    return replace(recipe, phases=tuple(replace(phase, num_frames=3) for phase in recipe.phases))


INGREDIENTS: dict[str, Callable[[Recipe], Recipe]] = {
    "real": _with_mixture(real=0.0),
    "zoom": _with_mixture(zoom=1.0),
    "pasted": _with_mixture(pasted=0.0),
    "turning": _with_mixture(turned=0.0),
    "limbs": _with_mixture(limbs=0.0),
    "screens": _with_mixture(screens=0.0),
    "new-looks": _with_mixture(new_looks=0.0),
    "memory": _with_full_memory,
    "kmn-sigma": _without_kernel,
    "length": _with_short_clips,
}
"""How each ingredient of the `real_video` recipe is switched off, by its name."""


def customized(
    recipe: Recipe, clip_frames: int | None = None, capacity: float | None = None, **changes: object
) -> Recipe:
    """Returns a recipe with changed hyper-parameters; None leaves a value unchanged.

    Args:
        recipe: recipe to change.
        clip_frames: number of frames in a clip, in all phases.
        capacity: budget in frames that a clip's memory always has, see `MemoryInUse.within`.
        **changes: fields of the recipe.

    Raises:
        InputError: a value is out of range, or the longest clips never need more than the capacity.
    """
    if capacity is not None:
        changes["memory"] = recipe.memory.within(capacity)
    if clip_frames is not None:
        changes["phases"] = tuple(replace(phase, num_frames=clip_frames) for phase in recipe.phases)
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    changed = replace(recipe, **given)
    if capacity is not None:
        _refuse_unneeded(capacity, max(length for phase in changed.phases for length in phase.lengths))
    return changed


def _refuse_unneeded(capacity: float, num_frames: int) -> None:
    """Raises InputError if a memory of `capacity` frames never evicts anything of a clip of `num_frames` frames."""
    written = num_frames - 1
    if capacity >= written:
        longer = f"give clips of {floor(capacity) + 2} frames or more (--clip-frames)"
        raise InputError(
            f"a capacity of {capacity:g} frames never evicts anything from clips of {num_frames} frames, whose last "
            "one is not written",
            f"{longer}, or a capacity below {written} (--capacity)" if written > 1 else longer,
        )


def without(recipe: Recipe, ingredient: str) -> Recipe:
    """Returns the `real_video` recipe with one of `INGREDIENTS` switched off, to measure its effect.

    The shares of the other clips grow in proportion. Without "memory", every frame reads all earlier ones.

    Raises:
        InputError: the recipe has no such ingredient.
    """
    if recipe.mixture is None or ingredient not in INGREDIENTS:
        raise InputError(
            f"recipe {recipe.name} has no ingredient {ingredient!r} to leave out",
            f"use real-video, which has {', '.join(INGREDIENTS)}",
        )
    return INGREDIENTS[ingredient](recipe)


def finetune(steps: int = 400) -> Recipe:
    """Returns a short, gentle run on your own frames and masks, from weights that are already good."""
    return Recipe(
        name="finetune",
        steps=steps,
        batch=4,
        sets=(("frames", 1),),
        phases=(Phase(1.0, 320),),
        gap=GapCurriculum(start=10, step=0),
        optimizer="adamw",
        learning_rate=3e-5,
        weight_decay=1e-4,
        schedule=Cosine(warm_up=_warm_up(20, steps / 400)),
        frozen=("key_encoder",),
        clip_norm=2.0,
        bootstrap=Bootstrap(0, 1, hardest=0.3),
        dice=0.5,
        ema=0.99,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {
    "static": static,
    "main": main,
    "compact": compact,
    "real-video": real_video,
}
