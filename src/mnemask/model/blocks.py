"""The two building blocks that the value encoder and the decoder share: a residual block and CBAM attention."""

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

    def forward(self, x: Float[Tensor, "B Cin h w"]) -> Float[Tensor, "B Cout h w"]:
        return self.conv2(F.relu(self.conv1(F.relu(x)))) + self.downsample(x)


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
