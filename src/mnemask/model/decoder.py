"""From what was read for each object to its logit at each pixel."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.model.blocks import ResidualBlock, add_shared


class Refinement(nn.Module):
    """Doubles the resolution and adds the key encoder's finer feature (the refinement module of STM)."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip_channels, in_channels, shortcut_kernel, padding=shortcut_kernel // 2)
        self.out_conv = ResidualBlock(in_channels, out_channels, shortcut_kernel)

    def forward(
        self, x: Float[Tensor, "BK Cin h w"], skip: Float[Tensor, "B Cskip H W"]
    ) -> Float[Tensor, "BK Cout H W"]:
        upsampled = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        refined: Tensor = self.out_conv(add_shared(upsampled, self.skip_conv(skip)))
        return refined


class Decoder(nn.Module):
    """Logits from readouts: compress, refine to stride 8, refine to stride 4, one channel, ×4 bilinear."""

    def __init__(
        self,
        readout_channels: int,
        skip_channels: tuple[int, ...],
        channels: tuple[int, int, int],
        shortcut_kernel: int,
    ) -> None:
        super().__init__()
        self.compress = ResidualBlock(readout_channels, channels[0], shortcut_kernel)
        self.up_16_8 = Refinement(skip_channels[1], channels[0], channels[1], shortcut_kernel)
        self.up_8_4 = Refinement(skip_channels[0], channels[1], channels[2], shortcut_kernel)
        self.pred = nn.Conv2d(channels[2], 1, 3, padding=1)

    def forward(
        self,
        readout: Float[Tensor, "B K Cv h w"],
        compressed: Float[Tensor, "B Cc h w"],
        stride8: Float[Tensor, "B C8 h8 w8"],
        stride4: Float[Tensor, "B C4 h4 w4"],
    ) -> Float[Tensor, "B K H W"]:
        x = self.compress(readout.flatten(0, 1), compressed)
        x = self.up_16_8(x, stride8)
        x = self.up_8_4(x, stride4)
        logits = self.pred(F.relu(x)).float()
        logits = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)
        return logits.unflatten(0, (-1, readout.shape[1])).squeeze(2)
