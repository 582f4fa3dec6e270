"""From clips to batches: which clip comes when depends on the seed and the step alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, Dataset

from mnemask.datasets.clips import IGNORE, ClipSource, TrainingClip
from mnemask.model.geometry import normalize
from mnemask.training.recipes import Recipe

# Seeds of different things must differ in their first number: numpy takes (1, 2) and (1, 2, 0) for the same.
CLIPS, COUNTS = 1, 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips side by side; those with fewer than K objects are filled up with objects that are not `valid`."""

    frames: UInt8[Tensor, "B T H W 3"]
    labels: UInt8[Tensor, "B T H W"]
    valid: Bool[Tensor, "B K"]

    def to(self, device: torch.device) -> "Batch":
        """Returns the batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in (self.frames, self.labels, self.valid)))

    def pin_memory(self) -> "Batch":
        """Returns the batch in memory that a GPU can fetch from by itself."""
        return Batch(self.frames.pin_memory(), self.labels.pin_memory(), self.valid.pin_memory())

    def images(self) -> Float[Tensor, "B T 3 H W"]:
        """Returns the normalised frames."""
        return normalize(self.frames.movedim(-1, 2))

    def targets(self) -> tuple[Int64[Tensor, "n H W"], Bool[Tensor, "n K"]]:
        """Returns what the loss compares with: labels and objects of all frames after the first, clip by clip."""
        later = self.labels[:, 1:]
        return later.flatten(0, 1).long(), self.valid.repeat_interleave(later.shape[1], 0)

    def first_masks(self) -> Float[Tensor, "B K H W"]:
        """Returns each object's mask in the first frame; what nobody knows is background there."""
        first = self.labels[:, 0].long()
        known = first.where(first != IGNORE, first.new_zeros(()))
        return one_hot(known, self.valid.shape[1] + 1).movedim(-1, 1)[:, 1:].float()


def collate(clips: list[TrainingClip]) -> Batch:
    """Returns clips side by side, filled up to as many objects as one of them has."""
    counts = torch.tensor([clip.num_objects for clip in clips])
    return Batch(
        torch.from_numpy(np.stack([clip.frames for clip in clips])),
        torch.from_numpy(np.stack([clip.labels for clip in clips])),
        torch.arange(int(counts.max())) < counts[:, None],
    )


class Batches(Dataset[Batch]):
    """The batches of one process; item `i` is part i mod `parts` of step i // `parts`.

    A step's clips are numbered through all processes and parts, so that two processes of two clips see what one
    process of four sees. All clips of a step have room for equally many objects, drawn with the step: nothing is
    computed for a second object in a step of single ones.

    Args:
        source: what clips are drawn from.
        recipe: how many, how large, in which order.
        parts: gradients are added up over so many parts of a step.
        rank: number of the process, from 0.
        world: number of processes.
    """

    def __init__(self, source: ClipSource, recipe: Recipe, parts: int = 1, rank: int = 0, world: int = 1) -> None:
        self.source, self.recipe = source, recipe
        self.parts, self.rank, self.world = parts, rank, world
        self.clips_per_part = recipe.batch // (parts * world)

    def __len__(self) -> int:
        return self.recipe.steps * self.parts

    def __getitem__(self, index: int) -> Batch:
        step, seed = index // self.parts, self.recipe.seed
        num_objects = int(np.random.default_rng((COUNTS, seed, step)).integers(self.recipe.max_objects)) + 1
        shape = self.recipe.shape(step, num_objects)
        first = (index * self.world + self.rank) * self.clips_per_part
        numbers = range(first, first + self.clips_per_part)
        return collate([self.source.draw(np.random.default_rng((CLIPS, seed, n)), shape) for n in numbers])


def load(batches: Batches, from_step: int, workers: int, pin: bool) -> Iterator[Batch]:
    """Yields the batches from a step on; `workers` processes draw ahead, without them each is drawn when it is due."""
    return iter(
        DataLoader(
            batches,
            batch_size=None,
            sampler=range(from_step * batches.parts, len(batches)),
            num_workers=workers,
            worker_init_fn=_one_thread,
            pin_memory=pin,
            prefetch_factor=4 if workers else None,
            # Started afresh rather than forked: a fork of a process with threads may hang.
            multiprocessing_context="forkserver" if workers else None,
        )
    )


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
