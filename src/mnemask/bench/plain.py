"""The network and its memory computed plainly: what the fast path is compared with, in time and in masks.

float32 and NCHW throughout, every object's input written out in full, the affinity of all memories and all queries as
one dense matrix with zeros outside the top k, the readout as a product with it: as STCN's original
evaluation does. It shares the weights with mnemask's network, and no computation. BatchNorm is folded in these
weights, which alone makes it some 5 to 15 % faster than the original.
"""

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from mnemask.model import preprocess
from mnemask.model.stcn import STCN, KeyFeatures

BLOCKS = {18: (2, 2, 2), 50: (3, 4, 6)}
TOP_K = 20  # memories read per query


class PlainSTCN:
    """The network of a model, as functions of its weights.

    Args:
        model: its weights are copied, as contiguous float32, on its device.
    """

    def __init__(self, model: STCN) -> None:
        self.depth = model.config.key_depth
        self.weights = {name: value.detach().float().contiguous() for name, value in model.state_dict().items()}

    def encode_key(self, image: Float[Tensor, "1 3 H W"]) -> KeyFeatures:
        """Returns keys and features of an image."""
        stride4, stride8, stride16 = self._resnet("key_encoder", image, self.depth)
        key, compressed = (self._conv(name, stride16) for name in ("key_projection", "key_compression"))
        return KeyFeatures(key, compressed, stride16, stride8, stride4)

    def encode_value(
        self, image: Float[Tensor, "1 3 H W"], features: KeyFeatures, masks: Float[Tensor, "K H W"]
    ) -> Float[Tensor, "K Cv h w"]:
        """Returns a value per object and cell; masks are probabilities."""
        num_objects = len(masks)
        others = masks.sum(0, keepdim=True) - masks
        x = torch.cat((image.expand(num_objects, -1, -1, -1), masks[:, None], others[:, None]), 1)
        x = self._resnet("value_encoder.resnet", x, 18)[-1]
        x = torch.cat((x, features.stride16.expand(num_objects, -1, -1, -1)), 1)
        x = self._residual("value_encoder.fuser.block1", x)
        return self._residual("value_encoder.fuser.block2", x + self._attention("value_encoder.fuser.attention", x))

    def decode(self, readout: Float[Tensor, "K Cv h w"], features: KeyFeatures) -> Float[Tensor, "K H W"]:
        """Returns the logit of each object at each pixel."""
        num_objects = len(readout)
        x = torch.cat((readout, features.compressed.expand(num_objects, -1, -1, -1)), 1)
        x = self._residual("decoder.compress", x)
        for name, skip in (("up_16_8", features.stride8), ("up_8_4", features.stride4)):
            skipped = self._conv(f"decoder.{name}.skip_conv", skip.expand(num_objects, -1, -1, -1))
            doubled = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = self._residual(f"decoder.{name}.out_conv", skipped + doubled)
        logits = self._conv("decoder.pred", torch.relu(x))
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[:, 0]

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        return F.conv2d(x, weight, self.weights[f"{name}.bias"], stride, weight.shape[-1] // 2)

    def _residual(self, name: str, x: Tensor) -> Tensor:
        y = self._conv(f"{name}.conv2", torch.relu(self._conv(f"{name}.conv1", torch.relu(x))))
        return y + (self._conv(f"{name}.downsample", x) if f"{name}.downsample.weight" in self.weights else x)

    def _resnet(self, name: str, x: Tensor, depth: int) -> list[Tensor]:
        """Returns the features at strides 4, 8 and 16."""
        x = F.max_pool2d(torch.relu(self._conv(f"{name}.conv1", x, 2)), 3, 2, 1)
        stages = []
        for stage, num_blocks in enumerate(BLOCKS[depth], 1):
            for number in range(num_blocks):
                x = self._block(f"{name}.layer{stage}.{number}", x, 2 if stage > 1 and number == 0 else 1)
            stages.append(x)
        return stages

    def _block(self, name: str, x: Tensor, stride: int) -> Tensor:
        """Returns what a basic block gives, or a bottleneck: three convolutions, with the stride in the second."""
        deep = f"{name}.conv3.weight" in self.weights
        y = torch.relu(self._conv(f"{name}.conv1", x, 1 if deep else stride))
        y = self._conv(f"{name}.conv2", y, stride if deep else 1)
        if deep:
            y = self._conv(f"{name}.conv3", torch.relu(y))
        shortcut = f"{name}.downsample.0"
        return torch.relu(y + (self._conv(shortcut, x, stride) if f"{shortcut}.weight" in self.weights else x))

    def _attention(self, name: str, x: Tensor) -> Tensor:
        def gate(pooled: Tensor) -> Tensor:
            squeezed = F.linear(pooled, self.weights[f"{name}.squeeze.weight"], self.weights[f"{name}.squeeze.bias"])
            return F.linear(
                torch.relu(squeezed), self.weights[f"{name}.excite.weight"], self.weights[f"{name}.excite.bias"]
            )

        x = x * torch.sigmoid(gate(x.mean((2, 3))) + gate(x.amax((2, 3))))[:, :, None, None]
        summary = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self._conv(f"{name}.spatial", summary))


def plain_read(
    query: Float[Tensor, "Ck P"], keys: Float[Tensor, "Ck N"], values: Float[Tensor, "KCv N"], top_k: int
) -> Float[Tensor, "KCv P"]:
    """Returns the readout of all objects, through the dense matrix of all affinities."""
    affinity = (2 * (keys.T @ query) - keys.square().sum(0)[:, None]) / keys.shape[0] ** 0.5  # [N P]
    best, index = torch.topk(affinity, min(top_k, len(affinity)), dim=0)
    weights = torch.zeros_like(affinity).scatter_(0, index, torch.softmax(best, 0))
    return values @ weights


def plain_answer(
    probs: Float[Tensor, "K Hp Wp"], working_size: tuple[int, int], size: tuple[int, int]
) -> tuple[Float[Tensor, "K+1 H W"], Int64[Tensor, "H W"]]:
    """Returns the probabilities at the frame's size and the row of the largest, 0 for the background."""
    everyone = torch.cat((torch.prod(1 - probs, 0, keepdim=True), probs)).clamp(1e-7, 1 - 1e-7)
    aggregated = torch.softmax(torch.log(everyone / (1 - everyone)), 0)
    inside = preprocess.unpad(aggregated, working_size)
    if working_size != size:
        inside = preprocess.resize(inside, size)
    return inside, torch.argmax(inside, 0)


class PlainTracker:
    """Follows the objects of a first mask, remembering that frame and each fifth one, or only the latest of these.

    Args:
        network: the plain network.
        growing: whether all fifth frames are remembered (STCN's every-5); else the first and the latest, which is what
            `LFU` keeps at its default budget of two frames.
        short_side: as for `Tracker`.
    """

    def __init__(self, network: PlainSTCN, *, growing: bool = False, short_side: int | None = 480) -> None:
        self.network, self.growing, self.short_side = network, growing, short_side
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.steps = 0
        self._channels = 0

    @torch.no_grad()
    def step(
        self, image: UInt8[Tensor, "3 H W"], masks: Bool[Tensor, "K H W"] | None = None
    ) -> tuple[Float[Tensor, "K1 H W"], Int64[Tensor, "H W"]]:
        """Returns probabilities, background first, and rows; masks are given with the first frame and only there."""
        size = (image.shape[1], image.shape[2])
        working = preprocess.working_size(size, self.short_side)
        normal = preprocess.pad(preprocess.normalize(preprocess.resize(image.float(), working)))[None]
        features = self.network.encode_key(normal)
        query = features.key[0].flatten(1)
        if masks is not None:
            probs = preprocess.pad(preprocess.resize(masks.float(), working))
        else:
            keys, values = torch.cat(self.keys, 1), torch.cat(self.values, 1)
            readout = plain_read(query, keys, values, TOP_K)
            planes = readout.unflatten(0, (-1, self._channels)).unflatten(2, features.key.shape[2:])
            probs = torch.sigmoid(self.network.decode(planes, features))
        answer, rows = plain_answer(probs, working, size)
        if masks is not None or self.steps % 5 == 0:
            self._remember(normal, features, query, probs)
        self.steps += 1
        return answer, rows

    def _remember(self, image: Tensor, features: KeyFeatures, query: Tensor, probs: Tensor) -> None:
        competing = plain_answer(probs, (probs.shape[1], probs.shape[2]), (probs.shape[1], probs.shape[2]))[0][1:]
        value = self.network.encode_value(image, features, competing)
        self._channels = value.shape[1]
        kept = len(self.keys) if self.growing else 1
        self.keys = [*self.keys[:kept], query]
        self.values = [*self.values[:kept], value.flatten(2).flatten(0, 1)]
