"""Where training starts: ImageNet weights in both encoders, the rest random."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from mnemask.model.resnet import fold_batch_norm
from mnemask.model.stcn import STCN

# With gain 1 a projection of ImageNet features gives affinities so alike that the softmax over a frame is uniform
# (entropy 7.38 of log 1620 = 7.39); with 5 the best memory is e^6.6 times as likely as the average one.
KEY_GAIN = 5.0


@torch.no_grad()
def initialise(model: STCN, imagenet: Path) -> None:
    """Loads ImageNet's ResNet-18 (torchvision's names, BatchNorm folded or not) into the encoders of a compact model.

    The value encoder's first convolution also sees the mask and the other objects' masks. Its weights for the mask
    are those for a grey picture, so that the mask's outline reaches every feature from the first step; for the others'
    masks their negative half.
    """
    weights = {name: value for name, value in fold_batch_norm(load_file(imagenet)).items() if not name.startswith("fc")}
    model.key_encoder.load_state_dict(weights)
    grey = weights["conv1.weight"].sum(1, keepdim=True)
    first = torch.cat((weights["conv1.weight"], grey, -grey / 2), dim=1)
    model.value_encoder.resnet.load_state_dict({**weights, "conv1.weight": first})
    nn.init.orthogonal_(model.key_projection.weight, gain=KEY_GAIN)
    nn.init.zeros_(model.key_projection.bias)  # type: ignore[arg-type]
