"""Clips from videos with a mask for each object: stage 2 of the thesis (4.2.2)."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mnemask.datasets.annotated import AnnotatedVideo, checked_masks
from mnemask.datasets.clips import MIN_VISIBLE, ClipShape, TrainingClip, keep_visible
from mnemask.datasets.composite.photographs import read_rgb
from mnemask.datasets.stcn_augment import (
    ClipColourJitter,
    StillAugmentation,
    VideoAugmentation,
    ZoomAugmentation,
    render,
    warp_labels,
)
from mnemask.errors import FrameError, InputError, MaskError
from mnemask.io.image_sequences import levels_of_frames
from mnemask.io.images import read_image, sample
from mnemask.io.pictures import Levels
from mnemask.metrics import VOID

MAX_TRIES = 500
# As a fraction of the square of a frame's short side. The augmentations of `FrameClips` and, except for a zoom, of
# `VideoClips` enlarge areas at most 2.8 times.
LEAST_SEEN = MIN_VISIBLE / 2.8


class VideoClips:
    """Endless clips of annotated frames, forwards or backwards; files are read when a clip is drawn.

    All videos are equally likely; those with too few masks close enough together for a shape are skipped.

    Args:
        videos: annotated videos; the frames and masks of a video have the same size.
        augmentation: augmentation of a clip's frames.
        frame_step: number of video frames per file; 5 for the published training set of YouTube-VOS, which contains
            every fifth frame.
        zoom: augmentation that replaces the crop in some of the clips; None for none.
        zoomed: fraction of clips with `zoom`.

    Raises:
        InputError: there are no videos.

    Example:
        clips = VideoClips(list(DavisSequences("DAVIS", subset="train")))
        clip = clips.draw(np.random.default_rng(0), ClipShape(max_gap=GapCurriculum().max_gap(0.2)))
    """

    def __init__(
        self,
        videos: Sequence[AnnotatedVideo],
        augmentation: VideoAugmentation | None = None,
        frame_step: int = 1,
        zoom: ZoomAugmentation | None = None,
        zoomed: float = 0.5,
    ) -> None:
        if not videos or frame_step < 1:
            raise InputError(
                f"clips cannot be drawn from {len(videos)} videos with a frame step of {frame_step}",
                "give at least 1 of each",
            )
        self.videos = videos
        self.augmentation = augmentation or VideoAugmentation()
        self.frame_step = frame_step
        self.zoom, self.zoomed = zoom, zoomed
        self._long_enough: dict[tuple[int, int], list[int]] = {}

    def __len__(self) -> int:
        return len(self.videos)

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip with 1 to `shape.max_objects` of the objects in its first frame, chosen at random.

        Other objects become background; void stays 255.

        Raises:
            FrameError: a file is not a picture, or differs in size from the first one.
            MaskError: a file is not a mask, or differs in size from the first one.
            InputError: no video is long enough, or none drawn shows enough of an object in the first frame.
        """

        def draw_one() -> tuple[AnnotatedVideo, TrainingClip | None]:
            video, indices = self.draw_frames(rng, shape)
            masks = in_8_bits(video, indices)
            views = self._views(rng, masks, shape)
            return video, _clip(rng, video, indices, masks, views, self.augmentation.look, shape)

        return _first_clip(draw_one, "clips drawn has an object that covers 0.2 % of its first frame")

    def draw_frames(self, rng: np.random.Generator, shape: ClipShape) -> tuple[AnnotatedVideo, list[int]]:
        """Returns a video and the indices of a clip's frames, in the order shown; raises InputError if none fits."""
        candidates = self._candidates(shape)
        video = self.videos[candidates[int(rng.integers(len(candidates)))]]
        return video, _draw_span(rng, video, shape.num_frames, shape.max_gap // self.frame_step)

    def _views(
        self, rng: np.random.Generator, masks: list[UInt8[np.ndarray, "_ _"]], shape: ClipShape
    ) -> Float[np.ndarray, "T 2 3"]:
        picture = (masks[0].shape[0], masks[0].shape[1])
        if self.zoom is None or rng.random() >= self.zoomed or not (ids := _ids(masks[0])):
            return self.augmentation.views(rng, picture, shape)
        return self.zoom.views(rng, picture, boxes_of(masks, ids[int(rng.integers(len(ids)))]), shape)

    def _candidates(self, shape: ClipShape) -> list[int]:
        """Positions of the videos that have such clips; cached, as each video must be checked."""
        key = (shape.num_frames, shape.max_gap)
        if key not in self._long_enough:
            self._long_enough[key] = [
                position
                for position, video in enumerate(self.videos)
                if has_clips(video, shape.num_frames, shape.max_gap // self.frame_step)
            ]
        if not self._long_enough[key]:
            raise InputError(
                f"none of {len(self.videos)} videos has {shape.num_frames} masks in a row at most {shape.max_gap} "
                "frames apart",
                "use fewer frames per clip or a larger gap",
            )
        return self._long_enough[key]


class FrameClips:
    """Endless clips that are samples of one annotated frame, as stage 1 of the thesis makes them from photographs.

    All frames with a mask are equally likely, except those known to show too little, which are not used. Objects keep
    separate labels and void stays void, as in `VideoClips`.

    Args:
        videos: annotated videos; the frames and masks of a video have the same size.

    Raises:
        InputError: there are no videos.
    """

    def __init__(self, videos: Sequence[AnnotatedVideo]) -> None:
        if not videos:
            raise InputError("there are no videos to draw frames from", "expected at least one with a mask")
        self.frames = [(video, at) for video in videos for at in video.masks if at not in video.too_little]
        self.augmentation = StillAugmentation()

    def draw(self, rng: np.random.Generator, shape: ClipShape) -> TrainingClip:
        """Returns a clip with 1 to `shape.max_objects` of the objects in its first sample, chosen at random.

        Raises:
            FrameError: a file is not a picture, or differs in size from its mask.
            MaskError: a file is not a mask.
            InputError: no sample drawn shows enough of an object.
        """

        def draw_one() -> tuple[AnnotatedVideo, TrainingClip | None]:
            video, index = self.frames[int(rng.integers(len(self.frames)))]
            (labels,) = in_8_bits(video, [index])
            views = self.augmentation.views(rng, (labels.shape[0], labels.shape[1]), shape)
            indices, masks = [index] * shape.num_frames, [labels] * shape.num_frames
            return video, _clip(rng, video, indices, masks, views, self.augmentation.look, shape)

        return _first_clip(draw_one, "samples drawn has an object that covers 0.2 % of it")


def with_objects(videos: Sequence[AnnotatedVideo]) -> list[AnnotatedVideo]:
    """Returns the videos that show an object large enough to follow, with the masks that show none in `too_little`.

    Reads all masks, in a few milliseconds each: if few of them show the object, random drawing rarely finds it.

    Raises:
        FrameError, MaskError: as for `checked_masks`.
        InputError: no mask shows an object that is large enough.
    """
    kept, largest = [], 0
    for video in videos:
        too_little = set()
        for index, labels in checked_masks(video):
            counts = np.bincount(labels.ravel(), minlength=VOID + 1)
            counts[0] = 0
            if video.void is not None:
                counts[video.void] = 0
            largest = max(largest, int(counts.max()))
            if counts.max() < LEAST_SEEN * min(labels.shape) ** 2:
                too_little.add(index)
        if len(too_little) < len(video.masks):
            kept.append(replace(video, too_little=frozenset(too_little)))
    if not kept:
        count = sum(len(video.masks) for video in videos)
        raise InputError(
            f"the largest object in {count} masks has {largest} pixels" if largest else f"no object in {count} masks",
            "give masks of objects that cover at least 0.2 % of their frame, or crop the frames and masks",
        )
    return kept


def _ids(labels: UInt8[np.ndarray, "H W"]) -> list[int]:
    return [int(label) for label in np.unique(labels) if 0 < label < VOID]


def boxes_of(masks: list[UInt8[np.ndarray, "_ _"]], label: int) -> Float[np.ndarray, "T 4"]:
    """Returns an object's left, top, width and height in each mask, or those of the previous mask where it is absent.

    The first mask must show it.
    """
    boxes: list[tuple[int, int, int, int]] = []
    for mask in masks:
        left, top, width, height = cv2.boundingRect(cv2.inRange(mask, label, label))
        boxes.append((left, top, width, height) if width else boxes[-1])
    return np.array(boxes, float)


def in_8_bits(video: AnnotatedVideo, indices: Iterable[int]) -> list[UInt8[np.ndarray, "_ _"]]:
    """Returns masks as uint8, with 255 for void: with unchanged ids, or renumbered from 1 if 8 bits do not hold them.

    When renumbering, objects that are absent from the first mask become background.
    """
    masks = [video.read_labels(index) for index in indices]
    table = np.zeros(2**16, np.uint8)
    if masks[0].dtype == np.uint8 and video.void is not None:
        table[:256] = np.arange(256)
    else:
        ids = np.setdiff1d(masks[0], [0] if video.void is None else [0, video.void])[: VOID - 1]
        table[ids] = np.arange(1, len(ids) + 1)
        if video.void is not None:
            table[video.void] = VOID
    return [table[mask] for mask in masks]


def has_clips(video: AnnotatedVideo, num_frames: int, max_step: int) -> bool:
    """Returns whether a video has `num_frames` masks in a row, each at most `max_step` files after the previous one.

    The first or the last of them must show an object, unless that is unknown.
    """
    times = sorted(video.masks)
    return any(_starts(way, num_frames, max_step, video.too_little) for way in (times, times[::-1]))


def _starts(times: list[int], num_frames: int, max_step: int, too_little: Collection[int]) -> list[int]:
    """Indices into `times` at which a clip can begin."""
    followers = _followers(times, max_step)
    return [at for at, count in enumerate(followers) if count >= num_frames - 1 and times[at] not in too_little]


def _followers(times: list[int], max_step: int) -> list[int]:
    """How many more times can be reached from each one in steps of at most `max_step`; times rise or fall."""
    counts = [0] * len(times)
    for at in range(len(times) - 2, -1, -1):
        if abs(times[at + 1] - times[at]) <= max_step:
            counts[at] = counts[at + 1] + 1
    return counts


def _draw_span(rng: np.random.Generator, video: AnnotatedVideo, num_frames: int, max_step: int) -> list[int]:
    """Times of a clip's frames, in the order shown; each is drawn evenly from those that leave room for the rest."""
    times = sorted(video.masks)
    if not video.too_little:
        return _walk(rng, times, num_frames, max_step)[:: 1 if rng.random() < 0.5 else -1]
    ways = [way for way in (times, times[::-1]) if _starts(way, num_frames, max_step, video.too_little)]
    return _walk(rng, ways[int(rng.integers(len(ways)))], num_frames, max_step, video.too_little)


def _walk(
    rng: np.random.Generator, times: list[int], num_frames: int, max_step: int, too_little: Collection[int] = ()
) -> list[int]:
    """Times of a clip, drawn in order from rising or falling `times`."""
    followers = _followers(times, max_step)
    span = [_pick(rng, _starts(times, num_frames, max_step, too_little))]
    for remaining in range(num_frames - 2, -1, -1):
        last = span[-1]
        reached = [at for at in range(last + 1, len(times)) if abs(times[at] - times[last]) <= max_step]
        span.append(_pick(rng, [at for at in reached if followers[at] >= remaining]))
    return [times[at] for at in span]


def _pick(rng: np.random.Generator, choices: list[int]) -> int:
    return choices[int(rng.integers(len(choices)))]


def _first_clip(draw_one: Callable[[], tuple[AnnotatedVideo, TrainingClip | None]], what: str) -> TrainingClip:
    """Returns the first clip that shows an object, of at most `MAX_TRIES` drawn; raises InputError if none does."""
    for _ in range(MAX_TRIES):
        video, clip = draw_one()
        if clip is not None:
            return clip
    raise InputError(
        f"none of {MAX_TRIES} {what}; the last one is from {video.name}",
        "train on videos with larger objects, or on fewer videos without any",
    )


def _clip(
    rng: np.random.Generator,
    video: AnnotatedVideo,
    indices: list[int],
    masks: list[UInt8[np.ndarray, "_ _"]],
    views: Float[np.ndarray, "T 2 3"],
    look: ClipColourJitter,
    shape: ClipShape,
) -> TrainingClip | None:
    """A clip with some of the objects visible in the first view; None if there are none."""
    if not (chosen := _choose(rng, masks[0], views[0], shape)):
        return None
    levels = _levels_of(tuple(sample(video.frames)))
    files = {index: _read_frame(video.frames[index], levels) for index in dict.fromkeys(indices)}
    pictures = [files[index] for index in indices]
    _check_sizes(video, indices, pictures, masks)
    seen = [_warp_chosen(mask, chosen, view, shape.size) for mask, view in zip(masks, views, strict=True)]
    labels, num_objects = keep_visible(np.stack(seen), shape.max_objects)
    if not num_objects:
        return None
    return TrainingClip(render(rng, look, pictures, views, shape.size), labels, num_objects)


def _read_frame(path: Path, levels: Levels | None) -> UInt8[np.ndarray, "H W 3"]:
    """Returns a frame as 8 bits, converted by the levels of its video if it has more."""
    return read_rgb(path) if levels is None else read_image(path, levels).permute(1, 2, 0).numpy()


_levels_of = lru_cache(maxsize=4096)(levels_of_frames)  # some frames of a video, read once


def _choose(
    rng: np.random.Generator, labels: UInt8[np.ndarray, "H W"], view: Float[np.ndarray, "2 3"], shape: ClipShape
) -> list[int]:
    """Labels of the objects to follow, chosen at random from those visible through `view`."""
    seen = cv2.warpAffine(labels, view, (shape.size, shape.size), flags=cv2.INTER_NEAREST)
    kept, _ = keep_visible(seen[None], VOID - 1)
    visible = np.unique(seen[(kept[0] > 0) & (kept[0] < VOID)])
    return [int(label) for label in rng.permutation(visible)[: shape.max_objects]]


def _warp_chosen(
    labels: UInt8[np.ndarray, "H W"], chosen: list[int], view: Float[np.ndarray, "2 3"], size: int
) -> UInt8[np.ndarray, "S S"]:
    """The chosen objects, numbered from 1, and void, warped by `view`; everything else is background."""
    numbers = np.zeros(256, np.uint8)
    numbers[chosen] = np.arange(1, len(chosen) + 1)
    numbers[VOID] = VOID
    return warp_labels(cv2.LUT(labels, numbers), [*range(1, len(chosen) + 1), VOID], view, size)


def _check_sizes(
    video: AnnotatedVideo,
    indices: list[int],
    pictures: list[UInt8[np.ndarray, "_ _ 3"]],
    masks: list[UInt8[np.ndarray, "_ _"]],
) -> None:
    expected = masks[0].shape
    for index, picture, mask in zip(indices, pictures, masks, strict=True):
        if mask.shape != expected:
            raise MaskError(*_sized(video.masks[index], mask.shape, video.masks[indices[0]], expected))
        if picture.shape[:2] != expected:
            raise FrameError(*_sized(video.frames[index], picture.shape[:2], video.masks[indices[0]], expected))


def _sized(path: Path, size: tuple[int, ...], other: Path, expected: tuple[int, ...]) -> tuple[str, str]:
    """Returns problem and remedy."""
    return f"{path} has (height, width) {size} but {other} has {expected}", "export all files of a video at one size"
