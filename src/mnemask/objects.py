"""The caller's object ids, the rows of the tensors that stand for them, and the prompts checked for one step.

The caller's object ids and the rows of the tensors that stand for them.

The masks that a step is given: checked, and made to exclude each other.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from mnemask.errors import MaskError, ObjectIdError
from mnemask.types import Frame, check_object_id

MAX_OBJECTS = 256
"""At once. Time and memory grow with each object, and what is wanted beyond is a video per group of them."""


class Objects:
    """Ids in the order of their rows."""

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._ids: list[int] = []
        for object_id in ids:
            self.add(object_id)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._ids

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, by row."""
        return tuple(self._ids)

    def add(self, object_id: int) -> int:
        """Returns the row of a new id; raises ObjectIdError for one object too many."""
        if len(self._ids) == MAX_OBJECTS:
            raise ObjectIdError(
                f"object id {object_id} would be the {MAX_OBJECTS + 1}th object",
                f"{MAX_OBJECTS} can be tracked at once, so remove others first, or track them in a run of their own",
            )
        self._ids.append(check_object_id(object_id))
        return len(self._ids) - 1

    def row(self, object_id: int) -> int:
        """Returns the row of an id; raises ObjectIdError if it is not tracked."""
        if object_id not in self._ids:
            raise ObjectIdError(f"object id {object_id!r} is not tracked", f"tracked are {self._ids or 'none'}")
        return self._ids.index(object_id)

    def remove(self, object_id: int) -> int:
        """Returns the row that an id had; raises ObjectIdError if it is not tracked."""
        row = self.row(object_id)
        del self._ids[row]
        return row


Prompt = Bool[Tensor, "H W"] | Bool[np.ndarray, "H W"]
LabelMap = Integer[Tensor, "H W"] | Integer[np.ndarray, "H W"]
Prompts = Mapping[int, Prompt | None] | LabelMap
ValidPrompts = dict[int, Bool[Tensor, "H W"]]  # prompts that were checked, on the network's device, without overlap


def validate_prompts(prompts: Prompts, frame: Frame, device: torch.device) -> tuple[ValidPrompts, list[int]]:
    """Returns the masks of prompts by object id, and the objects that are gone; where masks overlap, the first wins.

    Args:
        prompts: masks by object id, None for an object that is gone; or a label map, 0 for the background and each
            other value an object.
        frame: the frame they are of.
        device: where the masks go.

    Raises:
        MaskError: if a mask is empty, covered by those before it, not bool, or of another size than the frame; if a
            label map has fractions, another size, or no object.
        ObjectIdError: if an id is not from 1 to 65535.
    """
    if isinstance(prompts, Tensor | np.ndarray):
        prompts = _by_id(prompts, frame)
    if not isinstance(prompts, Mapping):
        raise MaskError(
            f"prompts are a {type(prompts).__name__}", "expected the masks by object id, {id: mask}, or a label map"
        )
    given: ValidPrompts = {}
    gone = []
    taken = torch.zeros(frame.size, dtype=torch.bool, device=device)
    for object_id, prompt in prompts.items():
        check_object_id(object_id)
        if prompt is None:
            gone.append(int(object_id))
            continue
        free = _mask(object_id, prompt, frame.size).to(device) & ~taken
        if not bool(free.any()):
            raise MaskError(
                f"the mask of object {object_id} in frame {frame.index} is empty, or covered by those given before it",
                "mark its pixels, leave it out, or give None for an object that is gone",
            )
        given[int(object_id)] = free
        taken |= free
    return given, gone


def _by_id(labels: LabelMap, frame: Frame) -> dict[int, Prompt]:
    """Returns the mask of each object in a label map."""
    shape, kind = tuple(labels.shape), str(labels.dtype).removeprefix("torch.")
    if kind == "bool":
        raise MaskError("the prompt is one bool mask and does not say which object it shows", "give {id: mask}")
    if shape != frame.size or "int" not in kind:
        raise MaskError(
            f"the label map is {kind} of shape {shape}",
            f"expected whole numbers of the frame's {frame.size}, 0 for the background and each object's id at its "
            "pixels",
        )
    plain = labels.cpu().numpy() if isinstance(labels, Tensor) else labels
    ids = [check_object_id(int(value)) for value in np.unique(plain) if value != 0]
    if not ids:
        raise MaskError(
            f"the label map of frame {frame.index} marks no object",
            "leave it out, or give {id: None} for each object that is gone",
        )
    if len(ids) > MAX_OBJECTS:
        raise MaskError(
            f"the label map of frame {frame.index} marks {len(ids)} objects, more than {MAX_OBJECTS}",
            "keep those that you want to follow, and check that it is a map of ids, not of depth or heat",
        )
    return {object_id: plain == object_id for object_id in ids}


def _mask(object_id: int, prompt: object, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    if not isinstance(prompt, Tensor | np.ndarray):
        raise MaskError(
            f"the mask of object {object_id} is a {type(prompt).__name__}",
            f"expected a bool tensor or array of the frame's {size}",
        )
    # A tensor shares only memory that is in order and may be written to.
    mask = prompt if isinstance(prompt, Tensor) else torch.from_numpy(np.require(prompt, requirements=("C", "W")))
    if tuple(mask.shape) != size or mask.dtype != torch.bool:
        raise MaskError(
            f"the mask of object {object_id} is {mask.dtype} of shape {tuple(mask.shape)}",
            f"expected torch.bool of the frame's {size}",
        )
    return mask
