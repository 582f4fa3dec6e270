"""Checks of the arguments of `segment`, before it touches what an earlier run left."""

import json
from collections.abc import Mapping
from numbers import Real
from pathlib import Path

from mnemask.errors import InputError
from mnemask.io import MASK_FORMATS
from mnemask.memory.budget import Budget
from mnemask.pipeline.places import VideoOutputs


def refuse_unusable(
    frames: object, mask_format: object, videos: object, settings: object, checkpoint_every: object
) -> None:
    """Raises InputError for arguments that would make the run fail, possibly after it removed an earlier one."""
    if isinstance(frames, str | Path):
        raise InputError(f"frames are a {type(frames).__name__}", f"read them with VideoReader({str(frames)!r:.60})")
    if not hasattr(frames, "__iter__") and not hasattr(frames, "__getitem__"):
        raise InputError(f"frames are a {type(frames).__name__}", "give a VideoReader or an iterable of frames")
    if mask_format not in tuple(MASK_FORMATS):
        raise InputError(f"there is no mask format {mask_format!r:.40}", f"choose one of {', '.join(MASK_FORMATS)}")
    if not isinstance(videos, VideoOutputs):
        raise InputError(f"videos are a {type(videos).__name__}", 'give VideoOutputs(("overlay",)) or with other kinds')
    if not isinstance(settings, Mapping | None):
        raise InputError(f"settings are a {type(settings).__name__}", "give a dict")
    try:
        json.dumps(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"settings cannot be written as JSON ({error})", "give a dict of texts, numbers, lists and further dicts"
        ) from error
    if checkpoint_every is not None and not (isinstance(checkpoint_every, Real) and float(checkpoint_every) >= 0):
        raise InputError(
            f"checkpoint_every is {checkpoint_every!r:.40}", "give seconds, 0 or more, or None for no checkpoints"
        )


def refuse_uncallable(prompts: object, **functions: object) -> None:
    """Raises InputError for something else where a function is expected."""
    if not callable(prompts):
        raise InputError(
            f"prompts are a {type(prompts).__name__}",
            "give a function from a Frame to its masks, such as lambda frame: masks.get(frame.index)",
        )
    for name, function in functions.items():
        if not callable(function):
            raise InputError(f"{name} is a {type(function).__name__}", "give a function")


def bytes_allowed(max_memory: int | float | str | None) -> int | None:
    """Returns a limit in bytes: whole numbers, sizes such as "2GiB", and fractional numbers such as 4e9.

    Raises:
        BudgetError: if it is none of these, or below 1.
    """
    if isinstance(max_memory, float):
        max_memory = int(max_memory) if 1 <= max_memory < 2**62 else str(max_memory)
    return Budget(bytes=max_memory).max_bytes
