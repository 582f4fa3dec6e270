"""Initial weights of training: trained weights, ImageNet weights in the encoders, or those of a single-object stage.

The thesis and STCN train their first stage with a network for one object: its value encoder takes RGB and the mask, 4
channels. Here every network has a fifth, the sum of the other objects' masks. A single-object stage needs no separate
network: with one object the fifth channel is zero, so its weights neither change the output nor get a gradient, and
training is exactly that of the 4-channel network.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mnemask.errors import CheckpointError
from mnemask.model.checkpoints import (
    SIZES,
    check_state,
    packaged_weights,
    read_checkpoint,
    read_tensors,
)
from mnemask.model.resnet import fold_batch_norm
from mnemask.model.stcn import STCN

# With gain 1 (STCN's) a projection of ImageNet features gives affinities so similar that the softmax over a frame is
# uniform (entropy 7.38 of log 1620 = 7.39); with 5 the best memory gets e^6.6 times the weight of the average one.
KEY_GAIN = {"compact": 5.0, "stcn": 1.0}


def init_from_weights(weights: str | Path, size: str | None = None) -> STCN:
    """Returns a trained network to train further.

    Args:
        weights: "compact", or a weights file of mnemask or STCN (including stage-0 files, see `mnemask.training.init`).
        size: required size, "compact" or "stcn"; None for any.

    Raises:
        CheckpointError: the weights are damaged, foreign, or of another size.
    """
    config, state = read_checkpoint(packaged_weights(str(weights)) or Path(weights))
    if size is not None and config != SIZES[size]:
        raise CheckpointError(
            f"weights {str(weights)!r} are for {config}, but {size} is {SIZES[size]}", "choose their size"
        )
    model = STCN(config)
    check_state(model, state, str(weights))
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model


@torch.no_grad()
def init_from_imagenet(size: str, resnets: Sequence[Path]) -> STCN:
    """Returns a new network with ImageNet's ResNets in its encoders and random weights elsewhere.

    The value encoder's first convolution also takes the mask and the other objects' masks. In stcn its weights for them
    are zero (thesis 3.3.1). In compact, which is trained only briefly, the weights for the mask are those for a grey
    picture, so that the mask's outline reaches every feature from the first step, and those for the others' masks are
    −½ times these.

    Args:
        size: "compact" or "stcn".
        resnets: files with torchvision's parameter names, BatchNorm folded or not: ResNet-18, and for stcn ResNet-50
            too. An encoder without a matching file keeps random weights.

    Raises:
        CheckpointError: a file is damaged, foreign, or fits neither encoder.
    """
    model = STCN(SIZES[size])
    nn.init.orthogonal_(model.key_projection.weight, gain=KEY_GAIN[size])
    nn.init.zeros_(model.key_projection.bias)  # type: ignore[arg-type]
    for path in resnets:
        weights = read_resnet(path)
        grey = weights["conv1.weight"].sum(1, keepdim=True) * (size == "compact")
        with_masks = weights | {"conv1.weight": torch.cat((weights["conv1.weight"], grey, -grey / 2), dim=1)}
        fits = False
        for encoder, state in ((model.key_encoder, weights), (model.value_encoder.resnet, with_masks)):
            expected = {name: value.shape for name, value in encoder.state_dict().items()}
            if expected == {name: value.shape for name, value in state.items()}:
                encoder.load_state_dict(state)
                fits = True
        if not fits:
            raise CheckpointError(
                f"{str(path)!r} fits no encoder of {size}",
                "give torchvision's ResNet-18" + (" or ResNet-50" if size == "stcn" else ""),
            )
    return model


def read_resnet(path: Path) -> dict[str, Tensor]:
    """Returns a ResNet's convolutions up to layer3 with BatchNorm folded in; layer4 and the classifier are left out."""
    _, state = read_tensors(path)
    if "conv1.weight" not in state:
        raise CheckpointError(f"{str(path)!r} has no conv1.weight", "give a ResNet with torchvision's parameter names")
    folded = fold_batch_norm(state)
    return {name: v.float() for name, v in folded.items() if name.startswith(("conv1", "layer1", "layer2", "layer3"))}
