"""One step of one or several videos: what the network computes is batched over all of them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor
from torch.nn import functional as F

from mnemask.config import TrackerConfig
from mnemask.errors import FrameError
from mnemask.memory.policies.contract import checked_pins
from mnemask.memory.tokens import CellGrid, cells_around
from mnemask.model import preprocess
from mnemask.model.devices import FiniteCheck, out_of_memory_named, upload
from mnemask.model.stcn import STRIDE, KeyFeatures, most_probable, soft_aggregate
from mnemask.types import AnyPicture, Frame, Masks, Picture, Prompts, ValidPrompts, describe, validate_prompts

if TYPE_CHECKING:
    import mnemask.tracker

log = logging.getLogger(__name__)

MASK_FILES_VOID = 255
SOONEST = 2  # fewest frames from a write to an early one, so that flickering masks are not written in every frame


def step_together(
    trackers: Sequence["mnemask.tracker.Tracker"],
    pictures: Sequence[AnyPicture],
    prompts: Sequence[Prompts | None],
) -> list[Masks]:
    """Returns the masks of one frame of each video, all with the same network; raises the errors of `Tracker.step`.

    The key encoder runs once for all frames; the decoder and the value encoder run once per distinct number of objects.
    If an error is raised, all trackers keep their previous state.
    """
    with ExitStack() as turns:
        for tracker in trackers:
            turns.enter_context(tracker.turn)
        for tracker in trackers:
            tracker.settle()
        return take([Step.accept(*each) for each in zip(trackers, pictures, prompts, strict=True)])


def take(steps: Sequence["Step"]) -> list[Masks]:
    """Takes steps together and returns their masks; if an error is raised, all trackers keep their previous state."""
    num_objects = sum(len({*step.tracker.object_ids, *step.given}) for step in steps)
    with out_of_memory_named(steps[0].frame.size, num_objects), ExitStack() as stack:
        for step in steps:
            stack.enter_context(undone_on_failure(step.tracker))
        for step in steps:
            for object_id in step.gone:
                step.tracker.remove(object_id)
        return _follow(steps)


def _follow(steps: Sequence["Step"]) -> list[Masks]:
    model = steps[0].tracker.model
    images = _joined([(step.frame, step.image()) for step in steps])
    features = model.encode_key(images)
    each = [_chosen(features, [number]) for number in range(len(steps))]
    readouts = [step.read(seen) for step, seen in zip(steps, each, strict=True)]
    logits = _by_number(readouts, lambda which, readout: model.decode(readout, _chosen(features, which)))
    probs = [
        step.compete(image, seen, alone)
        for step, image, seen, alone in zip(steps, images.split(1), each, logits, strict=True)
    ]
    due = [prob[1:].to(images.dtype) if step.is_due(prob) else None for step, prob in zip(steps, probs, strict=True)]
    values = _by_number(
        due, lambda which, masks: model.encode_value(_picked(images, which), _chosen(features, which), masks)
    )
    return [step.finish(seen, prob, value) for step, seen, prob, value in zip(steps, each, probs, values, strict=True)]


def known_masks(
    tracker: "mnemask.tracker.Tracker", prompts: Prompts | None, frame: Frame
) -> tuple[ValidPrompts, list[int]]:
    """Returns what `validate_prompts` does; warns if a label map seems to have the void contour of a mask file."""
    given, gone = ({}, []) if prompts is None else validate_prompts(prompts, frame, tracker.model.device)
    is_new = MASK_FILES_VOID in given and MASK_FILES_VOID not in tracker.object_ids  # later maps would repeat it
    if is_new and min(given) < MASK_FILES_VOID and not isinstance(prompts, Mapping):
        from mnemask.prompts.mask_reading import is_contour  # only here, since it imports all kinds of prompts

        others = torch.stack([mask for object_id, mask in given.items() if object_id != MASK_FILES_VOID]).any(0)
        if is_contour(given[MASK_FILES_VOID].cpu().numpy(), others.cpu().numpy()):
            log.warning(
                "%d in the label map of frame %d is a thin contour, as void is in mask files, but it is object %d "
                "here: read the file with mm.read_mask, or set the contour to 0",
                *(MASK_FILES_VOID, frame.index, MASK_FILES_VOID),
            )
    return given, gone


@dataclass(slots=True)
class Step:
    """One video's part of a step.

    Attributes:
        tracker: the video's tracker.
        frame: the next frame.
        given: the masks given for it, by object id.
        gone: the ids of objects to remove first.
        check: whether the network's outputs for the frame are finite; None until they are computed.
    """

    tracker: "mnemask.tracker.Tracker"
    frame: Frame
    given: ValidPrompts
    gone: list[int]
    check: FiniteCheck | None = None

    @classmethod
    def accept(cls, tracker: "mnemask.tracker.Tracker", picture: Picture, prompts: Prompts | None) -> "Step":
        """Returns the step for a caller's frame and prompts; raises an error if they are not valid."""
        frame = Frame.from_picture(picture, tracker.steps)
        if tracker.size not in (None, frame.size):
            raise FrameError(
                f"frame {frame.index} has {describe(frame.size)} but earlier frames have {describe(tracker.size)}",
                "resize it, or start a new tracker",
            )
        preprocess.refuse_too_long(frame.size, tracker.short_side, f"frame {frame.index}")
        given, gone = known_masks(tracker, prompts, frame)
        if given:
            tracker.refuse_if_frozen(f"the masks of objects {sorted(given)}")
        return cls(tracker, frame, given, gone)

    def image(self) -> Float[Tensor, "1 3 Hp Wp"]:
        """Returns the network's input; the frame is uploaded to the device as uint8."""
        model = self.tracker.model
        pixels = upload(self.frame.image, model.device).float()
        image = preprocess.normalize(preprocess.resize(pixels, self.working_size()))
        return preprocess.pad(image)[None].to(model.dtype, memory_format=torch.channels_last)

    def read(self, features: KeyFeatures) -> Float[Tensor, "K Cv h w"] | None:
        """Returns the memory's readout for each tracked object, None if there are no objects."""
        memory = self.tracker.memory
        memory.grid = CellGrid(self.frame.size, self.tracker.short_side)
        if not len(self.tracker.objects):
            return None
        readout = memory.read(preprocess.cells(features.key[0]), self.tracker.steps, features.stride8[0])
        planes: Tensor = readout.unflatten(1, features.key.shape[2:]).movedim(3, 1)
        return planes

    def compete(
        self, image: Float[Tensor, "1 3 Hp Wp"], features: KeyFeatures, logits: Float[Tensor, "K Hp Wp"] | None
    ) -> Float[Tensor, "K1 Hp Wp"]:
        """Returns the probabilities of the background and of each object, with the given masks inserted."""
        alone = image.new_zeros((0, *image.shape[2:]), dtype=torch.float32) if logits is None else logits.sigmoid()
        self.check = FiniteCheck(self.frame.index, keys=features.key, masks=alone)
        if not self.check.deferred:
            self.check.require()
        return soft_aggregate(self._merge(alone) if self.given else alone)

    def is_due(self, probs: Float[Tensor, "K1 Hp Wp"]) -> bool:
        """Returns whether to write the frame to memory, unless frozen: if masks were given, or by `write_is_due`."""
        tracker = self.tracker
        if tracker.memory.frozen or not (self.given or len(tracker.objects)):
            return False
        since = tracker.steps - tracker.last_write
        return bool(self.given) or write_is_due(tracker.config, since, probs, tracker.written_area)

    def finish(
        self, features: KeyFeatures, probs: Float[Tensor, "K1 Hp Wp"], value: Float[Tensor, "K Cv h w"] | None
    ) -> Masks:
        """Writes the frame to memory if it has a value, and returns the masks."""
        tracker, check = self.tracker, self.check
        assert check is not None, "probabilities come before the answer"
        if value is not None:
            check.require()
            FiniteCheck(self.frame.index, values=value).require()  # the host has waited for the frame anyway
            self._write(features, value, probs[1:])
            tracker.last_write = tracker.steps
            grown = largest_areas(areas(probs[1:]), tracker.written_area) if tracker.config.write_on_growth else None
            tracker.written_area = grown
        elif check.deferred:
            tracker.unsettled = check
        tracker.steps += 1
        tracker.size, tracker.last_index = self.frame.size, self.frame.index
        return self._answer(probs)

    def working_size(self) -> tuple[int, int]:
        """Returns the height and width at which the network sees the frame, before padding."""
        return preprocess.working_size(self.frame.size, self.tracker.short_side)

    def _merge(self, probs: Float[Tensor, "K Hp Wp"]) -> Float[Tensor, "K2 Hp Wp"]:
        """Returns the probabilities with the given masks inserted; other objects are suppressed there."""
        objects = self.tracker.objects
        for object_id in self.given:
            if object_id not in objects:
                objects.add(object_id)
                self.tracker.memory.add_object()
        merged = probs.new_zeros((len(objects), *probs.shape[1:]))
        merged[: len(probs)] = probs
        stacked = torch.stack(list(self.given.values())).float()
        masks = preprocess.pad(preprocess.resize(stacked, self.working_size()))
        merged *= 1 - masks.amax(0)
        merged[[objects.row(object_id) for object_id in self.given]] = masks
        return merged

    def _write(self, features: KeyFeatures, value: Float[Tensor, "K Cv h w"], masks: Float[Tensor, "K Hp Wp"]) -> None:
        mask_fraction = F.avg_pool2d(masks, STRIDE)
        self.tracker.memory.write(
            preprocess.cells(features.key[0]),
            preprocess.cells(value),
            mask_fraction.flatten(1),
            frame=self.frame.index,
            step=self.tracker.steps,
            pins=self._pins(mask_fraction).flatten(1),
            stride8=features.stride8[0],
        )

    def _pins(self, mask_fraction: Float[Tensor, "K h w"]) -> Bool[Tensor, "K h w"]:
        """Returns the cells to pin: of the first annotated frame those of the policy, later the objects and a rim.

        The background around a late object is already known from the first frame, and the budget is tight.
        """
        memory, policy = self.tracker.memory, self.tracker.policy
        pins = torch.zeros_like(mask_fraction, dtype=torch.bool)
        if not (policy.pin and self.given):
            return pins
        rows = [self.tracker.objects.row(object_id) for object_id in self.given]
        memory.expect_correction(rows)
        if memory.tokens is None or not bool(memory.tokens.pinned.any()):
            pins[rows] = checked_pins(policy, mask_fraction)
            return pins
        pins[rows] = cells_around(mask_fraction[rows])
        return pins

    def _answer(self, aggregated: Float[Tensor, "K1 Hp Wp"]) -> Masks:
        probs = preprocess.resize(preprocess.unpad(aggregated, self.working_size()), self.frame.size)
        ids = self.tracker.object_ids
        return Masks(labels_of(probs, ids, self.given), probs, ids, self.frame.index, self.frame.name)


def labels_of(probs: Float[Tensor, "K1 H W"], object_ids: Sequence[int], given: ValidPrompts) -> Int32[Tensor, "H W"]:
    """Returns the id of the most probable class at each pixel; given masks are kept exactly."""
    labels = most_probable(probs, (0, *object_ids))
    for object_id, mask in given.items():
        labels = labels.masked_fill(labels == object_id, 0).masked_fill(mask, object_id)
    return labels


def write_is_due(
    config: TrackerConfig,
    since: int,
    probs: Float[Tensor, "K1 Hp Wp"],
    written_area: Float[Tensor, " K"] | None,
) -> bool:
    """Returns whether a frame without given masks is to be written.

    It is if the write interval is over, or an object has grown by more than `write_on_growth`. If the masks are less
    certain than `write_above_certainty`, the write waits for a frame whose masks are not. If either setting is on, the
    host waits for a GPU.

    Args:
        config: the config, with the policy's defaults filled in.
        since: the number of frames from the last write to this one.
        probs: the probabilities of the background and of each object.
        written_area: the largest area of each object in any written frame, from `areas`; None if unknown.
    """
    assert config.write_every is not None, "a tracker's config is filled"
    due = since >= config.write_every
    if not due and config.write_on_growth and since >= SOONEST and written_area is not None:
        due = bool(growth(areas(probs[1:]), written_area) > config.write_on_growth)
    if due and config.write_above_certainty:
        due = bool(certainty(probs) >= config.write_above_certainty)
    return due


def areas(masks: Float[Tensor, "K Hp Wp"]) -> Float[Tensor, " K"]:
    """Returns the area of each object in cells of 16×16 pixels: the sum of its probabilities."""
    return masks.float().sum((1, 2)) / STRIDE**2


def largest_areas(now: Float[Tensor, " K"], before: Float[Tensor, " L"] | None) -> Float[Tensor, " K"]:
    """Returns the larger of both areas of each object; L is less than K if there are new objects, which come last."""
    return now if before is None else torch.maximum(now, F.pad(before, (0, len(now) - len(before))))


def growth(now: Float[Tensor, " K"], before: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Returns the relative growth of the object that grew most, -1 or more.

    One cell is added to both areas, so that specks do not count as growth.
    """
    return ((now + 1) / (before + 1) - 1).amax()


def certainty(probs: Float[Tensor, "K1 Hp Wp"]) -> Float[Tensor, ""]:
    """Returns the mean, over all pixels in masks, of the probability of the pixel's object, 0 to 1; 0 without masks."""
    best = probs[1:].amax(0)
    shown = best > probs[0]
    return (best * shown).sum() / shown.sum().clamp_min(1)


@contextmanager
def undone_on_failure(tracker: "mnemask.tracker.Tracker") -> Iterator[None]:
    """Restores a tracker's state, except its last read, if the body of the `with` statement raises."""
    tracker.memory.last_read = None  # so that no two are held at once
    before = tracker.snapshot()
    try:
        yield
    except BaseException:
        tracker.restore(before)
        raise
    tracker.before = None if tracker.unsettled is None else before


def _joined(images: Sequence[tuple[Frame, Float[Tensor, "1 3 _ _"]]]) -> Float[Tensor, "B 3 H W"]:
    """Returns the images of all frames as one tensor; raises FrameError if their sizes differ."""
    first, expected = images[0]
    if len(images) == 1:
        return expected
    for number, (frame, image) in enumerate(images):
        if image.shape != expected.shape:
            raise FrameError(
                f"frame {frame.index} of video {number} has {describe(frame.size)} and that of video 0 has "
                f"{describe(first.size)}: their working sizes differ",
                "step them in two batches, or resize one",
            )
    return torch.cat([image for _, image in images])


def _by_number(
    planes: Sequence[Float[Tensor, "_ ..."] | None],
    compute: Callable[[list[int], Float[Tensor, "B K ..."]], Float[Tensor, "B K ..."]],
) -> list[Tensor | None]:
    """Applies a function to each video's planes [K ...], batching videos with the same K; None stays None.

    Args:
        planes: the planes of each video.
        compute: the function, of the indices of some videos and their stacked planes.
    """
    found: list[Tensor | None] = [None] * len(planes)
    there = {number: each for number, each in enumerate(planes) if each is not None}
    for num_objects in sorted({len(each) for each in there.values()}):
        which = [number for number, each in there.items() if len(each) == num_objects]
        stacked = there[which[0]][None] if len(which) == 1 else torch.stack([there[number] for number in which])
        for number, result in zip(which, compute(which, stacked), strict=True):
            found[number] = result
    return found


def _chosen(features: KeyFeatures, which: list[int]) -> KeyFeatures:
    """Returns the features of some images of a batch; all of them are returned as they are."""
    if len(which) == len(features.key):
        return features
    return KeyFeatures(*(_picked(each, which) for each in features))


def _picked(images: Float[Tensor, "B ..."], which: list[int]) -> Float[Tensor, "C ..."]:
    """Returns some images of a batch; a single one or all of them are not copied."""
    if len(which) == len(images):
        return images
    return images[which[0] : which[0] + 1] if len(which) == 1 else images[which]
