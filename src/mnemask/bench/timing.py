"""Times of several actions on a machine that does other things too: in turns, with their spread."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that an action took.

    Attributes:
        median: of all rounds.
        low: the first quartile.
        high: the third quartile.
        best: the shortest.
        rounds: how often it was timed.
    """

    median: float
    low: float
    high: float
    best: float
    rounds: int

    def per(self, count: int) -> "Timing":
        """Returns the times of one of so many equal parts of the action."""
        return Timing(self.median / count, self.low / count, self.high / count, self.best / count, self.rounds)

    @property
    def milliseconds(self) -> str:
        """The median and the quartiles as people read them, "12.3 (12.1–13.0)"."""
        median, low, high = (
            f"{1000 * value:.{0 if self.median >= 1 else 1}f}" for value in (self.median, self.low, self.high)
        )
        return f"{median} ({low}–{high})"


def interleaved(actions: Mapping[Name, Callable[[], object]], rounds: int, device: torch.device) -> dict[Name, Timing]:
    """Returns the times of each action, by its name.

    Each round does each action once, so that what else the machine does meets all of them alike; a round before the
    first is not counted.

    Args:
        actions: what to time.
        rounds: 1 or more.
        device: whose queue must be empty before and after.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            wait_for(device)
            begin = time.perf_counter()
            action()
            wait_for(device)
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: timing_of(values) for name, values in seconds.items()}


def timing_of(seconds: list[float]) -> Timing:
    """Returns what is told of a list of times."""
    low, median, high = (float(value) for value in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return Timing(median, low, high, min(seconds), len(seconds))


def wait_for(device: torch.device) -> None:
    """Returns when the device has done all that it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
