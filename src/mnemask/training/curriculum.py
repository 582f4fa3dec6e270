"""What grows harder over a run: the time between frames, and the share of pixels that the loss counts."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from mnemask.errors import InputError


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
            raise InputError(f"gaps from {self.start} by steps of {self.step}; expected at least 1, and no step back")
        points = (0.0, *self.raise_at, self.back_at, 1.0)
        if any(not before <= after for before, after in pairwise(points)):
            raise InputError(
                f"gaps that rise at {self.raise_at} and fall at {self.back_at} of a run; expected rising shares of it, "
                "from 0 to 1"
            )

    def max_gap(self, progress: int | float) -> int:
        """Returns the largest gap in frames at a progress from 0 to 1."""
        if progress >= self.back_at:
            return self.start
        return self.start + self.step * bisect_right(self.raise_at, progress)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Which share of the pixels, the hardest ones, the loss counts (thesis 4.2.3; the defaults are its values).

    Attributes:
        start: steps during which all pixels count.
        end: step from which on only the share `hardest` counts; between the two the share falls linearly.
        hardest: above 0, at most 1.

    Raises:
        InputError: there is no such schedule.
    """

    start: int = 20_000
    end: int = 70_000
    hardest: float = 0.15

    def __post_init__(self) -> None:
        if not (0 <= self.start <= self.end and 0 < self.hardest <= 1):
            raise InputError(
                f"the hardest {self.hardest} of the pixels, from step {self.start} to {self.end}; expected a share "
                "above 0 and at most 1, and steps in order from 0"
            )

    def fraction(self, step: int) -> float:
        """Returns the share of pixels that counts at a step, counted from 0."""
        if step <= self.start:
            return 1.0
        if step >= self.end:
            return self.hardest
        return 1 - (1 - self.hardest) * (step - self.start) / (self.end - self.start)
