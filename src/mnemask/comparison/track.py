"""Tracks the video with one policy: forwards to the end, and from there backwards to the first given masks.

::

    OUT/policies/NAME/masks/FRAME.png      indexed PNG
    OUT/policies/NAME/overlay.mp4          the whole video with these masks
    OUT/policies/NAME/result.json          times, bytes, states of the memory; a folder with it is complete
    OUT/policies/NAME/way_back.json        forward-backward consistency
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Integer

from mnemask.comparison.frames import FrameStore
from mnemask.comparison.look import cell_edges, look_into
from mnemask.errors import InputError, MaskError
from mnemask.evaluation.runner import timed
from mnemask.io import MaskWriter, label_files, prefetch
from mnemask.io.atomic import make_folder
from mnemask.io.written import Written
from mnemask.metrics import region_similarity
from mnemask.pipeline import PromptFunction, write_report
from mnemask.tracker import Tracker
from mnemask.types import Frame, Prompt

Labels = Integer[np.ndarray, "H W"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """The result of one policy.

    Attributes:
        policy: the policy's name.
        description: its class and settings.
        budget: its budget, in words.
        write_every: its write interval in frames.
        write_on_growth: the fraction by which an object must grow for an early write; 0 for none.
        given: ids of the objects with a mask as prompt, by frame.
        seconds: the time that the tracker took for each frame, without decoding and writing.
        bank_bytes: the bytes in the memory bank after each frame.
        frames_held: the tokens in memory after each frame, in frames' worth of tokens.
        threads: the number of threads used.
        edges: the edges of a frame's cells, see `cell_edges`.
        looks: recorded states of the memory, see `look_into`.
        own_policy: class and parameters of a policy without a built-in name; for the user's own code also a digest of
            its source.
    """

    policy: str
    description: str
    budget: str
    write_every: int
    write_on_growth: float
    given: dict[int, list[int]]
    seconds: list[float]
    bank_bytes: list[int]
    frames_held: list[float]
    threads: int
    edges: dict[str, list[float]]
    looks: list[dict[str, Any]]
    own_policy: dict[str, Any] = field(default_factory=dict)

    @property
    def object_ids(self) -> list[int]:
        """All objects that were tracked."""
        return sorted({object_id for ids in self.given.values() for object_id in ids})

    def tracked_at(self, index: int) -> list[int]:
        """Returns the objects given in this frame or earlier."""
        return sorted({object_id for frame, ids in self.given.items() if frame <= index for object_id in ids})

    @property
    def frames_per_second(self) -> float:
        """Number of frames / time of the tracker."""
        return len(self.seconds) / sum(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Returns the run as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "PolicyRun":
        """Returns the run from the values that `to_dict` returned; JSON has turned the frames' indices into strings."""
        return cls(**{**saved, "given": {int(frame): ids for frame, ids in saved["given"].items()}})


@dataclass(frozen=True, slots=True)
class WayBack:
    """The backward pass of a policy: how well it tracks from its last mask back to the given masks.

    Attributes:
        objects: J against the given masks, by object: the mean over the frames in which the object was given.
        frames: J between the masks of the forward and the backward pass, the mean over the objects given by then, for
            each frame from the first given one to the last.
        lost: the objects that are not in the last mask, so that they cannot be tracked back; their J is 0.
    """

    objects: dict[int, float]
    frames: list[float]
    lost: list[int]

    @property
    def consistency(self) -> float:
        """The mean of J over the objects."""
        return fmean(self.objects.values())

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "WayBack":
        """Returns the object that `asdict` turned into these values."""
        objects = {int(object_id): value for object_id, value in saved["objects"].items()}
        return cls(objects, list(saved["frames"]), list(saved["lost"]))


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """The folder with the files of one policy."""

    path: Path

    @property
    def masks(self) -> Path:
        """The folder of its masks."""
        return self.path / "masks"

    def labels(self, name: str) -> Labels:
        """Returns the object id at each pixel of a frame."""
        return read_labels(self.masks / f"{name}.png")

    def run(self) -> PolicyRun | None:
        """Returns the saved run, or None; raises InputError if its file is damaged."""
        return self._read("result.json", PolicyRun.from_dict)

    def way_back(self) -> WayBack | None:
        """Returns the saved backward pass, or None; raises InputError if its file is damaged."""
        return self._read("way_back.json", WayBack.from_dict)

    def _read(self, name: str, of: Callable[[Mapping[str, Any]], T]) -> T | None:
        path = self.path / name
        if not path.exists():
            return None
        try:
            return of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} cannot be used ({type(error).__name__}: {error})", "delete it, and compare again"
            ) from error


def read_labels(path: Path) -> Labels:
    """Returns the object id at each pixel of a mask written by MaskWriter; raises InputError if it is damaged."""
    try:
        return label_files.read_labels(path).astype(np.int32)
    except MaskError as error:
        raise InputError(error.problem, "compare again with --overwrite") from error


def track_policy(
    video: Iterable[Frame],
    tracker: Tracker,
    policy: str,
    prompts: PromptFunction,
    folder: PolicyFolder,
    look_at: Sequence[int],
    on_frame: Callable[[], None],
    own_policy: dict[str, Any],
) -> PolicyRun:
    """Runs a new tracker over the video and returns the result; the folder gets its files when all are complete."""
    partial = folder.path.with_name(f".{folder.path.name}.partial")
    written = Written(folder.path.parent)
    shutil.rmtree(partial, ignore_errors=True)
    written.remove_folder(folder.path)
    make_folder(partial)
    given: dict[int, list[int]] = {}
    seconds: list[float] = []
    stats, looks = [], []

    def noted(frame: Frame) -> Mapping[int, Prompt | None] | None:
        known = prompts(frame)
        if masked := [object_id for object_id, mask in (known or {}).items() if mask is not None]:
            given[frame.index] = sorted(masked)
        return known

    with MaskWriter(partial / "masks") as masks_out, MaskWriter(partial / "overlay.mp4", "overlay") as overlay:
        for frame, masks, spent in timed(tracker, prefetch(video), noted):
            seconds.append(spent)
            masks_out.write(masks, frame)
            overlay.write(masks, frame)
            stats.append(tracker.stats())
            if frame.index in look_at and (look := look_into(tracker, frame.index)):
                looks.append(look)
            on_frame()
    grid = tracker.memory.grid
    if not given or grid is None:
        raise InputError("no mask was given in any frame", "give the objects' masks, such as with --mask FIRST.png")
    run = PolicyRun(
        policy,
        str(tracker.policy),
        str(tracker.memory.budget),
        tracker.policy.write_every,
        tracker.policy.write_on_growth,
        given,
        seconds,
        [each.bank_bytes for each in stats],
        [each.frames for each in stats],
        torch.get_num_threads(),
        cell_edges(grid),
        looks,
        own_policy,
    )
    write_report(partial / "result.json", run.to_dict())
    written.adopt(partial, folder.path)
    return run


def track_back(
    store: FrameStore, tracker: Tracker, run: PolicyRun, folder: PolicyFolder, on_frame: Callable[[], None]
) -> WayBack:
    """Tracks back with a new tracker, which is given only the last mask of the forward pass, and returns its scores.

    Objects that the last mask does not show cannot be tracked back and count as 0.
    """
    names, first = store.clip.names, min(run.given)
    last = folder.labels(names[-1])
    prompts: dict[int, Prompt] = {
        object_id: last == object_id for object_id in run.object_ids if (last == object_id).any()
    }
    found: dict[int, list[float]] = {object_id: [] for object_id in run.object_ids}
    agreement: list[float] = []
    for step, index in enumerate(range(len(names) - 1, first - 1, -1)):
        back = np.zeros_like(last)
        if prompts:
            frame = Frame.from_picture(store.image(index), step)
            back = tracker.step(frame, None if step else prompts).labels.cpu().numpy()
        there = folder.labels(names[index])
        agreement.append(overlap(there, back, run.tracked_at(index)))
        for object_id in run.given.get(index, ()):
            # In a frame in which masks were given, the forward mask is the given one.
            found[object_id].append(region_similarity(back == object_id, there == object_id))
        on_frame()
    lost = [object_id for object_id in run.object_ids if object_id not in prompts]
    objects = {object_id: 0.0 if object_id in lost else fmean(values) for object_id, values in found.items()}
    result = WayBack(objects, agreement[::-1], lost)
    Written(folder.path.parent).write(folder.path / "way_back.json", json.dumps(asdict(result), indent=2) + "\n")
    return result


def overlap(one: Labels, other: Labels, object_ids: Sequence[int]) -> float:
    """Returns the mean J over the objects that at least one of two label maps shows; 1 if neither shows any."""
    values = []
    for object_id in object_ids:
        here, there = one == object_id, other == object_id
        if here.any() or there.any():
            values.append(region_similarity(here, there))
    return fmean(values) if values else 1.0
