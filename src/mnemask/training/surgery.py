"""From the weights of a single-object stage to those that a multi-object stage starts from.

The thesis and STCN train their first stage with a network that knows one object: its value encoder sees RGB and the
mask, 4 channels. Here every network has the fifth, the sum of the other objects' masks. A single-object stage needs no
network of its own: with one object the fifth channel is zero, so its weights neither change the output nor get a
gradient, and what is trained is the 4-channel network exactly.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mnemask.errors import CheckpointError, InputError
from mnemask.model.checkpoints import FIRST_CONVOLUTION, with_others_channel

NUM_CHANNELS = 5  # RGB, mask, other objects' masks


def for_several_objects(state: Mapping[str, Tensor], gain: float = 0.0) -> dict[str, Tensor]:
    """Returns the same weights, ready to be trained on several objects; the input stays as it is.

    Args:
        state: a network's state dict with mnemask's names (`read_checkpoint` gives STCN's files these names); its value
            encoder's first convolution has 4 input channels, or 5.
        gain: of the weights for the other objects' masks where they are missing or zero. 0 leaves them zero, as STCN
            does for evaluation; above it they are a random orthogonal matrix, of gain 1 as STCN does for training.
            Either way the network says the same of a single object as before.

    Raises:
        CheckpointError: if that convolution is missing or has another number of input channels.
        InputError: if the gain is negative, or above 0 where the weights for the others are trained already.
    """
    if not 0 <= gain < float("inf"):
        raise InputError(f"gain {gain!r} is no size of weights; give 0 for zeros, or 1 as STCN does for training")
    grown = with_others_channel(state)
    first = grown.get(FIRST_CONVOLUTION)
    if first is None or first.ndim != 4 or first.shape[1] != NUM_CHANNELS:
        raise CheckpointError(
            f"{FIRST_CONVOLUTION} is {'missing' if first is None else tuple(first.shape)}; expected 4 input channels "
            f"(RGB and mask) or {NUM_CHANNELS}; give the state dict of a mnemask network"
        )
    if gain == 0:
        return grown
    if bool(first[:, 4].any()):
        raise InputError(
            f"gain {gain} would overwrite weights for the other objects' masks that are not zero; leave it at 0"
        )
    others = nn.init.orthogonal_(torch.empty_like(first[:, 4:], memory_format=torch.contiguous_format), gain)
    return {**grown, FIRST_CONVOLUTION: torch.cat((first[:, :4], others), dim=1)}
