"""How much memory a run may take, known before any of it is allocated."""

from dataclasses import dataclass

from mnemask.errors import BudgetError
from mnemask.memory.budget import UNLIMITED, read_buffer_bytes
from mnemask.memory.cells import CellGrid
from mnemask.model.geometry import working_size
from mnemask.model.stcn import STCN
from mnemask.segment.report import peak_memory_bytes
from mnemask.tracker import Tracker
from mnemask.types import describe

# While a policy chooses: what is held, that with the new frame, what is kept, and what a checkpoint holds on to.
_GENERATIONS = 4
# Read ahead, or waiting to be written, and the one that is being worked on.
_QUEUED = 5
# Numbers alive at once per pixel that the network sees, whatever the objects and for each of them; measured for both
# networks, with room for what the convolutions allocate inside.
_ONCE, _PER_OBJECT = 80, 110


@dataclass(frozen=True, slots=True)
class MemoryPromise:
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
                f"{self.num_objects} objects in frames of {describe(self.size)} may take {_mib(self.total)} ({parts}), "
                f"more than the {_mib(max_bytes)} allowed by --max-memory; process smaller frames (--size), remember "
                "less (--budget, --frames), track fewer objects, or allow more"
            )


def promise(tracker: Tracker, size: tuple[int, int], num_objects: int, *, num_writers: int = 1) -> MemoryPromise:
    """Returns how much memory it may take to follow so many objects through frames of this size.

    Raises:
        BudgetError: if the memory bank has no limit.
    """
    memory, model = tracker.memory, tracker.model
    grid = CellGrid(size, tracker.short_side)
    value_channels, value_bytes = model.config.value_channels, model.dtype.itemsize
    token = memory.bytes_per_token(num_objects, model.config.key_channels, value_channels, value_bytes)
    capacity = memory.budget.capacity(grid.num_cells, token, memory.top_k)
    if capacity == UNLIMITED:
        raise BudgetError(
            f"a limit on memory cannot be kept with {type(tracker.policy).__name__} and no budget, which remembers "
            "ever more; give one (--frames or --budget)"
        )
    pixels = size[0] * size[1]
    queued = _QUEUED * pixels * (3 + num_writers * (3 + 4 + 4 * (num_objects + 1)))
    read = 2 * num_objects * grid.num_cells * value_channels * value_bytes
    return MemoryPromise(
        size=size,
        num_objects=num_objects,
        process=peak_memory_bytes() or 0,
        bank=_GENERATIONS * capacity * token,
        reading=read_buffer_bytes(grid.num_cells, memory.top_k) + read,
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
