"""The two building blocks that the value encoder and the decoder share: a residual block and CBAM attention.

What a convolution returns is nobody else's, and its gradient does not need it: rectified and added to in place.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION_REDUCTION = 16


class ResidualBlock(nn.Module):
    """Pre-activation residual block without normalisation: conv2(relu(conv1(relu(x)))) + shortcut(x) (STM, STCN)."""

    def __init__(self, in_channels: int, out_channels: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.downsample = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, shortcut_kernel, padding=shortcut_kernel // 2)
        )

    def forward(
        self, x: Float[Tensor, "BK Cin h w"], shared: Float[Tensor, "B Cshared h w"] | None = None
    ) -> Float[Tensor, "BK Cout h w"]:
        """Returns the features of each object.

        Args:
            x: of each object, all objects of an image in a row.
            shared: further channels, after those of x, which the objects of an image have in common.
        """
        if shared is None:
            return self.conv2(F.relu_(self.conv1(F.relu(x)))).add_(self.downsample(x))
        residual = self.conv2(F.relu_(convolve_joined(self.conv1, F.relu(x), F.relu(shared))))
        if isinstance(self.downsample, nn.Conv2d):
            return residual.add_(convolve_joined(self.downsample, x, shared))
        return residual.add_(torch.cat((x, shared.repeat_interleave(len(x) // len(shared), 0)), 1))


def convolve_joined(
    conv: nn.Conv2d, own: Float[Tensor, "BK Cown H W"], shared: Float[Tensor, "B Cshared H W"]
) -> Float[Tensor, "BK Cout h w"]:
    """Returns the convolution of [own ⧺ shared] for each object, convolving the shared channels once per image.

    A convolution is a sum over its input channels, so that of the two parts is the sum of their convolutions.
    """
    of_own, of_shared = conv.weight.split((own.shape[1], shared.shape[1]), dim=1)
    each = F.conv2d(own, of_own, None, conv.stride, conv.padding)
    return add_shared(each, F.conv2d(shared, of_shared, conv.bias, conv.stride, conv.padding))


def add_shared(each: Float[Tensor, "BK C h w"], shared: Float[Tensor, "B C h w"]) -> Float[Tensor, "BK C h w"]:
    """Returns `each` with what the objects of an image have in common added, in place: no copy for each object."""
    if len(shared) == 1:  # one image broadcasts by itself; compilers take the views below for changes of layout
        return each.add_(shared)
    each.unflatten(0, (len(shared), -1)).add_(shared.unsqueeze(1))
    return each


class Attention(nn.Module):
    """CBAM (Woo et al. 2018): which channels matter, then which places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // ATTENTION_REDUCTION)
        self.excite = nn.Linear(channels // ATTENTION_REDUCTION, channels)
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        pooled = torch.stack((x.mean((2, 3)), x.amax((2, 3))))
        channel_gate = self.excite(F.relu(self.squeeze(pooled))).sum(0).sigmoid()
        x = x * channel_gate[:, :, None, None]
        summary = torch.stack((x.amax(1), x.mean(1)), dim=1)
        return x * self.spatial(summary).sigmoid()
