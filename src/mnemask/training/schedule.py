"""How the learning rate changes over a run."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepDecay:
    """The rate falls once, by `factor`, when `at` of the steps are done (thesis 3.4: a tenth in the middle)."""

    at: float = 0.5
    factor: float = 0.1

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return self.factor if step >= self.at * steps else 1.0


@dataclass(frozen=True, slots=True)
class Cosine:
    """The rate rises linearly over `warm_up` steps, then falls along a half cosine to `final`."""

    warm_up: int = 60
    final: float = 0.02

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        falling = self.final + (1 - self.final) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        return min(1.0, (step + 1) / max(self.warm_up, 1)) * falling


@dataclass(frozen=True, slots=True)
class WarmUpStable:
    """The rate rises linearly over `warm_up` steps and stays: a trunk, from which decays branch off at any time.

    Warm-up, stable, decay: Hu et al., "MiniCPM", 2024; Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations", NeurIPS 2024.
    """

    warm_up: int = 30

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return min(1.0, (step + 1) / max(self.warm_up, 1))


@dataclass(frozen=True, slots=True)
class LinearDecay:
    """The rate falls linearly to `final`: what makes weights to use of a trunk's."""

    final: float = 0.02

    def rate(self, step: int, steps: int) -> float:
        """Returns the factor on the learning rate at a step, counted from 0."""
        return max(self.final, 1 - step / steps)


Schedule = StepDecay | Cosine | WarmUpStable | LinearDecay
