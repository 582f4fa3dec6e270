"""The ceilings of this machine, and interleaved timings of several actions with their spread.

Ceilings are the highest rates that torch reaches in matrix products, convolutions and copies.
"""

import platform
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from mnemask.version import __version__

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of an action, in seconds.

    Attributes:
        median: the median over all rounds.
        low: the first quartile.
        high: the third quartile.
        best: the shortest time.
        rounds: the number of rounds.
    """

    median: float
    low: float
    high: float
    best: float
    rounds: int

    def per(self, count: int) -> "Timing":
        """Returns the times divided by `count`, the number of equal parts of the action."""
        return Timing(self.median / count, self.low / count, self.high / count, self.best / count, self.rounds)

    @property
    def milliseconds(self) -> str:
        """The median and the quartiles in milliseconds, such as "12.3 (12.1–13.0)"."""
        median, low, high = (
            f"{1000 * value:.{0 if self.median >= 1 else 1}f}" for value in (self.median, self.low, self.high)
        )
        return f"{median} ({low}–{high})"


def interleaved(actions: Mapping[Name, Callable[[], object]], rounds: int, device: torch.device) -> dict[Name, Timing]:
    """Returns the times of each action, by its name.

    Each round runs each action once, so that other load on the machine affects all of them alike. A warm-up round is
    not counted.

    Args:
        actions: the actions to time.
        rounds: the number of rounds, 1 or more.
        device: the device that is synchronised before and after each action.
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
    """Returns the summary of a list of times."""
    low, median, high = (float(value) for value in np.quantile(seconds, (0.25, 0.5, 0.75)))
    return Timing(median, low, high, min(seconds), len(seconds))


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


MATRIX = 1536  # rows and columns
CHANNELS, MAP = 256, (60, 108)  # as in the decoder at 480p
COPIED = 64 * 2**20  # bytes, more than any cache holds


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The highest rate that a computation reached.

    Attributes:
        kind: the computation.
        dtype: its precision.
        threads: the number of threads.
        per_second: floating-point operations, or bytes read and written, per second.
    """

    kind: Literal["matmul", "conv 3x3", "copy"]
    dtype: str
    threads: int
    per_second: float


@torch.no_grad()
def ceilings(
    device: torch.device, dtypes: Sequence[torch.dtype], threads: Sequence[int], rounds: int
) -> tuple[Ceiling, ...]:
    """Returns the rate in the fastest round of each computation, for each precision and number of threads."""
    found = []
    for dtype in dict.fromkeys(dtypes):
        work = computations(device, dtype)
        for count in dict.fromkeys(threads):
            with num_threads(count):
                times = interleaved({kind: action for kind, (action, _) in work.items()}, rounds, device)
            found += [
                Ceiling(kind, str(dtype).removeprefix("torch."), count, amount / times[kind].best)
                for kind, (_, amount) in work.items()
            ]
    return tuple(found)


def computations(
    device: torch.device, dtype: torch.dtype
) -> dict[Literal["matmul", "conv 3x3", "copy"], tuple[Callable[[], object], float]]:
    """Returns each computation, with the number of its operations or bytes."""
    left, right = (torch.randn(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    image = torch.randn(1, CHANNELS, *MAP, device=device).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return {
        "matmul": (lambda: left @ right, 2.0 * MATRIX**3),
        "conv 3x3": (lambda: F.conv2d(image, weight, padding=1), 2.0 * 9 * CHANNELS**2 * MAP[0] * MAP[1]),
        "copy": (lambda: target.copy_(source), 2.0 * COPIED),
    }


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Makes torch use this many threads while the context is active."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Returns the facts about the machine on which the times depend."""
    facts: dict[str, str | int] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "mnemask": __version__,
        "processor": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(device),
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def heading(device: torch.device) -> str:
    """Returns the caption of a table of times: machine, versions and date in one line."""
    facts = describe_machine(device)
    where = f"{facts['processor']}, {facts['capability']}, {facts['threads']} threads"
    where += "" if device.type == "cpu" else f", {facts['device']}"
    return f"{where}; torch {facts['torch']}, mnemask {facts['mnemask']}; {facts['date']}."


def processor_name() -> str:
    """Returns the name that the processor reports."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
