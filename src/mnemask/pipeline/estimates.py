"""Estimates of the memory and disk space that a run takes, made before its first frame."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemask.errors import BudgetError, OutputError
from mnemask.io.writer import MASK_FORMATS
from mnemask.memory.read import UNLIMITED
from mnemask.memory.tokens import CellGrid
from mnemask.model.preprocess import working_size
from mnemask.pipeline.outputs import peak_memory_bytes
from mnemask.tracker import Tracker
from mnemask.types import describe

# While a policy chooses: the old bank, that with the new frame, the tokens kept, and a copy held by a checkpoint.
_GENERATIONS = 4
# Frames read ahead or waiting to be written, and the current one.
_QUEUED = 5
# Numbers alive at once per pixel that the network sees, for the frame and for each object; measured for both networks,
# with room for what the convolutions allocate internally.
_ONCE, _PER_OBJECT = 80, 110
_BLOCK = 4096  # bytes, the least disk space that a file takes


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The most bytes that a run takes, part by part.

    Attributes:
        size: height and width of the frames.
        num_objects: number of objects tracked at once.
        process: peak memory of the process so far: Python, torch and the weights.
        bank: the stored tokens, with the copies that exist while the bank changes.
        reading: affinities, the tokens selected, and the readout.
        network: estimate of the activations.
        queues: frames read ahead, and masks waiting to be written.
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
        """The sum of all parts."""
        return self.process + self.bank + self.reading + self.network + self.queues

    def keep_within(self, max_bytes: int) -> None:
        """Raises BudgetError with the size of each part if the total exceeds `max_bytes`."""
        if self.total > max_bytes:
            parts = ", ".join(f"{name} {mib(getattr(self, name))}" for name in self.__slots__[2:])
            raise BudgetError(
                f"{self.num_objects} objects in frames of {describe(self.size)} may take {mib(self.total)} ("
                f"{parts}), more than the {mib(max_bytes)} allowed by --max-memory",
                "process smaller frames (--size), store fewer tokens (--budget, --frames), track fewer objects, or "
                "allow more",
            )


def estimate_memory(
    tracker: Tracker, size: tuple[int, int], num_objects: int, *, num_writers: int = 1
) -> MemoryEstimate:
    """Returns the memory that tracking `num_objects` objects through frames of `size` may take.

    Raises:
        BudgetError: if the memory bank has no limit.
    """
    pixels, views = size[0] * size[1], [_of_view(each, size, num_objects) for each in tracker.trackers]
    averaging = 4 * (num_objects + 1) * pixels * (len(views) - 1)
    return MemoryEstimate(
        size=size,
        num_objects=num_objects,
        process=peak_memory_bytes() or 0,
        bank=sum(bank for bank, _, _ in views),
        reading=max(reading for _, reading, _ in views),
        network=max(network for _, _, network in views) + 4 * 6 * pixels + averaging,
        queues=_QUEUED * pixels * (3 + num_writers * (3 + 4 + 4 * (num_objects + 1))),
    )


def _of_view(tracker: Tracker, size: tuple[int, int], num_objects: int) -> tuple[int, int, int]:
    """Returns the bytes of the bank, of a read and of the network of one view."""
    memory, model = tracker.memory, tracker.model
    num_cells, (capacity, token) = CellGrid(size, tracker.short_side).num_cells, _capacity(tracker, size, num_objects)
    if capacity == UNLIMITED:
        raise BudgetError(
            f"a memory limit cannot be kept with {type(tracker.policy).__name__} and no budget, as the bank grows "
            "without limit",
            "give a budget (--frames or --budget)",
        )
    read = 2 * num_objects * num_cells * model.config.value_channels * model.dtype.itemsize
    network = activation_bytes(working_size(size, tracker.short_side), num_objects)
    return _GENERATIONS * capacity * token, memory.read_buffer_bytes(model.device, num_cells) + read, network


def refuse_small_budget(tracker: Tracker, size: tuple[int, int], num_objects: int) -> None:
    """Raises BudgetError if the budget cannot hold a frame of `size` with so many objects."""
    for view in tracker.trackers:
        _capacity(view, size, num_objects)


def _capacity(tracker: Tracker, size: tuple[int, int], num_objects: int) -> tuple[int, int]:
    """Returns how many tokens the bank of one view may hold, and the bytes of one."""
    memory, model = tracker.memory, tracker.model
    channels = model.config.key_channels, model.config.value_channels
    token = memory.bytes_per_token(num_objects, *channels, model.dtype.itemsize)
    num_cells = CellGrid(size, tracker.short_side).num_cells
    return memory.budget.capacity(num_cells, token, memory.config.top_k, model.device), token


def activation_bytes(size: tuple[int, int], num_objects: int) -> int:
    """Returns an estimate of the peak bytes of activations, in float32 or smaller types, for either network.

    Args:
        size: height and width of frames as the network sees them, before padding.
        num_objects: number of objects encoded and decoded together.
    """
    height, width = (-(-side // 16) * 16 for side in size)
    return height * width * (_ONCE + _PER_OBJECT * num_objects) * 4


def refuse_without_room(
    out: Path,
    mask_format: str,
    videos: Sequence[str],
    size: tuple[int, int],
    num_frames: int,
    num_objects: int,
    freed: int,
) -> None:
    """Raises OutputError if the disk clearly has too little space.

    Args:
        out: a folder on the disk.
        mask_format: format of the masks.
        videos: formats of the videos written in addition.
        size: height and width of the frames.
        num_frames: number of frames still to be written.
        num_objects: number of objects known to be tracked.
        freed: bytes that the run will free before it writes.
    """
    if not hasattr(os, "statvfs"):
        return
    disk = os.statvfs(out)
    format = MASK_FORMATS[mask_format]
    masks = max(num_objects, 1) if format.per_object else 1
    pixels = size[0] * size[1]
    file_bytes = pixels * format.bytes_per_pixel
    if format.single_file is None:
        # The block size of a network file system, such as 1 MiB, is only the unit of its transfers.
        file_bytes = max(file_bytes, min(disk.f_frsize, _BLOCK))
        needed_files = num_frames * masks
        if disk.f_files and needed_files > disk.f_favail + freed // max(disk.f_frsize, 1):
            raise OutputError(
                f"{needed_files} mask files would be written to {str(out)!r}, but its disk has room for only "
                f"{disk.f_favail} more",
                "remove files from it, give another folder, or write a single file (--format ffv1)",
            )
    video_bytes = pixels * sum(MASK_FORMATS[kind].bytes_per_pixel for kind in videos)
    needed = int(num_frames * (masks * file_bytes + video_bytes))
    free = disk.f_frsize * disk.f_bavail + freed
    if needed > free:
        raise OutputError(
            f"{num_frames} frames of {describe(size)} with {num_objects} objects take at least {mib(needed)} in "
            f"{str(out)!r}, but its disk has {mib(free)} free",
            "free some space, give another folder, or write less (--format ffv1 or rle, fewer videos)",
        )


def mib(num_bytes: int) -> str:
    """Returns a number of bytes in MiB, rounded up."""
    return f"{-(-num_bytes // 2**20)} MiB"
