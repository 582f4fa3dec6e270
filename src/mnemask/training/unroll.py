"""One clip through the network and the memory, differentiably."""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.memory.read import read_dense
from mnemask.model.geometry import cells
from mnemask.model.stcn import STCN, KeyFeatures, soft_aggregate


def unroll(
    model: STCN, frames: Float[Tensor, "B T 3 H W"], first_masks: Float[Tensor, "B K H W"]
) -> Float[Tensor, "B T-1 K+1 H W"]:
    """Returns the probabilities of every frame after the first, background first.

    Each frame reads all earlier ones; the masks in memory after the first are the network's own soft predictions,
    through which gradients flow (thesis 4.2.2).
    """
    num_frames = frames.shape[1]
    features = [model.encode_key(frames[:, t]) for t in range(num_frames)]
    keys = [cells(feature.key) for feature in features]
    values = [remember(model, frames[:, 0], features[0], first_masks)]
    outputs = []
    for t in range(1, num_frames):
        memory_key, memory_value = torch.cat(keys[:t], dim=1), torch.cat(values, dim=2)
        # Objects share keys; their values lie side by side, so that one product reads them all.
        readout = read_dense(keys[t], memory_key, memory_value.transpose(1, 2).flatten(2))
        height, width = features[t].key.shape[2:]
        readout = readout.transpose(1, 2).unflatten(1, memory_value.shape[1::2]).unflatten(3, (height, width))
        logits = model.decode(readout, features[t])
        probs = soft_aggregate(logits.sigmoid().transpose(0, 1)).transpose(0, 1)
        outputs.append(probs)
        if t + 1 < num_frames:
            values.append(remember(model, frames[:, t], features[t], probs[:, 1:]))
    return torch.stack(outputs, dim=1)


def remember(
    model: STCN, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
) -> Float[Tensor, "B K P Cv"]:
    """Returns the values of one frame."""
    return cells(model.encode_value(image, features, masks))
