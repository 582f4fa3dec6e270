"""What the memory of a step's clips holds: all earlier frames, some of them, or what a policy keeps in a budget."""

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from mnemask.errors import InputError
from mnemask.memory.policies import LFU, Diverse, Policy
from mnemask.memory.read import check_kmn_sigma


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of the clips of one step.

    Attributes:
        reads: for each frame after the first, the earlier ones that it reads, rising; None for all of them.
        capacity: frames' worth of tokens that are remembered, at least 1; None for all. As in a tracker that writes
            every frame, the policy evicts what a write has no room for. The choice is not differentiable, the rest is.
        policy: chooses what goes.
        kmn_sigma: σ within which a memory is read around the query that it fits best, as a share of the frame's shorter
            side; 0 lets it be read anywhere.

    Raises:
        InputError: frames that are read come from a budget too, or there is no such kernel.
    """

    reads: tuple[tuple[int, ...], ...] | None = None
    capacity: float | None = None
    policy: Policy = LFU()
    kmn_sigma: float = 0.0

    def __post_init__(self) -> None:
        check_kmn_sigma(self.kmn_sigma)
        if self.reads is not None and self.capacity is not None:
            raise InputError(
                f"frames {self.reads} to read, out of {self.capacity} frames' worth", "give one of the two"
            )

    def read_by(self, frame: int) -> tuple[int, ...]:
        """Returns the frames that a frame, from 1, reads."""
        return tuple(range(frame)) if self.reads is None else self.reads[frame - 1]

    def is_read(self, frame: int, num_frames: int) -> bool:
        """Returns whether a later frame of a clip reads this one."""
        return any(frame in self.read_by(later) for later in range(frame + 1, num_frames))


@dataclass(frozen=True, slots=True)
class MemoryInUse:
    """How a step's memory plan is drawn. The defaults are the thesis's: every frame reads all earlier ones.

    A tracker writes each fifth frame, forgets, and at times has just seen the frame before; a network that always has
    the frame before in memory learns to lean on it.

    Attributes:
        keep: how likely a frame between the first one and the one just before is read.
        latest: in which part of the steps the frame just before is read.
        bounded: in which part of the steps a policy decides instead, with a budget.
        capacities: the budgets, in frames' worth of tokens, each as likely as another.
        policies: likewise.
        kmn_sigma: σ of the read, as a share of the shorter side; 0 for none.
        kernelled: in which part of the steps there is one.

    Raises:
        InputError: a part is no part, or there is no such budget or kernel.
    """

    keep: float = 1.0
    latest: float = 1.0
    bounded: float = 0.0
    capacities: tuple[float, ...] = (1.5, 2.0, 3.0)
    policies: tuple[Policy, ...] = (LFU(pin=False), LFU(), Diverse())
    kmn_sigma: float = 0.0
    kernelled: float = 0.5

    def __post_init__(self) -> None:
        check_kmn_sigma(self.kmn_sigma)
        parts = self.keep, self.latest, self.bounded, self.kernelled
        if not all(0 <= part <= 1 for part in parts):
            raise InputError(f"a memory with the parts {parts}", "expected each from 0 to 1")
        if wrong := [each for each in self.capacities if not 1 <= each < inf]:
            raise InputError(f"a memory of {wrong[0]} frames cannot train", "give a capacity of 1 or more")
        if self.bounded and not (self.capacities and self.policies):
            raise InputError("a bounded memory without capacities or policies", "give at least one of each")

    def within(self, capacity: float) -> "MemoryInUse":
        """Returns the memory that always has this budget, the annotated frame pinned."""
        return replace(self, bounded=1.0, capacities=(capacity,), policies=(LFU(),))

    def plan(self, rng: np.random.Generator, num_frames: int) -> MemoryPlan:
        """Returns a random plan for clips of `num_frames` frames."""
        kmn_sigma = self.kmn_sigma if rng.random() < self.kernelled else 0.0
        if rng.random() < self.bounded:
            capacity = self.capacities[int(rng.integers(len(self.capacities)))]
            policy = self.policies[int(rng.integers(len(self.policies)))]
            return MemoryPlan(None, capacity, policy, kmn_sigma)
        latest = rng.random() < self.latest
        between = rng.random((num_frames, num_frames)) < self.keep
        reads = tuple(
            (0, *(t for t in range(1, frame) if (latest if t == frame - 1 else between[frame, t])))
            for frame in range(1, num_frames)
        )
        return MemoryPlan(reads, kmn_sigma=kmn_sigma)
