"""What is exported: the tracker's steps as modules of fixed shapes, whose inputs are plain arrays.

The shapes are those of the legend in `mnemask.memory.tokens`; Hp and Wp are the frame's sides with the padding.
"""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from mnemask.memory.read import Kernel, affinity, key_energy
from mnemask.model import geometry
from mnemask.model.parts import DecodePart, KeyPart, ValuePart
from mnemask.model.stcn import STCN, soft_aggregate


def prepared(frame: UInt8[Tensor, "H W 3"]) -> Float[Tensor, "1 3 Hp Wp"]:
    """Returns a frame as the network takes it."""
    return geometry.pad(geometry.normalize(frame.movedim(2, 0)))[None]


class KeyGraph(nn.Module):
    """Looks at a frame: its keys, and features for the two graphs below."""

    outputs = ("key", "compressed", "stride16", "stride8", "stride4")

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = KeyPart(network)

    def forward(self, frame: UInt8[Tensor, "H W 3"]) -> tuple[Float[Tensor, "P Ck"], Tensor, Tensor, Tensor, Tensor]:
        """Returns the keys, and what the other graphs take."""
        key, *features = self.part(prepared(frame))
        compressed, stride16, stride8, stride4 = features
        return geometry.cells(key[0]), compressed, stride16, stride8, stride4


class ReadGraph(nn.Module):
    """Reads a memory of fixed room, of which the first `length` tokens are written."""

    outputs = ("readout", "index", "weight")

    def __init__(self, top_k: int, kernel: Kernel | None) -> None:
        super().__init__()
        self.top_k, self.kernel = top_k, kernel

    def forward(
        self,
        query_key: Float[Tensor, "P Ck"],
        memory_key: Float[Tensor, "N Ck"],
        memory_value: Float[Tensor, "K N Cv"],
        length: Int64[Tensor, ""],
    ) -> tuple[Float[Tensor, "K P Cv"], Int64[Tensor, "P k"], Float[Tensor, "P k"]]:
        """Returns what each query reads for each object, from which tokens, and with which weight."""
        alike = affinity(query_key, memory_key, key_energy(memory_key))
        if self.kernel is not None:
            place = self.kernel.of_memories(query_key, memory_key, "l2")
            alike = alike + self.kernel.of_queries(query_key) @ place.T
        unwritten = torch.arange(memory_key.shape[0]) >= length
        best, index = torch.topk(alike.masked_fill(unwritten, -torch.inf), self.top_k, dim=-1)
        weight = best.softmax(-1)
        chosen = memory_value.index_select(1, index.flatten()).unflatten(1, index.shape)  # [K P k Cv]
        return (weight[:, None] @ chosen).squeeze(2), index, weight


class DecodeGraph(nn.Module):
    """Turns what was read into probabilities, background first; padding included."""

    outputs = ("probs",)

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = DecodePart(network)

    def forward(
        self, readout: Float[Tensor, "K P Cv"], compressed: Tensor, stride8: Tensor, stride4: Tensor
    ) -> Float[Tensor, "K1 Hp Wp"]:
        """Returns probabilities that sum to 1."""
        cells = compressed.shape[2:]
        planes = readout.unflatten(1, cells).movedim(3, 1)[None]
        return soft_aggregate(self.part(planes, compressed, stride8, stride4)[0].sigmoid())


class ValueGraph(nn.Module):
    """Looks at a frame and its probabilities: the values to remember."""

    outputs = ("value",)

    def __init__(self, network: STCN) -> None:
        super().__init__()
        self.part = ValuePart(network)

    def forward(
        self, frame: UInt8[Tensor, "H W 3"], stride16: Tensor, probs: Float[Tensor, "K1 Hp Wp"]
    ) -> Float[Tensor, "K P Cv"]:
        """Returns a value per object and cell."""
        return geometry.cells(self.part(prepared(frame), stride16, probs[None, 1:])[0])
