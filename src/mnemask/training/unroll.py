"""One clip through the network and the memory, differentiably."""

from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.errors import InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LeastUsed
from mnemask.memory.read import read_dense
from mnemask.model.geometry import cells
from mnemask.model.stcn import STCN, STRIDE, KeyFeatures, soft_aggregate
from mnemask.training.regularizers import Dropout, Regularizer


class ClipMemory:
    """What the frames of a batch of clips have left behind; read whole, so that gradients flow to all of it.

    Args:
        banks: one per clip, which decide what is forgotten as they do in a tracker; none where nothing is.
        regularizer: what is done to the affinity.
    """

    def __init__(self, banks: list[MemoryBank], regularizer: Regularizer | None) -> None:
        self.banks, self.regularizer = banks, regularizer
        self.keys: list[Tensor] = []  # each [B P Ck]
        self.values: list[Tensor] = []  # each [B K P Cv]
        self.inside: list[Tensor] = []  # each [B K P]

    def _make_room(self, key: Float[Tensor, "B P Ck"], share: Float[Tensor, "B K P"]) -> None:
        """Counts what the frame that is about to be written has read, then lets the banks make room for it."""
        frame = len(self.keys)
        for clip, bank in enumerate(self.banks):
            if frame > 0:
                bank.read(key[clip], frame)
            pins = torch.full_like(share[clip], frame == 0 and bank.policy.pin, dtype=torch.bool)
            # A bank chooses without looking at values; here they would be a second copy.
            values = share.new_zeros((*pins.shape, 1))
            bank.write(key[clip], values, share[clip], frame=frame, step=frame, pins=pins)

    def write(
        self, key: Float[Tensor, "B P Ck"], value: Float[Tensor, "B K P Cv"], share: Float[Tensor, "B K P"]
    ) -> None:
        """Remembers a frame of each clip; the first is the annotated one.

        Args:
            key: of each cell.
            value: of each object and cell.
            share: how much of each cell each object fills, 0 to 1.
        """
        with torch.no_grad(), torch.autocast(key.device.type, enabled=False):
            self._make_room(key.detach(), share.detach())
        self.keys.append(key)
        self.values.append(value)
        self.inside.append(share.detach() > 0.5)

    def kept(self) -> Int64[Tensor, "B N"] | None:
        """Returns the places of the tokens that are left, counted through all cells that were ever written."""
        if not self.banks:
            return None
        num_cells = self.keys[0].shape[1]
        left = [bank.tokens.frame * num_cells + bank.tokens.cell for bank in self.banks if bank.tokens is not None]
        return torch.stack(left)

    def read(self, query_key: Float[Tensor, "B P Ck"]) -> Float[Tensor, "B K P Cv"]:
        """Returns what each object's memory says at each query."""
        key, value = torch.cat(self.keys, dim=1), torch.cat(self.values, dim=2)
        inside = torch.cat(self.inside, dim=2)
        kept = self.kept()
        if kept is not None:
            key = torch.take_along_dim(key, kept[:, :, None], dim=1)
            value = torch.take_along_dim(value, kept[:, None, :, None], dim=2)
            inside = torch.take_along_dim(inside, kept[:, None, :], dim=2)
        if self.regularizer is None or isinstance(self.regularizer, Dropout):
            # Objects share keys and weights; their values lie side by side, so that one product reads them all.
            weigh = None if self.regularizer is None else self.regularizer.weights
            readout = read_dense(query_key, key, value.transpose(1, 2).flatten(2), weigh=weigh)
            return torch.unflatten(readout, 2, value.shape[1::2]).transpose(1, 2)
        # Reallocation weighs the same memories differently for each object.
        num_objects = value.shape[1]
        query_key, key = (each[:, None].expand(-1, num_objects, -1, -1) for each in (query_key, key))
        return read_dense(query_key, key, value, weigh=partial(self.regularizer.weights, inside=inside))


class Unroll(nn.Module):
    """A network followed through whole clips, for training: what a tracker does, differentiably.

    Each frame reads the memory of the earlier ones, all of it and not only the k most alike; what is written after the
    first frame are the network's own soft predictions, through which gradients flow (thesis 4.2.2). Every frame but the
    last is written.

    Args:
        model: the network; `self.model`, for what wraps or saves it.
        regularizer: what is done to the affinity of every read, in training mode.
        capacity: frames' worth of tokens that are remembered, at least 1; None for all. As in a tracker that writes
            every frame, the policy evicts what a write has no room for. The choice is not differentiable, the rest is.
        policy: chooses what goes: `LeastUsed()`, or `LeastUsed(pin=False)` as in the thesis.
        top_k: memories per query that count as used.

    Raises:
        BudgetError: (from a call) if the capacity is no number of frames from 1.
    """

    def __init__(
        self,
        model: STCN,
        regularizer: Regularizer | None = None,
        capacity: float | None = None,
        policy: LeastUsed = LeastUsed(),
        top_k: int = 20,
    ) -> None:
        super().__init__()
        self.model = model
        self.regularizer, self.capacity, self.policy, self.top_k = regularizer, capacity, policy, top_k

    def forward(
        self, frames: Float[Tensor, "B T 3 H W"], first_masks: Float[Tensor, "B K H W"], valid: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B T-1 K+1 H W"]:
        """Returns the probabilities of every frame after the first, background first.

        Args:
            frames: normalised; sides that are multiples of 16, at least 2 frames.
            first_masks: of the objects in the first frame, 0 to 1.
            valid: which objects there are. The others only fill the batch: they have probability 0 and change nothing.

        Raises:
            InputError: if there is only one frame, or a side is no multiple of 16.
        """
        batch, num_frames, _, height, width = frames.shape
        if num_frames < 2 or height % STRIDE or width % STRIDE:
            raise InputError(
                f"clips of {num_frames} frames of {width}×{height} pixels cannot be unrolled; give at least 2 frames "
                f"with sides that are multiples of {STRIDE}"
            )
        images = frames.transpose(0, 1)
        features = split(self.model.encode_key(images.flatten(0, 1)), num_frames)
        memory = ClipMemory(self._banks(batch, num_frames), self.regularizer if self.training else None)
        masks = first_masks * valid[:, :, None, None]
        outputs = []
        for t in range(1, num_frames):
            self._remember(memory, images[t - 1], features[t - 1], masks)
            probs = self._segment(memory, features[t], valid)
            masks = probs[:, 1:]
            outputs.append(probs)
        return torch.stack(outputs, dim=1)

    def _banks(self, batch: int, num_frames: int) -> list[MemoryBank]:
        """Returns a bank for each clip, or none where everything fits."""
        if self.capacity is None or num_frames - 1 <= self.capacity:
            return []
        return [MemoryBank(self.policy, Budget(frames=self.capacity), self.top_k) for _ in range(batch)]

    def _remember(
        self,
        memory: ClipMemory,
        image: Float[Tensor, "B 3 H W"],
        features: KeyFeatures,
        masks: Float[Tensor, "B K H W"],
    ) -> None:
        value = cells(self.model.encode_value(image, features, masks))
        memory.write(cells(features.key), value, F.avg_pool2d(masks, STRIDE).flatten(2))

    def _segment(
        self, memory: ClipMemory, features: KeyFeatures, valid: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B K+1 H W"]:
        readout = memory.read(cells(features.key))
        planes = readout.transpose(2, 3).unflatten(3, features.key.shape[2:])
        alone = self.model.decode(planes, features).sigmoid() * valid[:, :, None, None]
        probs = soft_aggregate(alone.transpose(0, 1)).transpose(0, 1)
        # Soft aggregation leaves 1e-7 to an object with probability 0, which is what float32 rounds the others by.
        return probs * F.pad(valid, (1, 0), value=True)[:, :, None, None]


def split(features: KeyFeatures, num_frames: int) -> list[KeyFeatures]:
    """Returns the features of each frame from those of all, frame by frame."""
    parts = (features.key, features.compressed, features.stride16, features.stride8, features.stride4)
    return [KeyFeatures(*frame) for frame in zip(*(part.chunk(num_frames) for part in parts), strict=True)]
