"""ResNet-18 and ResNet-50 up to stride 16, with torchvision's parameter names.

BatchNorm is frozen in both encoders (thesis 4.2), so it is a fixed affine map per channel and is folded into the
convolutions: each has a bias, there is no BatchNorm module, and `fold_batch_norm` converts ordinary weights.
Nothing else uses a convolution's output, not even its gradient, so ReLU and the residual are applied in place.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import CheckpointError

STAGE_CHANNELS = (64, 128, 256)
BATCH_NORM_EPSILON = 1e-5
REFETCH = "fetch the file again, or give another checkpoint"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, Fig. 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        residual: Tensor = self.conv2(F.relu_(self.conv1(x)))
        return F.relu_(residual.add_(self.downsample(x)))


class Bottleneck(nn.Module):
    """1×1, 3×3 with the stride, 1×1 to four times the channels, and a shortcut (He et al. 2016, Fig. 5 right)."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1)
        self.downsample = shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x: Float[Tensor, "B Cin H W"]) -> Float[Tensor, "B Cout h w"]:
        residual: Tensor = self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))
        return F.relu_(residual.add_(self.downsample(x)))


def shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Returns the identity (an empty Sequential, without parameters), or a strided 1×1 convolution to another shape."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride))


class ResNet(nn.Module):
    """Features of an image at strides 4, 8 and 16.

    Args:
        depth: 18 or 50.
        in_channels: 3 for an image; 5 for an image, a mask and the other objects' masks.
    """

    def __init__(self, depth: int, in_channels: int = 3) -> None:
        super().__init__()
        block = BasicBlock if depth == 18 else Bottleneck
        num_blocks = {18: (2, 2, 2), 50: (3, 4, 6)}[depth]
        self.out_channels = tuple(channels * block.expansion for channels in STAGE_CHANNELS)
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3)
        stages, width = [], 64
        for channels, blocks, stride in zip(STAGE_CHANNELS, num_blocks, (1, 2, 2), strict=True):
            first = block(width, channels, stride)
            width = channels * block.expansion
            stages.append(nn.Sequential(first, *(block(width, channels, 1) for _ in range(blocks - 1))))
        self.layer1, self.layer2, self.layer3 = stages

    def forward(
        self, x: Float[Tensor, "B Cin H W"]
    ) -> tuple[Float[Tensor, "B C4 h4 w4"], Float[Tensor, "B C8 h8 w8"], Float[Tensor, "B C16 h w"]]:
        x = F.max_pool2d(F.relu_(self.conv1(x)), 3, stride=2, padding=1)
        stride4 = self.layer1(x)
        stride8 = self.layer2(stride4)
        return stride4, stride8, self.layer3(stride8)


def fold_batch_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the same ResNet without BatchNorm: y = γ(Wx + b − μ)/√(σ² + ε) + β is a convolution with another W and b.

    Each `….bnN.*` is folded into `….convN.*`, each `….downsample.1.*` into `….downsample.0.*`; in float64, so that
    nothing beyond the last bit of float32 is lost. Tensors without a BatchNorm pass through unchanged.
    """
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    folded = {name: value for name, value in state.items() if not name.startswith(tuple(norms))} if norms else {**state}
    for norm in norms:
        check_norm(state, norm)
        conv = norm.replace("downsample.1", "downsample.0") if "downsample.1" in norm else norm.replace("bn", "conv")
        gain = state[f"{norm}weight"].double() / torch.sqrt(state[f"{norm}running_var"].double() + BATCH_NORM_EPSILON)
        weight = state.get(f"{conv}weight")
        if weight is None or weight.ndim != 4 or len(weight) != len(gain):
            raise CheckpointError(
                f"{conv}weight is missing or does not fit {norm}weight, so BatchNorm cannot be folded",
                REFETCH,
            )
        bias = state[f"{conv}bias"].double() if f"{conv}bias" in state else torch.zeros_like(gain)
        if bias.shape != gain.shape:
            raise CheckpointError(f"{conv}bias is {tuple(bias.shape)}, expected {tuple(gain.shape)}", REFETCH)
        shift = state[f"{norm}bias"].double() - state[f"{norm}running_mean"].double() * gain
        folded[f"{conv}weight"] = (weight.double() * gain[:, None, None, None]).to(weight.dtype)
        folded[f"{conv}bias"] = (bias * gain + shift).to(weight.dtype)
    return folded


def check_norm(state: Mapping[str, Tensor], norm: str) -> None:
    """Raises CheckpointError, naming the tensor, unless a BatchNorm is complete and finite."""
    size = state[f"{norm}running_mean"].shape
    for name in (f"{norm}{part}" for part in ("weight", "bias", "running_mean", "running_var")):
        if name not in state:
            raise CheckpointError(f"{name} is missing, so BatchNorm cannot be folded", "give the complete state dict")
        if state[name].ndim != 1 or state[name].shape != size:
            raise CheckpointError(
                f"{name} is {tuple(state[name].shape)}, but the mean is {tuple(size)}", "give tensors of equal shape"
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(f"{name} is not finite", "fetch the file again, or train again if training diverged")
