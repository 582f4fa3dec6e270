"""From an image, or an image and masks, to what the memory keeps."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemask.model.blocks import Attention, ResidualBlock
from mnemask.model.resnet import ResNet


class Fusion(nn.Module):
    """Joins the value encoder's features with the key encoder's: block, x + attention(x), block."""

    def __init__(self, in_channels: int, out_channels: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(in_channels, out_channels, shortcut_kernel)
        self.attention = Attention(out_channels)
        self.block2 = ResidualBlock(out_channels, out_channels, shortcut_kernel)

    def forward(
        self, x: Float[Tensor, "BK Cown h w"], shared: Float[Tensor, "B Cshared h w"]
    ) -> Float[Tensor, "BK Cv h w"]:
        x = self.block1(x, shared)
        return self.block2(x + self.attention(x))


class ValueEncoder(nn.Module):
    """A value per object and cell: ResNet-18 on [image, mask, other objects' masks], fused with the key features."""

    def __init__(self, key_feature_channels: int, value_channels: int, shortcut_kernel: int) -> None:
        super().__init__()
        self.resnet = ResNet(18, in_channels=5)
        self.fuser = Fusion(self.resnet.out_channels[-1] + key_feature_channels, value_channels, shortcut_kernel)

    def forward(
        self,
        image: Float[Tensor, "B 3 H W"],
        stride16: Float[Tensor, "B C h w"],
        masks: Float[Tensor, "B K H W"],
    ) -> Float[Tensor, "B K Cv h w"]:
        num_objects = masks.shape[1]
        others = masks.sum(1, keepdim=True) - masks
        per_object = torch.stack((masks, others), dim=2).flatten(0, 1)  # [B*K 2 H W]
        images = image.repeat_interleave(num_objects, 0)
        features = self.resnet(torch.cat((images, per_object), 1))[-1]
        values: Tensor = self.fuser(features, stride16)
        return values.unflatten(0, (-1, num_objects))
