"""The masks that a step is given: checked, and made to exclude each other."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from mnemask.errors import MaskError
from mnemask.types import Frame, check_object_id

Prompt = Bool[Tensor, "H W"] | Bool[np.ndarray, "H W"]
Given = dict[int, Bool[Tensor, "H W"]]  # prompts that were checked, on the network's device, without overlap


def given_masks(prompts: Mapping[int, Prompt], frame: Frame, device: torch.device) -> Given:
    """Returns the masks of prompts by object id; where two overlap, the first one wins.

    Raises:
        MaskError: if a mask is empty, covered by those before it, not bool, or of another size than the frame.
        ObjectIdError: if an id is not from 1 to 65535.
    """
    if not isinstance(prompts, Mapping):
        raise MaskError(f"prompts are a {type(prompts).__name__}; expected the masks by object id, {{id: mask}}")
    given: Given = {}
    taken = torch.zeros(frame.size, dtype=torch.bool, device=device)
    for object_id, prompt in prompts.items():
        check_object_id(object_id)
        free = _mask(object_id, prompt, frame.size).to(device) & ~taken
        if not bool(free.any()):
            raise MaskError(
                f"the mask of object {object_id} in frame {frame.index} is empty, or covered by those given before "
                "it; mark its pixels, or leave it out"
            )
        given[int(object_id)] = free
        taken |= free
    return given


def _mask(object_id: int, prompt: object, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    if not isinstance(prompt, Tensor | np.ndarray):
        raise MaskError(
            f"the mask of object {object_id} is a {type(prompt).__name__}; expected a bool tensor or array of the "
            f"frame's {size}"
        )
    # A tensor shares only memory that is in order and may be written to.
    mask = torch.as_tensor(np.require(prompt, requirements=("C", "W")) if isinstance(prompt, np.ndarray) else prompt)
    if tuple(mask.shape) != size or mask.dtype != torch.bool:
        raise MaskError(
            f"the mask of object {object_id} is {mask.dtype} of shape {tuple(mask.shape)}; expected torch.bool of the "
            f"frame's {size}"
        )
    return mask
