"""Differentiable tracking of clips, and the memory that it uses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from mnemask.config import TrackerConfig
from mnemask.errors import InputError
from mnemask.memory.bank import MemoryBank
from mnemask.memory.budget import Budget
from mnemask.memory.policies import LFU, Diverse, Policy
from mnemask.memory.read import KMNKernel, check_kmn_sigma, read_dense
from mnemask.memory.tokens import CellGrid
from mnemask.model.preprocess import cells
from mnemask.model.stcn import STCN, STRIDE, KeyFeatures, soft_aggregate
from mnemask.training.custom import CustomRegularizer
from mnemask.training.regularizers import Dropout, Regularizer


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of the clips of one step.

    Attributes:
        reads: for each frame after the first, the earlier frames that it reads, ascending; None for all of them.
        capacity: frames' worth of tokens that are kept, at least 1; None for all. As in a tracker that writes every
            frame, the policy evicts tokens if a write does not fit. The choice is not differentiable, the rest is.
        policy: policy that chooses the evicted tokens.
        kmn_sigma: σ of the KMN kernel as a fraction of the short side; 0 disables it.

    Raises:
        InputError: both `reads` and `capacity` are given, or the kernel is invalid.
    """

    reads: tuple[tuple[int, ...], ...] | None = None
    capacity: float | None = None
    policy: Policy = LFU()
    kmn_sigma: float = 0.0

    def __post_init__(self) -> None:
        check_kmn_sigma(self.kmn_sigma)
        if self.reads is not None and self.capacity is not None:
            raise InputError(
                f"a memory plan has reads {self.reads} and a capacity of {self.capacity} frames", "give one of the two"
            )

    def read_by(self, frame: int) -> tuple[int, ...]:
        """Returns the frames that a frame, counted from 1, reads."""
        return tuple(range(frame)) if self.reads is None else self.reads[frame - 1]

    def is_read(self, frame: int, num_frames: int) -> bool:
        """Returns whether a later frame of a clip reads this one."""
        return any(frame in self.read_by(later) for later in range(frame + 1, num_frames))


@dataclass(frozen=True, slots=True)
class MemoryInUse:
    """How a step's memory plan is drawn. The defaults are the thesis's: every frame reads all earlier ones.

    A tracker writes every fifth frame, evicts tokens, and only sometimes has the previous frame in memory; a network
    that always has the previous frame in memory learns to rely on it.

    Attributes:
        keep: probability that a frame between the first and the previous one is read.
        latest: fraction of steps in which the previous frame is read.
        own: probability that a frame that would read only the first one also reads another, with a mask predicted by
            the network.
        bounded: fraction of steps in which a policy with a budget decides instead.
        capacities: budgets in frames' worth of tokens, equally likely.
        policies: policies, equally likely.
        kmn_sigma: σ of the KMN kernel as a fraction of the short side; 0 disables it.
        kernelled: fraction of steps with the kernel.

    Raises:
        InputError: a probability or fraction, a budget or the kernel is out of range.
    """

    keep: float = 1.0
    latest: float = 1.0
    own: float = 0.0
    bounded: float = 0.0
    capacities: tuple[float, ...] = (1.5, 2.0, 3.0)
    policies: tuple[Policy, ...] = (LFU(pin=False), LFU(), Diverse())
    kmn_sigma: float = 0.0
    kernelled: float = 0.5

    def __post_init__(self) -> None:
        check_kmn_sigma(self.kmn_sigma)
        parts = self.keep, self.latest, self.own, self.bounded, self.kernelled
        if not all(0 <= part <= 1 for part in parts):
            raise InputError(f"a memory plan cannot be drawn with the fractions {parts}", "expected each from 0 to 1")
        if wrong := [each for each in self.capacities if not 1 <= each < inf]:
            raise InputError(f"a capacity of {wrong[0]} frames cannot be used", "give a capacity of 1 or more")
        if self.bounded and not (self.capacities and self.policies):
            raise InputError("a bounded memory has no capacities or no policies", "give at least one of each")

    def within(self, capacity: float) -> "MemoryInUse":
        """Returns the memory that always has this budget, with the annotated frame pinned."""
        return replace(self, bounded=1.0, capacities=(capacity,), policies=(LFU(),))

    def plan(self, rng: np.random.Generator, num_frames: int) -> MemoryPlan:
        """Returns a random plan for clips of `num_frames` frames."""
        kmn_sigma = self.kmn_sigma if rng.random() < self.kernelled else 0.0
        if rng.random() < self.bounded:
            capacity = self.capacities[int(rng.integers(len(self.capacities)))]
            policy = self.policies[int(rng.integers(len(self.policies)))]
            return MemoryPlan(None, capacity, policy, kmn_sigma)
        latest = rng.random() < self.latest
        between = rng.random((num_frames, num_frames)) < self.keep
        reads = [
            (0, *(t for t in range(1, frame) if (latest if t == frame - 1 else between[frame, t])))
            for frame in range(1, num_frames)
        ]
        for frame in range(2, num_frames):
            # A tracker has only the given mask until its first write.
            if reads[frame - 1] == (0,) and rng.random() < self.own:
                reads[frame - 1] = (0, int(rng.integers(1, frame)))
        return MemoryPlan(tuple(reads), kmn_sigma=kmn_sigma)


class ClipMemory:
    """The memory of a batch of clips; all of it is read, so that gradients flow to all tokens.

    Args:
        banks: one bank per clip, which chooses evicted tokens as in a tracker; empty if nothing is evicted.
        regularizer: regularizer of the affinity.
        kernel: KMN kernel of the read; None for none.
    """

    def __init__(
        self,
        banks: list[MemoryBank],
        regularizer: Regularizer | CustomRegularizer | None = None,
        kernel: KMNKernel | None = None,
    ) -> None:
        self.banks, self.regularizer, self.kernel = banks, regularizer, kernel
        self.keys: dict[int, Tensor] = {}  # by frame, each [B P Ck]
        self.values: dict[int, Tensor] = {}  # each [B K P Cv]
        self.inside: dict[int, Tensor] = {}  # each [B K P]

    def _make_room(self, frame: int, key: Float[Tensor, "B P Ck"], mask_fraction: Float[Tensor, "B K P"]) -> None:
        """Counts the read of the frame about to be written as usage, then lets the banks make room for the frame."""
        for clip, bank in enumerate(self.banks):
            pins = torch.zeros_like(mask_fraction[clip], dtype=torch.bool)
            if frame > 0:
                bank.read(key[clip], frame)
            elif bank.policy.pin and bank.grid is not None:
                pins[:] = bank.policy.pinned_part(mask_fraction[clip].unflatten(1, bank.grid.shape)).flatten()
            # A bank evicts without looking at values, so they need not be copied into it.
            values = mask_fraction.new_zeros((*pins.shape, 1))
            bank.write(key[clip], values, mask_fraction[clip], frame=frame, step=frame, pins=pins)

    def write(
        self,
        frame: int,
        key: Float[Tensor, "B P Ck"],
        value: Float[Tensor, "B K P Cv"],
        mask_fraction: Float[Tensor, "B K P"],
    ) -> None:
        """Writes a frame of each clip to the memory.

        Args:
            frame: index of the frame in the clip; 0 is the annotated one. With banks, all frames are written in order.
            key: key of each cell.
            value: value of each object and cell.
            mask_fraction: fraction of each cell that each object covers, 0 to 1.
        """
        with torch.no_grad(), torch.autocast(key.device.type, enabled=False):
            # Under autocast masks have different precisions; a bank stores one.
            self._make_room(frame, key.detach().float(), mask_fraction.detach().float())
        self.keys[frame] = key
        self.values[frame] = value
        self.inside[frame] = mask_fraction.detach() > 0.5

    def kept(self) -> Int64[Tensor, "B N"] | None:
        """Returns the indices of the remaining tokens among all cells ever written; None without banks."""
        if not self.banks:
            return None
        num_cells = self.keys[0].shape[1]
        left = [bank.tokens.frame * num_cells + bank.tokens.cell for bank in self.banks if bank.tokens is not None]
        return torch.stack(left)

    def read(self, query_key: Float[Tensor, "B P Ck"], frames: Sequence[int]) -> Float[Tensor, "B K P Cv"]:
        """Returns each object's readout at each query from the memory of `frames`; with banks, all frames written."""
        key = torch.cat([self.keys[frame] for frame in frames], dim=1)
        value = torch.cat([self.values[frame] for frame in frames], dim=2)
        inside = torch.cat([self.inside[frame] for frame in frames], dim=2)
        kept = self.kept()
        if kept is not None:
            key = torch.take_along_dim(key, kept[:, :, None], dim=1)
            value = torch.take_along_dim(value, kept[:, None, :, None], dim=2)
            inside = torch.take_along_dim(inside, kept[:, None, :], dim=2)
        if self.regularizer is None or isinstance(self.regularizer, Dropout):
            # Objects share keys and weights; their values are concatenated, so that one product reads them all.
            weigh = None if self.regularizer is None else self.regularizer.weights
            readout = read_dense(query_key, key, value.transpose(1, 2).flatten(2), weigh=weigh, kernel=self.kernel)
            return torch.unflatten(readout, 2, value.shape[1::2]).transpose(1, 2)
        # Reallocation and custom regularizers weight the same tokens differently for each object.
        num_objects = value.shape[1]
        query_key, key = (each[:, None].expand(-1, num_objects, -1, -1) for each in (query_key, key))
        weigh = partial(self.regularizer.weights, inside=inside)
        return read_dense(query_key, key, value, weigh=weigh, kernel=self.kernel)


class ClipTracker(nn.Module):
    """Tracks objects through whole clips as a tracker does, but differentiably, for training.

    Each frame reads all memory of earlier frames, not only the top k tokens; after the first frame the network's own
    soft predictions are written, and gradients flow through them (thesis 4.2.2).

    Args:
        model: the network; also `self.model`, for code that wraps or saves it.
        regularizer: regularizer of the affinity of every read, in training mode.
        plan: which earlier frames each frame reads; by default all. `self.plan` may be set before each call.
        top_k: number of tokens per query that count as used, if the plan has a budget.

    Raises:
        BudgetError: (from a call) the plan's capacity is below 1 frame.
    """

    def __init__(
        self,
        model: STCN,
        regularizer: Regularizer | CustomRegularizer | None = None,
        plan: MemoryPlan = MemoryPlan(),
        top_k: int = 20,
    ) -> None:
        super().__init__()
        self.model = model
        self.regularizer, self.plan, self.top_k = regularizer, plan, top_k

    def forward(
        self, frames: Float[Tensor, "B T 3 H W"], first_masks: Float[Tensor, "B K H W"], valid: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B T-1 K+1 H W"]:
        """Returns the probabilities of every frame after the first, background first.

        Args:
            frames: normalised frames, at least 2, with sides that are multiples of 16.
            first_masks: masks of the objects in the first frame, 0 to 1.
            valid: which objects exist. The others only pad the batch: they have probability 0 and no effect.

        Raises:
            InputError: there is only one frame, or a side is not a multiple of 16.
        """
        batch, num_frames, _, height, width = frames.shape
        if num_frames < 2 or height % STRIDE or width % STRIDE:
            raise InputError(
                f"clips of {num_frames} frames of {width}×{height} pixels cannot be trained on",
                f"give at least 2 frames with sides that are multiples of {STRIDE}",
            )
        images = frames.transpose(0, 1)
        features = split(self.model.encode_key(images.flatten(0, 1)), num_frames)
        plan, grid = self.plan, CellGrid((height, width), None)
        memory = ClipMemory(
            self._banks(plan, grid, batch, num_frames),
            self.regularizer if self.training else None,
            KMNKernel.from_sigma(plan.kmn_sigma, grid.shape),
        )
        masks = first_masks * valid[:, :, None, None]
        outputs = []
        for t in range(1, num_frames):
            if plan.is_read(t - 1, num_frames):
                self._remember(memory, t - 1, images[t - 1], features[t - 1], masks)
            probs = self._segment(memory, plan.read_by(t), features[t], valid)
            masks = probs[:, 1:]
            outputs.append(probs)
        return torch.stack(outputs, dim=1)

    def _banks(self, plan: MemoryPlan, grid: CellGrid, batch: int, num_frames: int) -> list[MemoryBank]:
        """Returns a bank for each clip, or none if everything fits."""
        if plan.capacity is None or num_frames - 1 <= plan.capacity:
            return []
        budget = Budget(frames=plan.capacity)
        config = TrackerConfig(plan.policy, budget, top_k=self.top_k, kmn_sigma=plan.kmn_sigma, short_side=None)
        banks = [MemoryBank(config) for _ in range(batch)]
        for bank in banks:
            bank.grid = grid
        return banks

    def _remember(
        self,
        memory: ClipMemory,
        frame: int,
        image: Float[Tensor, "B 3 H W"],
        features: KeyFeatures,
        masks: Float[Tensor, "B K H W"],
    ) -> None:
        value = cells(self.model.encode_value(image, features, masks))
        memory.write(frame, cells(features.key), value, F.avg_pool2d(masks, STRIDE).flatten(2))

    def _segment(
        self, memory: ClipMemory, frames: Sequence[int], features: KeyFeatures, valid: Bool[Tensor, "B K"]
    ) -> Float[Tensor, "B K+1 H W"]:
        readout = memory.read(cells(features.key), frames)
        planes = readout.transpose(2, 3).unflatten(3, features.key.shape[2:])
        alone = self.model.decode(planes, features).sigmoid() * valid[:, :, None, None]
        probs = soft_aggregate(alone.transpose(0, 1)).transpose(0, 1)
        # Soft aggregation gives an object with probability 0 about 1e-7, as much as float32 rounds the others by.
        return probs * F.pad(valid, (1, 0), value=True)[:, :, None, None]


def split(features: KeyFeatures, num_frames: int) -> list[KeyFeatures]:
    """Returns the features of each frame from those of all frames, in order."""
    return [KeyFeatures(*frame) for frame in zip(*(part.chunk(num_frames) for part in features), strict=True)]
