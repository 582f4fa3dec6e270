"""The network's parts for other engines: as modules from tensors to tensors, and as a class with methods to override.

`FeatureCache` lets several trackers on the same sequence encode each frame only once.
"""

import hashlib
import time
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemask.model.stcn import STCN, KeyFeatures

MOST_BYTES = 2**30  # about 80 frames of the compact network at 480p


class SharedWeights(STCN):
    """An STCN with the weights of another one; a base class for overriding its methods."""

    def __init__(self, model: STCN) -> None:
        super(STCN, self).__init__()
        self.config, self.content, self.path = model.config, model.content, model.path
        for name, part in model.named_children():
            self.add_module(name, part)
        self.train(model.training)


class KeyPart(nn.Module):
    """`STCN.encode_key`, with the features as a tuple in the order of KeyFeatures."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        key, compressed, stride16, stride8, stride4 = self.network.encode_key(image)
        return key, compressed, stride16, stride8, stride4


class ValuePart(nn.Module):
    """`STCN.encode_value`, with only those features that it needs."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        image: Float[Tensor, "B 3 H W"],
        stride16: Float[Tensor, "B C16 h w"],
        masks: Float[Tensor, "B K H W"],
    ) -> Float[Tensor, "B K Cv h w"]:
        unused = stride16[:, :0]
        return self.network.encode_value(image, KeyFeatures(unused, unused, stride16, unused, unused), masks)


class DecodePart(nn.Module):
    """`STCN.decode`, with only those features that it needs."""

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        readout: Float[Tensor, "B K Cv h w"],
        compressed: Float[Tensor, "B Cc h w"],
        stride8: Float[Tensor, "B C8 h8 w8"],
        stride4: Float[Tensor, "B C4 h4 w4"],
    ) -> Float[Tensor, "B K H W"]:
        unused = compressed[:, :0]
        return self.network.decode(readout, KeyFeatures(unused, compressed, unused, stride8, stride4))


class FeatureCache(SharedWeights):
    """A network that caches the key features of a sequence's frames, up to `most_bytes`.

    Key features do not depend on objects, so trackers with other policies, budgets or prompts get the same, bit for
    bit, and a comparison takes half the time. Features on an accelerator are not cached, to leave its memory free.

    Args:
        network: the network that computes.
        most_bytes: the most bytes of features to cache.
    """

    def __init__(self, network: STCN, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(network)
        self.network = (network,)  # in a tuple, so that its weights are not registered twice
        self.most_bytes, self.num_bytes = most_bytes, 0
        self.sequence = ""
        self.seen: dict[bytes, tuple[KeyFeatures, float]] = {}
        self._seconds_spared = 0.0

    def begin(self, sequence: str) -> None:
        """Begins a sequence with this name; cached features of other sequences are dropped."""
        self._seconds_spared = 0.0
        if sequence != self.sequence:
            self.sequence, self.num_bytes = sequence, 0
            self.seen.clear()

    def spared(self) -> float:
        """Returns the time that the cache has saved since the last call, in seconds."""
        seconds, self._seconds_spared = self._seconds_spared, 0.0
        return seconds

    def encode_key(self, image: Float[Tensor, "B 3 H W"]) -> KeyFeatures:
        """Returns keys and features of images, see STCN."""
        if image.device.type != "cpu":
            return self.network[0].encode_key(image)
        begin = time.perf_counter()
        pixels = image.permute(0, 2, 3, 1).contiguous().flatten().view(torch.uint8)
        look = hashlib.blake2b(pixels.numpy().data).digest()
        self._seconds_spared -= time.perf_counter() - begin
        if look in self.seen:
            features, seconds = self.seen[look]
            self._seconds_spared += seconds
            return features
        begin = time.perf_counter()
        features = self.network[0].encode_key(image)
        seconds = time.perf_counter() - begin
        num_bytes = sum(each.nbytes for each in features)
        if self.num_bytes + num_bytes <= self.most_bytes:
            self.seen[look] = features, seconds
            self.num_bytes += num_bytes
        return features

    def encode_value(
        self, image: Float[Tensor, "B 3 H W"], features: KeyFeatures, masks: Float[Tensor, "B K H W"]
    ) -> Float[Tensor, "B K Cv h w"]:
        """Returns a value per object and cell, see STCN."""
        return self.network[0].encode_value(image, features, masks)

    def decode(self, readout: Float[Tensor, "B K Cv h w"], features: KeyFeatures) -> Float[Tensor, "B K H W"]:
        """Returns the logit of each object at each pixel, see STCN."""
        return self.network[0].decode(readout, features)


@lru_cache(maxsize=1)
def cached_features(network: STCN) -> FeatureCache:
    """Returns a cache for a network; in this process it is the same one until another network is given."""
    return FeatureCache(network)
