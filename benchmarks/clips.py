"""The clips that benchmarks score on, by name, and the loop that tracks one with several trackers at once.

The held-out set is eight clips of two to four objects that hide each other, always the same. They are generated without
any files. Networks trained on photographs and real video, as the shipped ones are, have seen neither these objects nor
this background; a network trained on SyntheticVideo without photographs must be measured on other clips.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from copy_paste import CopyPasteVideo

import mnemask as mm
from mnemask.datasets.annotated import AnnotatedVideo
from mnemask.datasets.synthetic.video import SyntheticVideo
from mnemask.engines.parts import FeatureCache
from mnemask.metrics import SequenceScorer

NUM_FRAMES = 40
SIZE = (480, 854)
PACE = 3  # makes 40 frames enough for objects to meet and to part


@dataclass(frozen=True, slots=True)
class HeldOutClip:
    """One clip of the set; `open` generates it. The attributes are those of SyntheticVideo."""

    name: str
    num_objects: int
    seed: int
    lookalikes: bool = False
    num_occluders: int = 0

    def open(self, num_frames: int = NUM_FRAMES, size: tuple[int, int] = SIZE) -> SyntheticVideo:
        """Returns the clip; fewer frames give its beginning, another size gives another scene."""
        return SyntheticVideo(
            num_frames,
            size,
            self.num_objects,
            self.seed,
            lookalikes=self.lookalikes,
            num_occluders=self.num_occluders,
            pace=PACE,
        )


# In each, more than half of an object is hidden for a while; the seeds are part of the set.
HELD_OUT = (
    HeldOutClip("pair", 2, 200),
    HeldOutClip("pair-leaving", 2, 203),
    HeldOutClip("pair-screened", 2, 205, num_occluders=1),
    HeldOutClip("pair-doubled", 2, 202, lookalikes=True, num_occluders=1),
    HeldOutClip("three-screened", 3, 201, num_occluders=1),
    HeldOutClip("three-doubled", 3, 201, lookalikes=True),
    HeldOutClip("four-screened", 4, 204, num_occluders=1),
    HeldOutClip("four-crowded", 4, 201, num_occluders=2),
)


@dataclass(frozen=True)
class Clip:
    """A clip by its kind and name."""

    kind: str
    name: str


class Videos(Protocol):
    """Videos by name."""

    def __getitem__(self, name: str) -> AnnotatedVideo: ...


def pair_names(pairs: Sequence[tuple[str, str, int]]) -> list[str]:
    return [f"{host}+{guest}" for host, guest, _ in pairs]


def pasted(name: str, pairs: Sequence[tuple[str, str, int]], videos: Videos) -> CopyPasteVideo:
    """Returns the video of a pair by its name, HOST+GUEST."""
    host, guest, seed = pairs[pair_names(pairs).index(name)]
    return CopyPasteVideo(videos[host], videos[guest], seed)


def drawn(name: str, clips: Sequence[HeldOutClip] = HELD_OUT) -> HeldOutClip:
    return next(clip for clip in clips if clip.name == name)


def first_masks(labels: np.ndarray) -> dict[int, torch.Tensor]:
    return {int(label): torch.from_numpy(labels == label) for label in np.unique(labels) if label}


Name = TypeVar("Name", bound=Hashable)


def follow(
    frames: Iterable[tuple[mm.Frame | np.ndarray, np.ndarray]],
    trackers: Mapping[Name, mm.Tracker],
    scorers: Mapping[Name, SequenceScorer],
    caches: Collection[FeatureCache] = (),
    on_frame: Callable[[], None] = lambda: None,
) -> None:
    """Tracks one clip with all trackers in step, from the masks of its first frame, and scores each.

    `caches` are the feature caches that trackers share, so that a frame is encoded once.
    """
    for number, (frame, labels) in enumerate(frames):
        for cache in caches:
            cache.begin(f"frame {number}")  # earlier frames are not needed again
        prompts = None if number else first_masks(labels)
        for name, tracker in trackers.items():
            scorers[name].add(labels, tracker.step(frame, prompts).labels.cpu().numpy().astype(np.uint8))
        on_frame()
