"""Every hyper-parameter of every run: a recipe is a function of the number of steps, its docstring states the result.

`static` and `main` are the two stages of the thesis (3.4, 4.2), `compact` is what the weights in the package come
from, `real_video` continues from them, `finetune` adapts weights to your own video. Everything counted in steps
scales with the number of steps: gaps between frames, the fraction of pixels in the loss, the learning rate.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
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
    """How far apart neighbouring frames of a training clip may be (thesis 4.2.2; the defaults are its values).

    Attributes:
        start: frames at first, at least 1.
        step: frames more at each of `raise_at`.
        raise_at: progress, from 0 to 1 and rising, from which on a clip may be longer.
        back_at: progress from which on it is as at first.

    Raises:
        InputError: there is no such curriculum.
    """

    start: int = 5
    step: int = 5
    raise_at: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    back_at: float = 0.9

    def __post_init__(self) -> None:
        if self.start < 1 or self.step < 0:
            raise InputError(f"gaps from {self.start} by steps of {self.step}", "expected at least 1, and no step back")
        points = (0.0, *self.raise_at, self.back_at, 1.0)
        if any(not before <= after for before, after in pairwise(points)):
            raise InputError(
                f"gaps that rise at {self.raise_at} and fall at {self.back_at} of a run",
                "expected rising shares of it, from 0 to 1",
            )

    def max_gap(self, progress: int | float) -> int:
        """Returns the largest gap in frames at a progress from 0 to 1."""
        if progress >= self.back_at:
            return self.start
        return self.start + self.step * bisect_right(self.raise_at, progress)


# Seeds of different draws must differ in their first number; those of the clips themselves are the loader's.
LENGTHS, PLANS = 3, 4


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run: until this fraction of its steps, clips have this crop size and this number of frames.

    Several numbers of frames take turns at random, each as likely as another.
    """

    until: float
    size: int
    num_frames: int | tuple[int, ...] = 3

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of frames."""
        return (self.num_frames,) if isinstance(self.num_frames, int) else self.num_frames


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of a run; with a seed and the data they determine its result.

    Attributes:
        name: what the command line calls it.
        steps: updates of the weights.
        batch: clips in a step, all processes and accumulated parts together.
        sets: the training sets it is meant for, each with its repetitions; others may be given.
        mixture: where it is meant for one folder of many sets instead, the shares of all kinds of clips.
        phases: in order, the last one until 1.
        max_objects: objects followed in a clip, if it has as many.
        min_objects: how many clips of a step follow at least, if they have as many; a number from this one to
            `max_objects` is drawn with each step.
        gap: largest distance in frames between two frames of a real video.
        optimizer: Adam adds the weight decay to the gradient, AdamW takes it from the weight.
        learning_rate: before the schedule's factor.
        key_encoder_rate, value_encoder_rate: factor on it for the two encoders' ResNets.
        frozen: prefixes of the names of parameters that are not trained.
        clip_norm: largest norm of the gradient; None for any.
        bootstrap: share of the pixels that the loss counts.
        dice: weight of the soft dice term beside the cross-entropy.
        ema: decay of the moving average of the weights, which is what a run leaves; None leaves the last weights.
        regularizer: of the affinity (thesis chapter 4), in training only.
        loss: in place of bootstrapped cross-entropy and dice.
        memory: which earlier frames a frame reads, and how.
        seed: of the clips and the order they come in.
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
            raise InputError(f"a run of {self.steps} steps of {self.batch} clips", "expected at least one of each")
        if not 1 <= self.min_objects <= self.max_objects:
            raise InputError(
                f"clips of {self.min_objects} to {self.max_objects} objects", "expected 1 or more, in this order"
            )
        if not self.phases or self.phases[-1].until != 1:
            raise InputError(f"phases {self.phases} do not last until 1", "the last one must")
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

    Shorter side 384, crop 384, batch 16, Adam 1e-5, a tenth from the middle on. Not run by this project at full length.
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
    """Returns stage 2 of the thesis: three frames of a video, two objects, gaps that widen, batch 8.

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
        schedule=Cosine(),
        key_encoder_rate=0.35,
        value_encoder_rate=0.7,
        frozen=("key_encoder.conv1", "key_encoder.layer1"),
        clip_norm=2.0,
        bootstrap=Bootstrap(round(steps * 0.15), round(steps * 0.55), hardest=0.2),
        dice=0.5,
        ema=0.998,
    )


def real_video(steps: int = 1_000_000) -> Recipe:
    """Returns the recipe that goes on from weights of photographs with real video: a trunk without an end.

    The learning rate stays; `decayed` makes weights to use of what it has come to, and the trunk goes on from before
    that. More than half of the clips are real video, most of them with objects pasted in. Figures:
    benchmarks/results/training.md.
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
    """Returns a short run that branches off a trunk and lets its learning rate fall; 20 to 25 % of the trunk's steps.

    It sees other clips than the trunk, more of them with a budget in the loop and with the kernel, and comes to
    video as it is: frames are hardly turned on their own, zoom is rarer, and in the second half neighbours are at
    most 10 frames apart (the thesis too returns to small gaps at last).
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


INGREDIENTS = (
    "real",
    "zoom",
    "pasted",
    "turning",
    "limbs",
    "screens",
    "new-looks",
    "memory",
    "kmn-sigma",
    "length",
)


def customized(
    recipe: Recipe, clip_frames: int | None = None, capacity: float | None = None, **changes: object
) -> Recipe:
    """Returns a recipe with other hyper-parameters; what is None stays as it is.

    Args:
        recipe: any.
        clip_frames: frames in a clip, in all phases.
        capacity: frames that a clip's memory always holds, see `MemoryInUse.within`.
        **changes: fields of the recipe.
    """
    if capacity is not None:
        changes["memory"] = recipe.memory.within(capacity)
    if clip_frames is not None:
        changes["phases"] = tuple(replace(phase, num_frames=clip_frames) for phase in recipe.phases)
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, **given)


def without(recipe: Recipe, ingredient: str) -> Recipe:
    """Returns the `real_video` recipe with one of `INGREDIENTS` switched off, to measure what it brings.

    The shares of the other clips grow in proportion. "memory": every frame reads all earlier ones.

    Raises:
        InputError: the recipe has no such ingredient.
    """
    if recipe.mixture is None or ingredient not in INGREDIENTS:
        raise InputError(
            f"recipe {recipe.name} cannot do without {ingredient!r}",
            f"real-video can do without {', '.join(INGREDIENTS)}",
        )
    changes: dict[str, Recipe] = {
        "real": replace(recipe, mixture=replace(recipe.mixture, real=0.0)),
        "zoom": replace(recipe, mixture=replace(recipe.mixture, zoom=1.0)),
        "pasted": replace(recipe, mixture=replace(recipe.mixture, pasted=0.0)),
        "turning": replace(recipe, mixture=replace(recipe.mixture, turned=0.0)),
        "limbs": replace(recipe, mixture=replace(recipe.mixture, limbs=0.0)),
        "screens": replace(recipe, mixture=replace(recipe.mixture, screens=0.0)),
        "new-looks": replace(recipe, mixture=replace(recipe.mixture, new_looks=0.0)),
        "memory": replace(recipe, memory=replace(recipe.memory, keep=1.0, latest=1.0, bounded=0.0)),
        "kmn-sigma": replace(recipe, memory=replace(recipe.memory, kmn_sigma=0.0)),
        "length": replace(recipe, phases=tuple(replace(phase, num_frames=3) for phase in recipe.phases)),
    }
    return changes[ingredient]


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
        schedule=Cosine(warm_up=20),
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
