"""What a package of one's own can bring to mnemask: a policy, a loss, a regularizer and a data set."""

from dataclasses import dataclass
from pathlib import Path

import torch

import mnemask as mm
from mnemask.datasets.annotated import AnnotatedVideo


@dataclass(frozen=True)
class Newest(mm.Policy):
    """Keeps annotated frames and what was written last; what objects fill stays longer.

    Attributes:
        second_chance: writes by which a cell that objects fill counts as newer, 0 or more.
    """

    second_chance: float = 1.0

    def update(self, memory, new, budget):
        """Returns the best `budget` tokens; `keep_best` keeps pinned ones whatever their score."""
        both = memory + new
        age = both.written_at + self.second_chance * self.write_every * both.mask_fraction.amax(0)
        return mm.keep_best(both, age, budget)


def focal(probs, labels, valid, gamma=2.0):
    """Returns the focal loss (Lin et al. 2017) over the known pixels: the mean of −(1 − p)^γ · log p."""
    known = labels != 255
    p = probs.gather(1, labels.where(known, 0)[:, None])[:, 0].clamp_min(1e-7)
    loss = -((1 - p) ** gamma) * p.log() * known
    return loss.sum() / known.sum().clamp_min(1)


@dataclass(frozen=True)
class Tempered:
    """A softmax of another temperature, so that a query reads fewer memories, or more.

    Attributes:
        temperature: 1 changes nothing; above 0.
    """

    temperature: float = 2.0

    def weights(self, affinity, inside):
        """Returns the weight of each memory at each query; `inside` says which ones are the object's."""
        return torch.softmax(affinity / self.temperature, -1)


def open_side_by_side(root):
    """Returns the videos of a folder in which NAME/0000.jpg lies beside its mask NAME/0000_mask.png."""
    videos = []
    for folder in sorted(path for path in Path(root).iterdir() if path.is_dir()):
        frames = sorted(folder.glob("*.jpg"))
        masks = {index: frame.with_name(f"{frame.stem}_mask.png") for index, frame in enumerate(frames)}
        masks = {index: mask for index, mask in masks.items() if mask.is_file()}
        if masks:
            videos.append(AnnotatedVideo(folder.name, frames, masks, single_object=False))
    return videos
