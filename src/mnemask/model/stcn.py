"""The network: a space-time correspondence network (STCN, Cheng et al. 2021; thesis 3.3). It has no state.

The value encoder and the decoder share residual blocks; the value encoder also has CBAM attention. Nothing else uses a
convolution's output, not even its gradient, so ReLU and the residual are applied in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.model.devices import without_tf32
from mnemask.model.resnet import ResNet

STRIDE = 16
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
            x: the input of each object, all objects of an image in a row.
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

    A convolution is a sum over its input channels, so that of both parts is the sum of their convolutions.
    """
    of_own, of_shared = conv.weight.split((own.shape[1], shared.shape[1]), dim=1)
    each = F.conv2d(own, of_own, None, conv.stride, conv.padding)
    return add_shared(each, F.conv2d(shared, of_shared, conv.bias, conv.stride, conv.padding))


def add_shared(each: Float[Tensor, "BK C h w"], shared: Float[Tensor, "B C h w"]) -> Float[Tensor, "BK C h w"]:
    """Adds to `each`, in place, what the objects of an image have in common, without a copy per object."""
    if len(shared) == 1:  # one image broadcasts by itself; compilers mistake the views below for changes of layout
        return each.add_(shared)
    each.unflatten(0, (len(shared), -1)).add_(shared.unsqueeze(1))
    return each


class Attention(nn.Module):
    """CBAM (Woo et al. 2018): channel attention, then spatial attention."""

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
    """Encodes a value per object and cell: ResNet-18 on [image, mask, other masks], fused with the key features."""

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


@dataclass(frozen=True, slots=True)
class STCNConfig:
    """Sizes of the network.

    Attributes:
        key_depth: depth of the key encoder's ResNet. The value encoder's is always 18.
        key_channels: Ck, length of a key.
        value_channels: Cv, length of a value.
        compressed_channels: channels of the query feature that is concatenated with the readout.
        decoder_channels: channels in the decoder at strides 16, 8 and 4.
        shortcut_kernel: size of the shortcut and skip convolutions: 3 in STCN; 1 is faster on a CPU.
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
            raise InputError(
                f"{self} is not a network", "give depth 18 or 50, kernel 1 or 3, and 3 widths of the decoder"
            )
        if any(isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= 4096 for width in widths):
            raise InputError(f"{self} is not a network", "give channels as whole numbers from 1 to 4096")
        if self.value_channels < ATTENTION_REDUCTION:
            raise InputError(f"{self.value_channels} value channels are too few", f"give {ATTENTION_REDUCTION} or more")


STCN_SIZE = STCNConfig()
COMPACT = STCNConfig(
    key_depth=18, value_channels=256, compressed_channels=128, decoder_channels=(192, 96, 64), shortcut_kernel=1
)

# STCN reads without a kernel, and weights of the paper's size were published for that. With a kernel, the compact
# weights take in far fewer look-alikes of the object: benchmarks/results/kmn-kernel.md; 0.15 to 0.25 score alike.
KERNELS = {COMPACT: 0.2}


class KeyFeatures(NamedTuple):
    """The outputs of the key encoder for a batch of images.

    Attributes:
        key: keys, float32, both of queries and of the memory.
        compressed: concatenated with the readout in the decoder.
        stride16: fused with the mask features in the value encoder.
        stride8: skip connection of the decoder.
        stride4: skip connection of the decoder.
    """

    key: Float[Tensor, "B Ck h w"]
    compressed: Float[Tensor, "B Cc h w"]
    stride16: Float[Tensor, "B C16 h w"]
    stride8: Float[Tensor, "B C8 h8 w8"]
    stride4: Float[Tensor, "B C4 h4 w4"]


class STCN(nn.Module):
    """The three parts of the network: key encoder, value encoder and decoder; the memory lies between them.

    Images are normalised (`mnemask.model.preprocess.normalize`) and their sides are multiples of 16.
    """

    def __init__(self, config: STCNConfig) -> None:
        super().__init__()
        self.config = config
        # See `checkpoints.fingerprint` and `key_encoder_id`.
        self.content: tuple[dict[Tensor, int], str, str] | None = None
        self.path: Path | None = None  # the file that it was loaded from, unless the weights are packaged
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
        """The precision of the convolutions."""
        return self.key_compression.weight.dtype

    @property
    def kmn_sigma(self) -> float:
        """σ of the KMN kernel as a fraction of the short side, the default of trackers; 0 disables it."""
        return KERNELS.get(self.config, 0.0)

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images."""
        stride4, stride8, stride16 = self.key_encoder(image)
        # Distances amplify the rounding of keys (bf16 keys change the affinity by 4 to 36 %), so they stay float32,
        # not TF32, in which a GPU would compute this convolution by default.
        with torch.autocast(image.device.type, enabled=False), without_tf32(image.is_cuda):
            key = self.key_projection(stride16.to(self.key_projection.weight.dtype))
        return KeyFeatures(key.float(), self.key_compression(stride16), stride16, stride8, stride4)

    def encode_value(
        self, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B K Cv h w"]:
        """Returns a value per object and cell.

        Args:
            image: the normalised images.
            features: the features of the same images.
            masks: probabilities of each object, 0 to 1.
        """
        values: Tensor = self.value_encoder(image, features.stride16, masks)
        return values

    def decode(self, readout: Float[Tensor, "B K Cv h w"], features: KeyFeatures) -> Float[Tensor, "B K H W"]:
        """Returns the logit of each object at each pixel, float32."""
        logits: Tensor = self.decoder(readout, features.compressed, features.stride8, features.stride4)
        return logits


def require_network(model: object) -> None:
    """Raises InputError unless a model is a network of mnemask with weights, possibly wrapped by torch.compile."""
    network = getattr(model, "_orig_mod", model)
    if not isinstance(network, STCN):
        inside = isinstance(getattr(model, "module", None), STCN)
        raise InputError(
            f"the model is a {type(model).__name__}" + (f" {model!r:.60}" if isinstance(model, str | Path) else ""),
            "give the network inside it, model.module" if inside else "give the network that mm.load_model() returns",
        )
    if network.device.type == "meta":
        raise InputError("the model is on the meta device and has no weights", "load it with mm.load_model()")


def soft_aggregate(probs: Float[Tensor, "K *pixels"]) -> Float[Tensor, "K+1 *pixels"]:
    """Returns probabilities that sum to 1, background first, from independent ones (soft aggregation, STM eq. 2).

    The background is Π(1 − p). All are clamped to [1e-7, 1 − 1e-7]; the result is the softmax of their logits, that is,
    their normalised odds p/(1 − p).
    """
    everyone = torch.cat((torch.prod(1 - probs, dim=0, keepdim=True), probs))
    return torch.softmax(torch.logit(everyone, eps=1e-7), dim=0)


def most_probable(probs: Float[Tensor, "K1 *pixels"], ids: Sequence[int]) -> Int32[Tensor, "*pixels"]:
    """Returns the id of the class with the highest probability; the first one wins ties.

    With classes as the leading axis, comparing them one by one in a narrow type takes a CPU a third of the time of
    `max` with indices, and a fiftieth of that of `argmax`, which is fastest on a GPU.
    """
    names = _names(tuple(ids), probs.device)
    if probs.is_cuda:
        return names.index_select(0, probs.argmax(0).flatten()).view(probs.shape[1:])
    narrow = torch.uint8 if len(ids) <= 256 else torch.int32
    highest, winner = probs[0], torch.zeros_like(probs[0], dtype=narrow)
    for number, plane in enumerate(probs[1:], 1):
        winner = torch.maximum(winner, (plane > highest).to(narrow).mul_(number))
        highest = torch.maximum(highest, plane)
    return names.index_select(0, winner.flatten().int()).view(winner.shape)


@lru_cache(maxsize=64)
def _names(ids: tuple[int, ...], device: torch.device) -> Int32[Tensor, " K1"]:
    """Returns the ids as a tensor, cached so that it is not uploaded for each frame."""
    with torch.inference_mode(False):
        return torch.tensor(ids, dtype=torch.int32, device=device)
