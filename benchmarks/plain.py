"""A plain implementation of the network and its memory, with which the fast path is compared in time and masks.

It computes as STCN's original evaluation does: float32 and NCHW throughout, every object's input written out in full,
the affinity of all tokens and all queries as one dense matrix with zeros outside the top k, the readout as a product
with it. It shares the weights with mnemask's network, but no code. BatchNorm is folded into these weights, which alone
makes it about 5 to 15 % faster than the original.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from mnemask.bench.parts import CYCLE, POLICY, TOP_K
from mnemask.datasets.synthetic.drawn import DrawnVideo
from mnemask.metrics import region_similarity
from mnemask.model import preprocess
from mnemask.model.stcn import STCN, KeyFeatures
from mnemask.tracker import Tracker
from mnemask.types import Frame

BLOCKS = {18: (2, 2, 2), 50: (3, 4, 6)}


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
        """Returns a value for each object and cell; masks are probabilities."""
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
        """Returns the output of a basic block or a bottleneck: three convolutions, with the stride in the second."""
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
    """Tracks the objects of a first mask; its memory holds that frame and the latest fifth one, as with `POLICY`.

    Args:
        network: the plain network.
        short_side: as for `Tracker`.
    """

    def __init__(self, network: PlainSTCN, short_side: int | None = 480) -> None:
        self.network, self.short_side = network, short_side
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.steps = 0
        self._channels = 0

    @torch.no_grad()
    def step(
        self, image: UInt8[Tensor, "3 H W"], masks: Bool[Tensor, "K H W"] | None = None
    ) -> tuple[Float[Tensor, "K1 H W"], Int64[Tensor, "H W"]]:
        """Returns probabilities, background first, and the row of the largest; only the first frame takes masks."""
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
        self.keys = [*self.keys[:1], query]
        self.values = [*self.values[:1], value.flatten(2).flatten(0, 1)]


@torch.no_grad()
def plain_parts(plain: PlainSTCN, frame: Frame, short_side: int, num_objects: int) -> dict[str, Callable[[], object]]:
    """Returns the plain way to compute each of `mnemask.bench.parts.network_parts`, by its name."""
    working = preprocess.working_size(frame.size, short_side)
    pixels = frame.image.to(plain.weights["key_projection.weight"].device).float()
    image = preprocess.pad(preprocess.normalize(preprocess.resize(pixels, working)))[None]
    masks = torch.rand(num_objects, *image.shape[2:], device=image.device) / num_objects
    features = plain.encode_key(image)
    value = plain.encode_value(image, features, masks)
    return {
        "key encoder": lambda: plain.encode_key(image),
        "value encoder": lambda: plain.encode_value(image, features, masks),
        "decoder": lambda: plain.decode(value, features),
        "labels": lambda: plain_answer(masks, working, frame.size),
    }


@torch.no_grad()
def plain_cycle(plain: PlainSTCN, video: DrawnVideo, short_side: int) -> Callable[[], object]:
    """Returns the plain way to compute `mnemask.bench.parts.cycle`."""
    device = plain.weights["key_projection.weight"].device
    pictures, (_, truth) = [video[t][0].image.to(device) for t in range(CYCLE + 1)], video[0]
    tracker = PlainTracker(plain, short_side)
    given = torch.stack([truth == k for k in range(1, video.num_objects + 1)])
    tracker.step(pictures[0], given.to(device))

    def follow() -> None:
        for picture in pictures[1:]:
            tracker.step(picture)

    return follow


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the masks of the fast and the plain path agree on a drawn clip.

    Attributes:
        num_objects: number of tracked objects.
        num_frames: number of compared frames; the first, with the given masks, is not compared.
        iou: mean overlap of their masks, over objects and frames.
        largest_difference: largest difference of any probability at any pixel.
    """

    num_objects: int
    num_frames: int
    iou: float
    largest_difference: float


def agreement(model: STCN, plain: PlainSTCN, video: DrawnVideo, short_side: int) -> Agreement:
    """Returns how well the masks of both paths agree."""
    fast = Tracker(model, policy=POLICY, kmn_sigma=0.0, short_side=short_side)  # the plain path reads as STCN does
    slow = PlainTracker(plain, short_side)
    overlaps, largest = [], 0.0
    for frame, truth in video:
        given = None if frame.index else torch.stack([truth == k for k in range(1, video.num_objects + 1)])
        masks = fast.step(frame, None if given is None else dict(enumerate(given, 1)))
        probs, rows = slow.step(frame.image.to(model.device), None if given is None else given.to(model.device))
        if given is None:
            largest = max(largest, float((masks.probs - probs).abs().max()))
            overlaps += [
                region_similarity((rows == k).cpu().numpy(), (masks.labels == k).cpu().numpy())
                for k in range(1, video.num_objects + 1)
            ]
    return Agreement(video.num_objects, len(video) - 1, sum(overlaps) / len(overlaps), largest)
