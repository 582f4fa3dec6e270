"""Progress, the report of a run, and the memory it may take.

How far a run has come, and the file that says so.

How much memory a run may take, known before any of it is allocated.
"""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from mnemask.errors import BudgetError
from mnemask.io.atomic import write_file
from mnemask.memory.bank import MemoryStats
from mnemask.memory.read import UNLIMITED
from mnemask.memory.tokens import CellGrid
from mnemask.model.preprocess import working_size
from mnemask.model.stcn import STCN
from mnemask.tracker import Tracker
from mnemask.types import describe
from mnemask.version import __version__

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """How far a run has come; `report.json` is made of it.

    Attributes:
        frames: written so far, before it was resumed too.
        seconds: that this took.
        memory: numbers about the memory bank after the last frame.
        most_tokens: the most that were ever remembered.
        most_bytes: the most bytes that the bank took.
        complete: whether the video ended by itself.
        stopped_by: what ended it otherwise.
        resumed_at: the frames, counted from 0, at which it went on after it had been cut off.
        settings: what the report says of how it was made.
        computed_on: what it was computed on from which frame on, see `computed_on`; one entry unless that changed.
        video: what the report says happened to the video: frames dropped, damaged, held.
        source: what the report says of the video itself: levels, pixels that are not square, files left out.
    """

    frames: int = 0
    seconds: float = 0.0
    memory: MemoryStats | None = None
    most_tokens: int = 0
    most_bytes: int = 0
    complete: bool = False
    stopped_by: str = ""
    resumed_at: list[int] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    computed_on: list[dict[str, Any]] = field(default_factory=list)
    video: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames_per_second(self) -> float:
        """Frames written per second, decoding and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def add(self, memory: MemoryStats) -> None:
        """Counts a frame."""
        self.frames += 1
        self.memory = memory
        self.most_tokens = max(self.most_tokens, memory.tokens)
        self.most_bytes = max(self.most_bytes, memory.bank_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is written to report.json."""
        return {
            "mnemask": __version__,
            "complete": self.complete,
            "stopped_by": self.stopped_by or None,
            "resumed_at": self.resumed_at,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "frames_per_second": round(self.frames_per_second, 3),
            "peak_memory_bytes": peak_memory_bytes(),
            "most_tokens_held": self.most_tokens,
            "most_bank_bytes_held": self.most_bytes,
            "memory": None if self.memory is None else asdict(self.memory),
            "video": dict(self.video),
            "source": dict(self.source),
            "settings": dict(self.settings),
            "computed_on": self.computed_on,
        }

    def saved(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of it."""
        kept = ("frames", "seconds", "most_tokens", "most_bytes", "resumed_at", "computed_on", "video")
        return {name: getattr(self, name) for name in kept}


def computed_on(tracker: Tracker, since: int, before: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Returns what the last bits of masks depend on besides the input, by the frames from which on it was so.

    Args:
        tracker: that goes on.
        since: the frame at which it does.
        before: what was computed on until then. Where it is another machine or precision now, that is said aloud too.
    """
    now = {
        "device": str(tracker.model.device),
        "precision": tracker.precisions[-1],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "memory_from": list(tracker.precisions[:-1]),
    }
    so_far = [dict(each) for each in before]
    changed = [name for name in now if so_far and name != "memory_from" and so_far[-1].get(name) != now[name]]
    if changed:
        then = ", ".join(f"{name} {so_far[-1].get(name)!r} before and {now[name]!r} now" for name in changed)
        logger.warning("masks may differ a little from frame %d on: %s", since, then)
    return so_far if so_far and not changed else [*so_far, {"from_frame": since, **now}]


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    write_file(path, json.dumps(report, indent=2) + "\n")


def peak_memory_bytes() -> int | None:
    """Returns the most memory that this process ever had resident; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# While a policy chooses: what is held, that with the new frame, what is kept, and what a checkpoint holds on to.
_GENERATIONS = 4
# Read ahead, or waiting to be written, and the one that is being worked on.
_QUEUED = 5
# Numbers alive at once per pixel that the network sees, whatever the objects and for each of them; measured for both
# networks, with room for what the convolutions allocate inside.
_ONCE, _PER_OBJECT = 80, 110


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The most bytes that a run takes, part by part.

    Attributes:
        size: height and width of the frames.
        num_objects: tracked at once.
        process: what Python, torch and the weights took when it was asked, at most.
        bank: what is remembered, with the copies that there are while it changes.
        reading: affinities, the memories chosen, and what was read.
        network: estimate of the activations.
        queues: frames read ahead, and masks that wait to be written.
    """

    size: tuple[int, int]
    num_objects: int
    process: int
    bank: int
    reading: int
    network: int
    queues: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.process + self.bank + self.reading + self.network + self.queues

    def keep_within(self, max_bytes: int) -> None:
        """Raises BudgetError, saying what takes how much and what to do about it, if it is more than this."""
        if self.total > max_bytes:
            parts = ", ".join(f"{name} {_mib(getattr(self, name))}" for name in self.__slots__[2:])
            raise BudgetError(
                f"{self.num_objects} objects in frames of {describe(self.size)} may take {_mib(self.total)} ("
                f"{parts}), more than the {_mib(max_bytes)} allowed by --max-memory",
                "process smaller frames (--size), remember less (--budget, --frames), track fewer objects, or "
                "allow more",
            )


def estimate_memory(
    tracker: Tracker, size: tuple[int, int], num_objects: int, *, num_writers: int = 1
) -> MemoryEstimate:
    """Returns how much memory it may take to follow so many objects through frames of this size.

    Raises:
        BudgetError: if the memory bank has no limit.
    """
    memory, model = tracker.memory, tracker.model
    grid = CellGrid(size, tracker.short_side)
    value_channels, value_bytes = model.config.value_channels, model.dtype.itemsize
    token = memory.bytes_per_token(num_objects, model.config.key_channels, value_channels, value_bytes)
    capacity = memory.budget.capacity(grid.num_cells, token, memory.config.top_k, model.device)
    if capacity == UNLIMITED:
        raise BudgetError(
            f"a limit on memory cannot be kept with {type(tracker.policy).__name__} and no budget, which remembers "
            "ever more",
            "give one (--frames or --budget)",
        )
    pixels = size[0] * size[1]
    queued = _QUEUED * pixels * (3 + num_writers * (3 + 4 + 4 * (num_objects + 1)))
    read = 2 * num_objects * grid.num_cells * value_channels * value_bytes
    return MemoryEstimate(
        size=size,
        num_objects=num_objects,
        process=peak_memory_bytes() or 0,
        bank=_GENERATIONS * capacity * token,
        reading=memory.read_buffer_bytes(model.device, grid.num_cells) + read,
        network=network_bytes(model, working_size(size, tracker.short_side), num_objects) + 4 * 6 * pixels,
        queues=queued,
    )


def network_bytes(model: STCN, size: tuple[int, int], num_objects: int) -> int:
    """Returns an estimate of the most bytes of activations, for frames as the network sees them.

    Args:
        model: whose widths and precision count.
        size: height and width, not yet padded.
        num_objects: whose masks are encoded and decoded together.
    """
    height, width = (-(-side // 16) * 16 for side in size)
    return height * width * (_ONCE + _PER_OBJECT * num_objects) * max(model.dtype.itemsize, 4)


def _mib(num_bytes: int) -> str:
    return f"{-(-num_bytes // 2**20)} MiB"
