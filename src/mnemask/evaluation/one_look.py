"""A network that looks at each frame of a sequence once, however many trackers follow it one after the other."""

import hashlib
import time
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mnemask.model.parts import SharedWeights
from mnemask.model.stcn import STCN, KeyFeatures

MOST_BYTES = 2**30  # about 80 frames of the compact network at 480p


class OneLook(SharedWeights):
    """Another network, but for the key features of a sequence's frames: these are kept, as many as there is room for.

    Key features say nothing of objects, so trackers with other policies, budgets or prompts get the same, bit for bit,
    and a comparison takes half of the time. Features on an accelerator are not kept: its memory is not ours to fill.

    Args:
        network: computes.
        most_bytes: of features to keep.
    """

    def __init__(self, network: STCN, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(network)
        self.network = (network,)  # in a tuple, or its weights would be here twice
        self.most_bytes, self.num_bytes = most_bytes, 0
        self.sequence = ""
        self.seen: dict[bytes, tuple[KeyFeatures, float]] = {}
        self._seconds_spared = 0.0

    def begin(self, sequence: str) -> None:
        """Says that a tracker is about to follow a sequence, by a name; features of others are forgotten."""
        self._seconds_spared = 0.0
        if sequence != self.sequence:
            self.sequence, self.num_bytes = sequence, 0
            self.seen.clear()

    def spared(self) -> float:
        """Returns how much longer it would have taken without this since this was last asked, in seconds."""
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
        num_bytes = sum(getattr(features, name).nbytes for name in KeyFeatures.__slots__)
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
def one_look(network: STCN) -> OneLook:
    """Returns a network that computes as this one does, and in this process always the same, so that it remembers."""
    return OneLook(network)
