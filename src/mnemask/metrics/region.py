"""Region similarity J: how much of two masks is common."""

from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from mnemask.errors import MaskError


def check_pair(prediction: npt.NDArray[Any], truth: npt.NDArray[Any], void: npt.NDArray[Any] | None = None) -> None:
    """Raises MaskError unless all masks are bool arrays [H W] of one size."""
    named = {"prediction": prediction, "truth": truth} | ({} if void is None else {"void": void})
    for name, mask in named.items():
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise MaskError(
                f"the {name} is {mask.dtype} of shape {mask.shape}; expected a bool mask (height, width), "
                "such as labels == object_id"
            )
    for name, mask in named.items():
        if mask.shape != truth.shape:
            raise MaskError(
                f"the {name} is {mask.shape[0]}x{mask.shape[1]} (height x width) but the truth is "
                f"{truth.shape[0]}x{truth.shape[1]}; resize it to the truth's size with nearest neighbour first"
            )


def region_similarity(
    prediction: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
) -> float:
    """Returns J, the intersection over the union of two masks, from 0 to 1; two empty masks agree, so they give 1.

    Args:
        prediction: pixels said to be the object.
        truth: pixels that are the object.
        void: pixels that count neither way.

    Raises:
        MaskError: the masks are not bool or differ in size.
    """
    check_pair(prediction, truth, void)
    both, either = prediction & truth, prediction | truth
    if void is not None:
        both, either = both & ~void, either & ~void
    union = np.count_nonzero(either)
    return np.count_nonzero(both) / union if union else 1.0
