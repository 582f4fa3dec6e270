"""Runs small enough for a test."""

from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric

from mnemask.datasets.clips import ClipShape, TrainingClip
from mnemask.model.stcn import STCN, STCNConfig
from mnemask.training.losses import Cosine
from mnemask.training.recipes import Phase, compact
from mnemask.training.trainer import RunOptions, Training

TINY = STCNConfig(
    key_depth=18,
    key_channels=16,
    value_channels=32,
    compressed_channels=16,
    decoder_channels=(16, 16, 16),
    shortcut_kernel=1,
)


class Squares:
    """Bright squares that move over noise, one or two of them."""

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        size, side = shape.size, shape.size // 4
        frames = rng.integers(0, 60, (shape.num_frames, size, size, 3)).astype(np.uint8)
        labels = np.zeros((shape.num_frames, size, size), np.uint8)
        num_objects = int(rng.integers(1, shape.max_objects + 1))
        for label in range(1, num_objects + 1):
            left, top = ((label - 1) * size // 2, int(rng.integers(size - side)))
            for t in range(shape.num_frames):
                box = (slice(top, top + side), slice(left + t, left + t + side))
                frames[t][box] = 120 * label
                labels[t][box] = label
        return TrainingClip(frames, labels, num_objects)


def recipe(steps=6, **changes):
    """A recipe of small clips."""
    small = {"phases": (Phase(1.0, 64),), "batch": 2, "schedule": Cosine(warm_up=2), "frozen": (), **changes}
    return replace(compact(steps), **small)


def start(out, source=None, options=RunOptions(), branch_from=None, **changes):
    """A run on one process."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    out.mkdir(parents=True, exist_ok=True)
    return Training(fabric, recipe(**changes), source or Squares(), STCN(TINY), out, options, None, branch_from)
