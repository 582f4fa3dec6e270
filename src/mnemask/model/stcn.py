"""The network: a space-time correspondence network (STCN, Cheng et al. 2021; thesis 3.3). It keeps no state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

from mnemask.errors import InputError
from mnemask.model.blocks import ATTENTION_REDUCTION
from mnemask.model.decoder import Decoder
from mnemask.model.encoders import ValueEncoder
from mnemask.model.resnet import ResNet

STRIDE = 16


@dataclass(frozen=True, slots=True)
class STCNConfig:
    """Sizes of the network.

    Attributes:
        key_depth: depth of the key encoder's ResNet. The value encoder's is always 18.
        key_channels: Ck, length of a key.
        value_channels: Cv, length of a value.
        compressed_channels: channels of the query feature that joins the readout.
        decoder_channels: channels in the decoder at strides 16, 8 and 4.
        shortcut_kernel: size of the shortcut and skip convolutions. 3 is STCN's; 1 is what a CPU prefers.
    """

    key_depth: Literal[18, 50] = 50
    key_channels: int = 64
    value_channels: int = 512
    compressed_channels: int = 512
    decoder_channels: tuple[int, int, int] = (512, 256, 256)
    shortcut_kernel: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        widths = (self.key_channels, self.value_channels, self.compressed_channels, *self.decoder_channels)
        if self.key_depth not in (18, 50) or self.shortcut_kernel not in (1, 3) or len(self.decoder_channels) != 3:
            raise InputError(f"{self} is no network; depth is 18 or 50, kernel 1 or 3, and the decoder has 3 widths")
        if any(isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 4096 for width in widths):
            raise InputError(f"{self} is no network; channels are whole numbers from 1 to 4096")
        if self.value_channels < ATTENTION_REDUCTION:
            raise InputError(f"{self.value_channels} value channels are too few; give {ATTENTION_REDUCTION} or more")


PAPER = STCNConfig()
COMPACT = STCNConfig(
    key_depth=18, value_channels=256, compressed_channels=128, decoder_channels=(192, 96, 64), shortcut_kernel=1
)

# STCN reads a memory anywhere, and weights of the paper's size were published for that. The compact weights take in
# what looks like the object far less with a kernel: benchmarks/results/kernel.md, where 0.15 to 0.25 are alike.
KERNELS = {COMPACT: 0.2}


@dataclass(frozen=True, slots=True)
class KeyFeatures:
    """What the key encoder says of a batch of images.

    Attributes:
        key: float32; as a query it looks for memories, as a memory it is found.
        compressed: joins the readout in the decoder.
        stride16: joins the mask features in the value encoder.
        stride8: skip connection of the decoder.
        stride4: skip connection of the decoder.
    """

    key: Float[Tensor, "B Ck h w"]
    compressed: Float[Tensor, "B Cc h w"]
    stride16: Float[Tensor, "B C16 h w"]
    stride8: Float[Tensor, "B C8 h8 w8"]
    stride4: Float[Tensor, "B C4 h4 w4"]


class STCN(nn.Module):
    """The three parts of the network; what lies between them is the memory's.

    Images are normalised (`mnemask.model.geometry.normalize`) and their sides are multiples of 16.
    """

    def __init__(self, config: STCNConfig) -> None:
        super().__init__()
        self.config = config
        self.content: tuple[int, str] | None = None  # see `checkpoints.fingerprint`
        self.key_encoder = ResNet(config.key_depth)
        features = self.key_encoder.out_channels
        self.key_projection = nn.Conv2d(features[-1], config.key_channels, 3, padding=1)
        self.key_compression = nn.Conv2d(features[-1], config.compressed_channels, 3, padding=1)
        self.value_encoder = ValueEncoder(features[-1], config.value_channels, config.shortcut_kernel)
        self.decoder = Decoder(
            config.value_channels + config.compressed_channels,
            features,
            config.decoder_channels,
            config.shortcut_kernel,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.key_projection.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the convolutions compute in."""
        return self.key_compression.weight.dtype

    @property
    def kernel(self) -> float:
        """How far from where it fits best a memory is read unless a tracker says otherwise; 0 for anywhere."""
        return KERNELS.get(self.config, 0.0)

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images."""
        stride4, stride8, stride16 = self.key_encoder(image)
        # Distances amplify the rounding of keys (bf16 keys change the affinity by 4 to 36 %), so they stay float32.
        with torch.autocast(image.device.type, enabled=False):
            key = self.key_projection(stride16.to(self.key_projection.weight.dtype))
        return KeyFeatures(key.float(), self.key_compression(stride16), stride16, stride8, stride4)

    def encode_value(
        self, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B K Cv h w"]:
        """Returns a value per object and cell.

        Args:
            image: the normalised images.
            features: of the same images.
            masks: probabilities of each object, 0 to 1.
        """
        values: Tensor = self.value_encoder(image, features.stride16, masks)
        return values

    def decode(self, readout: Float[Tensor, "B K Cv h w"], features: KeyFeatures) -> Float[Tensor, "B K H W"]:
        """Returns the logit of each object at each pixel, float32."""
        logits: Tensor = self.decoder(readout, features.compressed, features.stride8, features.stride4)
        return logits


def soft_aggregate(probs: Float[Tensor, "K *pixels"]) -> Float[Tensor, "K+1 *pixels"]:
    """Returns probabilities that sum to 1, background first, from independent ones (soft aggregation, STM eq. 2).

    The background is Π(1 − p); all are clamped to [1e-7, 1 − 1e-7] and go through the softmax of their logits,
    which for a logit is p/(1 − p) normalised.
    """
    everyone = torch.cat((torch.prod(1 - probs, dim=0, keepdim=True), probs))
    return torch.softmax(torch.logit(everyone, eps=1e-7), dim=0)


def most_probable(probs: Float[Tensor, "K1 *pixels"], ids: Sequence[int]) -> Int32[Tensor, "*pixels"]:
    """Returns the id of the class with the highest probability, of the first among equals.

    Where classes are the leading axis, comparing them one by one in a narrow type takes a CPU a third of the time of
    `max` with indices, and a fiftieth of `argmax`.
    """
    narrow = torch.uint8 if len(ids) <= 256 else torch.int32
    highest, winner = probs[0], torch.zeros_like(probs[0], dtype=narrow)
    for number, plane in enumerate(probs[1:], 1):
        winner = torch.maximum(winner, (plane > highest).to(narrow).mul_(number))
        highest = torch.maximum(highest, plane)
    names = torch.tensor(ids, dtype=torch.int32, device=probs.device)
    return names.index_select(0, winner.flatten().int()).view(winner.shape)
