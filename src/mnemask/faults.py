"""Two faults that torch does not name as a user needs it: a device without memory, and numbers that are none."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.errors import BudgetError, FrameError
from mnemask.types import describe


@contextmanager
def out_of_memory_named(size: tuple[int, int], num_objects: int) -> Iterator[None]:
    """Within it, a device that is out of memory is a BudgetError that says which knobs there are."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise BudgetError(
            f"the device ran out of memory on a frame of {describe(size)} with {num_objects} objects ({reason}); "
            "process smaller frames (--size), remember less (--frames, --budget), or track fewer objects"
        ) from error


def check_finite(numbers: Float[Tensor, "..."], what: str, frame: int) -> None:
    """Raises FrameError if the network gave something that is not a number, before it is remembered or written."""
    if not bool(torch.isfinite(numbers).all()):
        raise FrameError(
            f"the network's {what} for frame {frame} are not finite, so no masks can be made of them; use the weights "
            "as they were published, and float32 where the precision was lowered (--dtype float32)"
        )
