"""Every hyper-parameter of every run: a recipe is a function of the number of steps, its docstring says what it gave.

`static` and `main` are the two stages of the thesis (3.4, 4.2), `compact` is what the weights in the package come
from, `finetune` adapts weights to one's own video. All that is counted in steps scales with the number of steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Literal

from mnemask.datasets.clips import ClipShape
from mnemask.errors import InputError
from mnemask.model.stcn import STRIDE
from mnemask.training.curriculum import Bootstrap, GapCurriculum
from mnemask.training.regularizers import Regularizer
from mnemask.training.schedule import Cosine, Schedule, StepDecay


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run: until this share of its steps, crops of so many pixels a side in clips of so many frames."""

    until: float
    size: int
    num_frames: int = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of a run; with a seed and the data they determine its result.

    Attributes:
        name: what the command line calls it.
        steps: updates of the weights.
        batch: clips in a step, all processes and accumulated parts together.
        sets: the training sets it is meant for, each with its repetitions; others may be given.
        phases: in order, the last one until 1.
        max_objects: objects followed in a clip.
        gap: largest distance in frames between two frames of a real video.
        optimizer: Adam adds the weight decay to the gradient, AdamW takes it from the weight.
        learning_rate: before the schedule's factor.
        key_encoder_rate, value_encoder_rate: factor on it for the two encoders' ResNets.
        frozen: parameters whose names begin so are not trained.
        clip_norm: largest norm of the gradient; None for any.
        bootstrap: share of the pixels that the loss counts.
        dice: weight of the soft dice term beside the cross-entropy.
        ema: decay of the moving average of the weights, which is what a run leaves; None leaves the last weights.
        regularizer: of the affinity (thesis chapter 4), in training only.
        capacity: frames' worth of tokens that a clip's memory holds, evicted as in tracking; None keeps all.
        pin: whether the annotated frame is never evicted (`least-used`) or may be (`thesis`).
        seed: of the clips and the order they come in.
    """

    name: str
    steps: int
    batch: int
    sets: tuple[tuple[str, int], ...]
    phases: tuple[Phase, ...] = (Phase(1.0, 384),)
    max_objects: int = 2
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
    regularizer: Regularizer | None = None
    capacity: float | None = None
    pin: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"a run of {self.steps} steps of {self.batch} clips; expected at least one of each")
        if not self.phases or self.phases[-1].until != 1:
            raise InputError(f"phases {self.phases} do not last until 1; the last one must")
        if wrong := [phase.size for phase in self.phases if phase.size % STRIDE]:
            raise InputError(f"crops of {wrong[0]} pixels do not suit the network; give a multiple of {STRIDE}")
        if not 0 < self.learning_rate < inf:
            raise InputError(f"a learning rate of {self.learning_rate} cannot train; give a positive one such as 1e-5")
        if self.capacity is not None and not 1 <= self.capacity < inf:
            raise InputError(f"a memory of {self.capacity} frames cannot train; give a capacity of 1 or more")

    def shape(self, step: int, num_objects: int) -> ClipShape:
        """Returns what clips of a step are like, with up to `num_objects` objects."""
        progress = step / self.steps
        phase = next(phase for phase in self.phases if progress < phase.until)
        return ClipShape(phase.size, phase.num_frames, num_objects, self.gap.max_gap(progress))


def static(steps: int = 300_000) -> Recipe:
    """Returns stage 1 of the thesis: three augmented samples of one photograph with one object.

    Shorter side 384, crop 384, batch 16, Adam 1e-5, a tenth from the middle on. Not run by this project at full length.
    """
    return Recipe(
        name="static",
        steps=steps,
        batch=16,
        sets=(("BIG", 5), ("HRSOD", 5), ("DUTS-TR", 1), ("FSS-1000", 1), ("ECSSD", 1)),
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
        bootstrap=Bootstrap(round(steps * 20 / 150), round(steps * 70 / 150)),
    )


def compact(steps: int = 5_000) -> Recipe:
    """Returns what the compact weights come from: composites of photographs, and short real clips.

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


def finetune(steps: int = 400) -> Recipe:
    """Returns a short, gentle run on one's own frames and masks, from weights that are already good."""
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


RECIPES: dict[str, Callable[..., Recipe]] = {"static": static, "main": main, "compact": compact}
