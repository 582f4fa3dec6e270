"""Training clips of a few frames, their sources, and mixtures of sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8

from mnemask.errors import InputError
from mnemask.metrics import VOID

MIN_VISIBLE = 0.002


@dataclass(frozen=True, slots=True)
class ClipShape:
    """The requested shape of a clip.

    Attributes:
        size: side of the square frames in pixels, at least 32.
        num_frames: number of frames, at least 2.
        max_objects: maximum number of objects, 1 to 254.
        max_gap: maximum distance between successive frames in a real video, in frames; ignored by sources without time.

    Raises:
        InputError: a value is out of range.
    """

    size: int = 384
    num_frames: int = 3
    max_objects: int = 2
    max_gap: int = 5

    def __post_init__(self) -> None:
        if self.size < 32 or self.num_frames < 2 or not 1 <= self.max_objects < VOID or self.max_gap < 1:
            raise InputError(
                f"clips of {self.num_frames} frames of {self.size} pixels with up to {self.max_objects} objects "
                f"and gaps up to {self.max_gap} cannot be made",
                "expected at least 2 frames, 32 pixels, a gap of 1 and 1 to 254 objects",
            )


@dataclass(frozen=True, slots=True)
class TrainingClip:
    """A few frames and the labels of the objects to follow through them.

    Attributes:
        frames: RGB frames.
        labels: 0 for background, object ids from 1 to `num_objects`, 255 where unknown (void, new objects and unclear
            edges in real clips, an object's mirror image beyond a photograph's border).
        num_objects: number of objects, at least 1; each covers at least 0.2 % of the first frame.
    """

    frames: UInt8[np.ndarray, "T S S 3"]
    labels: UInt8[np.ndarray, "T S S"]
    num_objects: int


@runtime_checkable
class ClipSource(Protocol):
    """An endless source of clips."""

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip that depends on the state of `rng` and on `shape` alone."""


def keep_visible(labels: UInt8[np.ndarray, "T S S"], max_objects: int) -> tuple[UInt8[np.ndarray, "T S S"], int]:
    """Returns labels with only the objects that are visible in the first frame, numbered from 1, and their count.

    Visible objects cover at least 0.2 % of it. All others, and objects beyond `max_objects`, become background.
    """
    enough = max(16, MIN_VISIBLE * labels[0].size)
    counts = np.bincount(labels[0].ravel(), minlength=256)
    shown = [label for label in range(1, VOID) if counts[label] >= enough][:max_objects]
    table = np.zeros(256, np.uint8)
    table[shown] = np.arange(1, len(shown) + 1)
    table[VOID] = VOID
    return cv2.LUT(labels.reshape(len(labels), -1), table).reshape(labels.shape), len(shown)


class Mixture:
    """An endless source that draws each clip from one of several sources, in proportion to their weights.

    Args:
        sources: pairs of a source and its relative weight; for a set repeated five times per epoch, 5 × its length.

    Raises:
        InputError: there are no sources, or the weights are negative, not finite or all 0.

    Example:
        Mixture([(big, 5 * len(big)), (duts, len(duts))])
    """

    def __init__(self, sources: Sequence[tuple[ClipSource, int | float]]) -> None:
        weights = np.array([weight for _, weight in sources], float)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise InputError(
                f"clip sources cannot be mixed with the weights {weights.tolist()}",
                "expected at least one source, and weights of at least 0 that are not all 0",
            )
        self.sources = tuple(source for source, _ in sources)
        self.shares = weights / weights.sum()

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip of one of the sources; raises what the source raises."""
        return self.sources[int(rng.choice(len(self.sources), p=self.shares))].draw(rng, shape)
