"""Several videos at a time: each has its own tracker, and all their frames go through the network together."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mnemask.errors import FrameError, InputError
from mnemask.model.devices import own_modes
from mnemask.model.stcn import KeyFeatures
from mnemask.objects import Prompts, ValidPrompts
from mnemask.tracker import Tracker, out_of_memory_named
from mnemask.types import Frame, Masks, describe

Pictures = Sequence[Frame | UInt8[Tensor, "3 _ _"] | UInt8[np.ndarray, "_ _ 3"]]  # which may be of different sizes


class TrackerBatch:
    """Steps the trackers of several videos together, with the masks that each would give alone.

    The frames go through the key encoder in one forward; decoder and value encoder have one for each number of objects
    that trackers follow. Each reads its own memory. It is made for GPUs, which a single frame does not fill; on a CPU
    it gains little (docs/speed.md). Policy, budget, prompts and ids are each tracker's own, which between two steps of
    the batch may be saved, forked, stepped alone or rid of an object, as ever.

    Args:
        trackers: one for each video, all with the same network.

    Raises:
        InputError: if a tracker is given twice, or has another network.

    Example:
        >>> import mnemask as mm
        >>> model, videos = mm.load_model("compact"), [mm.DrawnVideo(3, (96, 160), 1, seed) for seed in range(2)]
        >>> batch = mm.TrackerBatch(mm.Tracker(model) for _ in videos)
        >>> for moments in zip(*videos):
        ...     prompts = [{1: truth == 1} if frame.index == 0 else None for frame, truth in moments]
        ...     masks = batch.step([frame for frame, _ in moments], prompts)
        >>> [each.object_ids for each in masks]
        [(1,), (1,)]
    """

    def __init__(self, trackers: Iterable[Tracker] = ()) -> None:
        self._trackers: list[Tracker] = []
        for tracker in trackers:
            self.add(tracker)

    @property
    def trackers(self) -> tuple[Tracker, ...]:
        """The trackers, in the order in which `step` takes their frames."""
        return tuple(self._trackers)

    def add(self, tracker: Tracker) -> None:
        """Lets another video join, as the last one.

        Raises:
            InputError: if the tracker is in the batch already, or has another network than those in it.
        """
        if tracker in self._trackers:
            raise InputError("this tracker is in the batch already", "give each video a tracker of its own")
        if self._trackers and tracker.model is not self._trackers[0].model:
            raise InputError(
                "this tracker has another network than the batch", "load one model and give it to all of them"
            )
        self._trackers.append(tracker)

    def remove(self, tracker: Tracker) -> None:
        """Lets a video leave, such as one that has ended; its tracker stays as it is.

        Raises:
            InputError: if the tracker is not in the batch.
        """
        if tracker not in self._trackers:
            raise InputError("this tracker is not in the batch", "its trackers are in `batch.trackers`")
        self._trackers.remove(tracker)

    @own_modes()
    def step(self, frames: Pictures, prompts: Sequence[Prompts | None] | None = None) -> list[Masks]:
        """Returns the masks of one frame of each video, in the order of `trackers`.

        Whatever is raised leaves all trackers as they were before; to go on without the video whose frame is at fault,
        step the trackers one by one. Only a trace, which is written at once, may hold a write that was undone.

        Args:
            frames: the next frame of each video. At the size they are processed at, all are equally large.
            prompts: for each video what `Tracker.step` takes, None for those without.

        Raises:
            InputError: if there is not one frame, and one entry of `prompts`, for each tracker.
            FrameError: if frames are of different sizes, or as for `Tracker.step`, like all others.
        """
        prompts = [None] * len(frames) if prompts is None else prompts
        if not len(frames) == len(prompts) == len(self._trackers):
            raise InputError(
                f"there are {len(frames)} frames and {len(prompts)} entries of prompts for {len(self._trackers)} "
                "trackers",
                "give one of each for each tracker",
            )
        if not self._trackers:
            return []
        accepted = [
            tracker._accept(frame, prompt)
            for tracker, frame, prompt in zip(self._trackers, frames, prompts, strict=True)
        ]
        num_objects = sum(len({*tracker.object_ids, *accepted[i][1]}) for i, tracker in enumerate(self._trackers))
        with out_of_memory_named(accepted[0][0].size, num_objects), ExitStack() as stack:
            for tracker in self._trackers:
                stack.enter_context(tracker._undone_on_failure())
            for tracker, (_, _, gone) in zip(self._trackers, accepted, strict=True):
                tracker._forget(gone)
            return self._follow(
                [(tracker, frame, given) for tracker, (frame, given, _) in zip(self._trackers, accepted, strict=True)]
            )

    def _follow(self, steps: Sequence[tuple[Tracker, Frame, ValidPrompts]]) -> list[Masks]:
        """Returns the masks of each video; what is the network's is done for several at once."""
        model = self._trackers[0].model
        images = joined([(frame, tracker._image(frame)) for tracker, frame, _ in steps])
        features = model.encode_key(images)
        each = [chosen(features, [number]) for number in range(len(steps))]
        readouts = [tracker._read(frame, seen) for (tracker, frame, _), seen in zip(steps, each, strict=True)]
        logits = by_number(readouts, lambda which, readout: model.decode(readout, chosen(features, which)))
        probs = [
            tracker._compete(frame, image, alone, given)
            for (tracker, frame, given), image, alone in zip(steps, images.split(1), logits, strict=True)
        ]
        due = [
            prob[1:].to(images.dtype) if tracker._is_due(given) else None
            for (tracker, _, given), prob in zip(steps, probs, strict=True)
        ]
        values = by_number(
            due, lambda which, masks: model.encode_value(picked(images, which), chosen(features, which), masks)
        )
        return [
            tracker._finish(frame, seen, prob, value, given)
            for (tracker, frame, given), seen, prob, value in zip(steps, each, probs, values, strict=True)
        ]


def joined(images: Sequence[tuple[Frame, Float[Tensor, "1 3 _ _"]]]) -> Float[Tensor, "B 3 H W"]:
    """Returns the images of all frames as one tensor; raises FrameError where one is of another size."""
    first, expected = images[0]
    for number, (frame, image) in enumerate(images):
        if image.shape != expected.shape:
            raise FrameError(
                f"frame {frame.index} of video {number} has {describe(frame.size)} and that of video 0 has "
                f"{describe(first.size)}: they are not processed at one size",
                "step them in two batches, or resize one",
            )
    return torch.cat([image for _, image in images])


def by_number(
    planes: Sequence[Float[Tensor, "_ ..."] | None],
    compute: Callable[[list[int], Float[Tensor, "B K ..."]], Float[Tensor, "B K ..."]],
) -> list[Tensor | None]:
    """Returns what is computed of each video's planes, [K ...], together for those with as many objects; None of None.

    Args:
        planes: of each video.
        compute: takes the numbers of some videos and their planes.
    """
    found: list[Tensor | None] = [None] * len(planes)
    there = {number: each for number, each in enumerate(planes) if each is not None}
    for num_objects in sorted({len(each) for each in there.values()}):
        which = [number for number, each in there.items() if len(each) == num_objects]
        for number, result in zip(which, compute(which, torch.stack([there[i] for i in which])), strict=True):
            found[number] = result
    return found


def chosen(features: KeyFeatures, which: list[int]) -> KeyFeatures:
    """Returns the features of some images."""
    return KeyFeatures(*(picked(getattr(features, field.name), which) for field in fields(features)))


def picked(images: Float[Tensor, "B ..."], which: list[int]) -> Float[Tensor, "C ..."]:
    """Returns some of a batch; one of it or all of it without a copy."""
    if len(which) == len(images):
        return images
    return images[which[0] : which[0] + 1] if len(which) == 1 else images[which]
